"""Schedule-free optimizers are the recursion of their paper, and what is kept is their average."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import nn
from training_toys import Adversaries, Regression

from niwaki.core.store import read_tensors
from niwaki.training import StageConfig, TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints
from niwaki.training.optimizers import build_optimizer, optimizer_class
from niwaki_runtime.errors import CallError

NAMES = ["schedule_free_adamw", "schedule_free_sgd"]
RATES = [0.1, 0.2, 0.3, 0.3, 0.3, 0.15, 0.3]


def slopes_of(count):
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, generator=rng, dtype=torch.float64) for _ in range(count)]


def by_hand(name, start, beta=0.8, second=0.9, decay=0.05, eps=1e-8):
    """Algorithm 1, with Python's powers: (y, x) after each step."""
    z, x, v, found = start, start, torch.zeros_like(start), []
    for t, (rate, slope) in enumerate(zip(RATES, slopes_of(len(RATES)), strict=True)):
        y = (1 - beta) * z + beta * x
        v = second * v + (1 - second) * slope**2
        u = slope if name == "schedule_free_sgd" else slope / ((v / (1 - second ** (t + 1))) ** 0.5 + eps)
        z = z - rate * u - rate * decay * y
        c = rate**2 / sum(r**2 for r in RATES[: t + 1])
        x = (1 - c) * x + c * z
        found.append(((1 - beta) * z + beta * x, x))
    return found


def config_of(name, **more):
    betas = {"betas": (0.8, 0.9)} if name == "schedule_free_adamw" else {"beta": 0.8}
    return optimizer_class(name)(lr=0.3, **betas, **more)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_recursion_of_the_paper(name):
    start = torch.ones(4, 3, dtype=torch.float64)
    weight = nn.Parameter(start.clone())
    optimizer = build_optimizer(config_of(name, weight_decay=0.05), {"w": weight})
    for rate, slope, (y, x) in zip(RATES, slopes_of(7), by_hand(name, start), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = slope
        optimizer.step()
        torch.testing.assert_close(weight.detach(), y, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(optimizer.state[weight]["average"], x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_package_of_its_authors(name):
    package = pytest.importorskip("schedulefree")
    theirs, ours = (nn.Parameter(torch.ones(4, 3, dtype=torch.float64)) for _ in range(2))
    if name == "schedule_free_adamw":
        reference = package.AdamWScheduleFree(
            [theirs], lr=0.3, betas=(0.8, 0.9), weight_decay=0.05, warmup_steps=3
        )
    else:
        reference = package.SGDScheduleFree([theirs], lr=0.3, momentum=0.8, weight_decay=0.05, warmup_steps=3)
    reference.train()
    optimizer = build_optimizer(config_of(name, weight_decay=0.05), {"w": ours})
    for step, slope in enumerate(slopes_of(9)):
        optimizer.param_groups[0]["lr"] = 0.3 * min((step + 1) / 3, 1)
        theirs.grad, ours.grad = slope.clone(), slope.clone()
        reference.step()
        optimizer.step()
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-9, atol=1e-9)
    reference.eval()
    torch.testing.assert_close(optimizer.state[ours]["average"], theirs.detach(), rtol=1e-9, atol=1e-9)


def test_a_rate_of_zero_moves_nothing():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = build_optimizer(optimizer_class("schedule_free_adamw")(lr=0.0), {"w": weight})
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(2, 2))


class Recorded(Regression):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__()

    def flat(self):
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ema", [0.0, 0.99])
def test_what_is_validated_kept_and_returned_is_the_average(vectors, tmp_path, name, ema):
    seen = []
    model = Recorded()
    config = TrainConfig(steps=12, batch=8, lr=0.05, optimizer=name, warmup=3, ema=ema, precision="fp32")
    assert config.schedule == "constant"

    def validate(trained, step):
        seen.append(trained.flat())
        return {"value": 0.0}

    fit(model, vectors, config, seed=0, directory=tmp_path, validate=validate)
    state = read_tensors(list_checkpoints(tmp_path / "checkpoints")[-1] / "state.safetensors")
    for key, value in model.named_parameters():
        assert torch.equal(value, state[f"optimizer/fit/{key}/average"]), key
        assert torch.equal(value, state[f"ema/{key}"]), key
        y = torch.lerp(state[f"optimizer/fit/{key}/z"], value, 0.9)
        torch.testing.assert_close(state[f"model/{key}"], y)
        assert not torch.equal(state[f"model/{key}"], value), key
    assert torch.equal(seen[-1], model.flat())


def test_it_goes_on_from_a_checkpoint_bit_for_bit_beside_another_optimizer(vectors, tmp_path):
    class Stopped(Exception):
        pass

    def stop(step, measured):
        if step == 18:
            raise Stopped

    def make():
        torch.manual_seed(0)
        return Adversaries()

    optimizers = {
        "default": {"name": "adam", "lr": 0.01},
        "generator": {"name": "schedule_free_adamw", "lr": 0.02},
    }
    config = TrainConfig(
        steps=24, batch=8, optimizers=optimizers, warmup=4, ema=0.9, checkpoint_every=6, precision="fp32"
    )
    whole, resumed = make(), make()
    fit(whole, vectors, config, seed=0)
    with suppress(Stopped):
        fit(
            make(),
            vectors,
            config,
            seed=0,
            directory=tmp_path,
            validate=lambda m, s: {"a": 0.0},
            on_validation=stop,
        )
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == "step-0000012"
    fit(resumed, vectors, config, seed=0, directory=tmp_path, resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_a_later_stage_begins_at_the_average(vectors):
    """A second stage whose rate is zero and which averages nothing stays where it began."""
    one, two = Recorded(), Recorded()
    first = {"steps": 10, "optimizer": "schedule_free_sgd", "lr": 0.1}
    fit(one, vectors, TrainConfig(batch=8, precision="fp32", ema=0, **first), seed=0)
    stages = [
        StageConfig(name="a", **first),
        StageConfig(name="b", steps=3, optimizer="sgd", lr=0.0, schedule="constant"),
    ]
    config = TrainConfig(batch=8, precision="fp32", ema=0, schedule="constant", stages=stages)
    fit(two, vectors, config, seed=0)
    assert torch.equal(one.flat(), two.flat())


def test_a_schedule_that_was_asked_for_stays():
    assert TrainConfig(optimizer="schedule_free_adamw", schedule="linear").schedule == "linear"
    config = TrainConfig(optimizers={"default": {"name": "schedule_free_sgd"}})
    assert config.schedule == "constant"
    assert TrainConfig(optimizer="adamw").schedule == "cosine"


def test_a_lookahead_around_it_is_refused():
    with pytest.raises((CallError, ValueError), match="averages by itself"):
        TrainConfig(optimizers={"default": {"name": "lookahead", "inner": "schedule_free_adamw"}})
