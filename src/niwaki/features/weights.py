"""Weights from outside: what is read, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from niwaki.core.contract import CallError
from niwaki.core.hub_folder import PICKLES
from niwaki.features.preprocess import Preprocess

__all__ = ["Loaded", "refuse_pickle"]


@dataclass(frozen=True)
class Loaded:
    """A pretrained network, ready to be made an extractor.

    network:    prepared images → features (n, dim)
    preprocess: what it was trained on; None where the samples go in as they are
    settings:   whatever else decides its features
    """

    network: nn.Module
    dim: int
    preprocess: Preprocess | None
    settings: dict[str, Any] = field(default_factory=dict)


def refuse_pickle(path: Path) -> None:
    """Raises CallError, with the way out, where `path` is a file of pickled weights by its name."""
    if path.suffix.lower() not in PICKLES or path.is_dir():
        return
    made = path.with_name("model" if path.name == "pytorch_model.bin" else path.stem)
    raise CallError(
        f"'{path}' holds pickled weights, and a pickle can run any program when it is read; convert it once "
        "and name what comes out: "
        'python -c "import torch; from safetensors.torch import save_file; '
        "save_file({k: v.clone().contiguous() for k, v in "
        f"torch.load('{path}', weights_only=True).items()}}, '{made}.safetensors', {{'format': 'pt'}})\""
    )
