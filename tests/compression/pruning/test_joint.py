"""Single weights pruned while the network computes with rounded ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from compression import small_models

import niwaki_runtime
from niwaki.compression import CompressConfig, compress
from niwaki.core.contract import CallError
from niwaki.data import Split
from niwaki.models import load_model
from niwaki.models.registry import build
from niwaki.surgery.quantized import quantized_layers


def _data() -> Any:
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(128, *small_models.IMAGE.shape, generator=rng) * 2 - 1
    y = torch.arange(128) % small_models.IMAGE.classes
    return SimpleNamespace(train=Split.of(small_models.IMAGE, x, y), fingerprint="test")


DATA = _data()


@pytest.mark.slow
@pytest.mark.parametrize("importance", ["magnitude", "movement"])
def test_pruning_and_rounding_in_one_training(importance: str, tmp_path: Path) -> None:
    """What trains between the rounds is the network that rounds; zeros stay zeros on the device."""
    model = build("dcgan", {"latent": 8, "width": 8, "max_width": 16}, small_models.IMAGE).eval()
    prune = {"kind": "prune", "what": "weights", "ratio": 0.75, "importance": importance}
    prune |= {"rounds": 2, "recover": 3} if importance == "magnitude" else {"train": 5}
    tune = {"kind": "finetune", "steps": 4, "batch": 32, "task_loss_weight": 0.0}
    plan = {"steps": [{"kind": "quantize", "bits": 4}, prune, tune], "measure": False}
    made = compress(model, DATA, CompressConfig.model_validate(plan), workdir=tmp_path, seed=0)
    layers = quantized_layers(made.model)
    assert layers
    assert made.records[-1].quantized["generator"]["quantized"] == len(layers)
    for layer in layers.values():
        held_, rounded = layer._parameters["weight"], layer.weight
        assert held_ is not None
        assert int((held_ == 0).sum()) == round(0.75 * held_.numel())
        assert (rounded[held_ == 0] == 0).all()
        assert len(torch.unique(rounded[0])) <= 16
    assert torch.equal(load_model(tmp_path).sample(3, seed=0), made.model.sample(3, seed=0))
    made_there = niwaki_runtime.load(made.bundle, precision="exact").sample(3, seed=0)
    spread = float(made_there.std())
    assert np.abs(made_there - made.model.sample(3, seed=0).numpy()).mean() < 0.02 * spread


@pytest.mark.parametrize(
    ("backend", "settings", "match"),
    [
        ("nncf", {"what": "weights"}, "integers in the exported graph"),
        ("niwaki", {"what": "channels"}, "put it before"),
        ("niwaki", {"what": "weights", "method": "l0", "train": 5}, "learns gates"),
    ],
)
def test_what_cannot_be_pruned_after_quantize(backend: str, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(CallError, match=match):
        CompressConfig.model_validate(
            {"steps": [{"kind": "quantize", "backend": backend}, {"kind": "prune", **settings}]}
        )
