"""What `begin_stage` sets from the data is left alone where weights have grown used to it: weights of an
earlier stage, or of `init_from`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_cases import first_that_fits

from niwaki.compression.forward import example_batch
from niwaki.core.contract import GenerativeModel
from niwaki.core.store import write_tensors
from niwaki.data import Split
from niwaki.data.columns import Column
from niwaki.training import StageConfig, TrainConfig, fit

MODELS = ["nice", "glow", "tarflow", "vq-autoencoder", "vqvae", "fsq", "hierarchical-vae", "latent-diffusion"]
OF_DATA = ("log_prior",)
"""What says something of the data and not of the weights is set again."""


def watched(name: str) -> tuple[GenerativeModel, Split, list[set[str]]]:
    """A small model, samples to train it on, and a list that gets the names of what each call of
    `begin_stage` changes."""
    case = first_that_fits(name)
    model, changed = case.model(), []
    original = model.begin_stage

    def begin_stage(ctx: Any, batches: Any) -> None:
        before = {n: t.clone() for n, t in model.state_dict().items()}
        original(ctx, batches)
        after = model.state_dict()
        changed.append({n for n in after if n not in OF_DATA and not torch.equal(before[n], after[n])})

    model.begin_stage = begin_stage  # type: ignore[method-assign]
    rows = example_batch(case.spec, 64)
    return model, Split({name: Column(case.spec[name], rows[name]) for name in rows}), changed


def config(*stages: str, **changes: Any) -> TrainConfig:
    each = tuple(StageConfig(name=name, steps=2) for name in stages)
    return TrainConfig(batch=16, lr=1e-3, ema=0.0, precision="fp32", stages=each, **changes)


def stages_of(model: GenerativeModel) -> tuple[str, ...]:
    """The model's own, or two where it is trained in any."""
    return tuple(dict.fromkeys(s for p in model.phases() for s in p.stages)) or ("first", "second")


@pytest.mark.parametrize("name", MODELS)
def test_later_stages_and_weights_taken_over_keep_it(name: str, tmp_path: Path) -> None:
    model, rows, changed = watched(name)
    stages = stages_of(model)
    fit(model, rows, config(*stages), seed=0)
    assert changed[0]
    assert changed[1] == set()
    write_tensors(tmp_path / "model.safetensors", model.state_dict())

    model, rows, changed = watched(name)
    fit(model, rows, config(*stages, init_from=str(tmp_path)), seed=1)
    assert changed == [set(), set()]


def test_adapters_on_weights_taken_over_keep_it(tmp_path: Path) -> None:
    model, rows, _ = watched("glow")
    fit(model, rows, config("first"), seed=0)
    write_tensors(tmp_path / "model.safetensors", model.state_dict())
    model, rows, changed = watched("glow")
    adapters = {"name": "lora", "rank": 2}
    fit(model, rows, config("first", init_from=str(tmp_path), adapters=adapters), seed=1)
    assert changed == [set()]


def test_a_part_that_is_not_taken_over_begins_with_the_data(tmp_path: Path) -> None:
    """An encoder alone knows no codes, and layers of a flow without their histograms get new ones."""
    for name, only, begins in (("vq-autoencoder", "encoder", "codebook"), ("nice", "flow", "marginals")):
        model, rows, _ = watched(name)
        fit(model, rows, config("first"), seed=0)
        write_tensors(tmp_path / "model.safetensors", model.state_dict())
        model, rows, changed = watched(name)
        fit(model, rows, config("first", init_from=str(tmp_path), init_only=(only,)), seed=1)
        assert any(n.startswith(begins) for n in changed[0])
        assert not changed[0] & {n for n, _ in model.named_parameters() if n.startswith(only)}
