"""Pretrained networks of a few kilobytes, saved as their own library saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch


def dinov2(folder: Path, seed: int = 0, **settings: Any) -> Any:
    """A tiny DINOv2, saved by its own library."""
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    config = transformers.Dinov2Config(**{**shape, "image_size": 28, "patch_size": 14, **settings})
    return saved(transformers.Dinov2Model, config, folder, seed)


def clip(folder: Path, seed: int = 0, **settings: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(
        **{**shape, "projection_dim": 10, "image_size": 32, "patch_size": 8, **settings}
    )
    return saved(transformers.CLIPVisionModelWithProjection, config, folder, seed)


def saved(kind: Any, config: Any, folder: Path, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))  # biases and scales are not 0 and 1 either
    model.save_pretrained(folder)
    return model
