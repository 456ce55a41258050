"""The encoder that a model has, trained without labels before the model itself."""

from __future__ import annotations

import pytest
import torch

from niwaki.core.contract import DataSpec
from niwaki.data import DataConfig, Split, load
from niwaki.models import build
from niwaki.nn.contrastive import nt_xent
from niwaki.training import StageConfig, TrainConfig, fit
from niwaki_runtime.errors import CallError

SMALL = {"latent": 8, "width": 8, "hidden": 32}


def fresh(spec, name="vae", **settings):
    torch.manual_seed(0)
    return build(name, {**SMALL, **settings}, spec)


def two(steps: int, then: int, **more) -> TrainConfig:
    stages = (
        StageConfig(name="views", steps=steps, pretrain="simclr", lr=3e-3, schedule="constant"),
        StageConfig(name="model", steps=then, **more),
    )
    return TrainConfig(stages=stages, batch=32, ema=0.0, precision="fp32", log_every=1, checkpoint_every=0)


def test_weights_of_the_encoder_arrive_and_nothing_else_moves():
    split = load(DataConfig(source="digits")).train
    model, before = fresh(split.spec), dict(fresh(split.spec).named_parameters())
    seen: list[float] = []
    fit(
        model, split, two(25, 1, lr=0.0), seed=0,
        progress=lambda step, total, last: seen.append(last.get("elbo/nt_xent", 0.0)),
    )  # fmt: skip
    assert seen[23] < 0.9 * seen[0]
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("encoder.") for name in moved)
    rows = split.values()[:64]
    y = split.y[:64]
    near = []
    for one in (fresh(split.spec).eval(), model.eval()):
        with torch.no_grad():
            sides = [one.posterior(side, y)[0] for side in (rows, rows.roll(1, 3))]
        near.append(float(nt_xent(*sides, 0.2)))
    assert near[1] < near[0]


def test_it_resumes_to_the_bit(tmp_path):
    split = Split.of(DataSpec.of("image", (1, 8, 8)), torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8))
    config = two(4, 4, lr=1e-3).model_copy(update={"checkpoint_every": 3})
    whole, half = fresh(split.spec), fresh(split.spec)
    fit(whole, split, config, seed=0, validation=split)

    def leave(step, measured):
        if step == 3:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fit(half, split, config, seed=0, directory=tmp_path, validation=split, on_validation=leave)
    half = fresh(split.spec)
    fit(half, split, config, seed=0, directory=tmp_path, validation=split, resume=True)
    assert all(torch.equal(value, half.state_dict()[name]) for name, value in whole.state_dict().items())


def test_what_has_no_encoder_and_what_would_end_there_is_refused():
    spec = DataSpec.of("image", (1, 8, 8))
    split = Split.of(spec, torch.zeros(64, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(CallError, match="is a setting of a stage"):
        fit(fresh(spec), split, TrainConfig(steps=1, batch=8, pretrain="simclr"), seed=0)
    with pytest.raises(CallError, match="this one has none"):
        fit(build("dcgan", {}, spec), split, two(1, 1), seed=0)
    wrong = TrainConfig(
        stages=(StageConfig(name="a", steps=1, pretrain="simcrl"), StageConfig(name="b", steps=1))
    )
    with pytest.raises(CallError, match="no 'simcrl'; did you mean 'simclr'"):
        fit(fresh(spec), split, wrong.model_copy(update={"batch": 8}), seed=0)
