"""What a training would do, known before it: one batch, gradients, rate and batch size, on models whose
answers are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, DataSpec, Phase, Trainable
from niwaki.data import Split
from niwaki.training import TrainConfig
from niwaki.training.checks import CHECKS, Looked, Subject
from niwaki.training.checks.few_steps import measured_phases, train_few
from niwaki.training.checks.rate import find_rate

N = 64


class Line(Trainable):
    """Least squares: ‖x w − x w*‖², whose loss and gradient are known in closed form."""

    def __init__(self, *, spare: bool = False, validate: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.gain, self.validate = gain, validate
        self.weight = nn.Parameter(torch.full((4, 1), 2.0))
        self.spare = nn.Parameter(torch.ones(2)) if spare else None

    def phases(self) -> tuple[Phase, ...]:
        names = ("weight", "spare") if self.spare is not None else ("weight",)
        return (Phase("fit", names, validate=self.validate),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> Mapping[str, Tensor]:  # type: ignore[override]
        return {"square": self.gain * (batch.x.flatten(1) @ self.weight).square().mean()}


def split() -> Split:
    x = torch.randn((N, 4), generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return Split.of(DataSpec.of("vector", (4,)), x)


def subject(make: Any = Line, **settings: Any) -> Subject:
    config = {
        "optimizer": "sgd",
        "lr": 0.1,
        "betas": (0.0, 0.999),
        "batch": 16,
        "precision": "fp32",
        **settings,
    }
    return Subject(make, split(), TrainConfig.model_validate(config))


def look(name: str, of: Subject) -> Looked:
    return CHECKS[name]().look(of)


def test_losses_are_those_of_the_steps() -> None:
    """Gradient descent on least squares by hand."""
    of = subject(batch=N, schedule="constant")
    x, w, expected = of.split.values(), torch.full((4, 1), 2.0), []
    for _ in range(7):
        expected.append(float((x @ w).square().mean()))
        w = w - 0.1 * 2.0 * x.T @ (x @ w) / N
    np.testing.assert_allclose(train_few(of, 7, schedule="constant"), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("rate", "level"), [(0.1, "note"), (0.5, "note"), (0.0, "error"), (1e3, "error"), (1e20, "error")]
)
def test_one_batch_is_learned_where_the_rate_allows(rate: float, level: str) -> None:
    found = look("overfit", subject(lr=rate))
    assert found.findings[0].level == level
    if level == "note":
        assert found.figures["after"] < 0.5 * found.figures["before"]


@pytest.mark.parametrize("check", ["overfit", "rate"])
def test_a_game_is_not_measured(check: str) -> None:
    of = subject(lambda: Line(validate=False))
    assert measured_phases(of) == ()
    found = look(check, of)
    assert (found.figures, found.findings[0].level) == ({}, "note")


@pytest.mark.parametrize(
    ("make", "level", "said"),
    [
        (Line, "note", "all 1 weight tensors get finite gradients"),
        (lambda: Line(spare=True), "warning", "1 of 2 weight tensors get no gradient"),
        (lambda: Line(gain=0.0), "error", "no weight gets a gradient"),
        (lambda: Line(gain=float("nan")), "error", "the first loss of the phase 'fit' is nan"),
        (lambda: Line(gain=float("inf")), "error", "the first loss of the phase 'fit' is inf"),
    ],
)
def test_gradients_that_are_missing_are_told(make: Any, level: str, said: str) -> None:
    finding = look("gradients", subject(make)).findings[0]
    assert finding.level == level
    assert said in finding.text
    if "1 of 2" in said:
        assert finding.items == ("spare",)


def test_the_size_of_gradients_is_theirs() -> None:
    x = split().values()
    found = look("gradients", subject(batch=N)).figures["norm"]
    expected = (2.0 * x.T @ (x @ torch.full((4, 1), 2.0)) / N).norm()
    assert found == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("at", [0.01, 0.1, 1.0, 10.0])
def test_a_rate_is_found_where_the_loss_falls(at: float) -> None:
    """A loss that falls from 1 to 0.1 around a known rate, and explodes at thirty times that."""
    factors = 1e-3 * 1e6 ** (np.arange(200) / 200)
    losses = 0.1 + 0.9 / (1.0 + (factors / at) ** 2) + np.where(factors > 30 * at, (factors / at) ** 2, 0.0)
    found = find_rate(factors, losses)
    assert found is not None
    best, edge = found
    assert at / 3 < best < 3 * at
    assert edge is not None
    assert 10 * at < edge < 60 * at
    assert find_rate(factors, np.ones(200)) is None
    assert find_rate(factors, np.full(200, np.nan)) is None


@pytest.mark.parametrize(("rate", "level"), [(0.3, "note"), (1e-4, "warning"), (30.0, "warning")])
def test_the_recipes_own_rate_is_judged(rate: float, level: str) -> None:
    """Descent on a quadratic of curvature L diverges beyond 2/L: here L is about 1.2."""
    found = look("rate", subject(lr=rate, batch=N))
    assert found.findings[0].level == level
    x = split().values()
    limit = 2.0 / float(torch.linalg.eigvalsh(2.0 * x.T @ x / N).max())
    if 100 * rate < limit:  # the largest that is tried
        assert found.figures["edge"] is None
    else:
        assert limit / 4 < rate * found.figures["edge"] < 4 * limit


def test_what_a_stage_says_of_its_own_is_tested_as_well() -> None:
    """Rates that only the stage gives are those that are multiplied; its warm-up and schedule give way."""
    plain = look("rate", subject(lr=0.3, batch=N)).figures
    own = {"name": "one", "steps": 9, "lr": 0.3, "warmup": 50, "schedule": "cosine", "keep_best": True}
    staged = look("rate", subject(lr=7.0, batch=N, stages=[own, {"name": "two", "steps": 3}])).figures
    assert staged == plain
    sizes = look("batch", subject(stages=[{"name": "one", "steps": 9, "batch": 8}])).figures["rates"]
    assert list(sizes) == [2, 4, 8, 16, 32, 64]


def test_a_batch_size_is_measured_for_games_too() -> None:
    found = look("batch", subject(lambda: Line(validate=False)))
    assert list(found.figures["rates"]) == [4, 8, 16, 32, 64]
    assert all(rate > 0 for rate in found.figures["rates"].values())
    assert found.figures["best"] in found.figures["rates"]


def test_a_check_that_there_is_not_is_named() -> None:
    with pytest.raises(CallError, match="there is no check 'gradient'; did you mean 'gradients'"):
        CHECKS["gradient"]


def test_looking_leaves_nothing_behind() -> None:
    model = Line()
    state = torch.random.get_rng_state()
    before = model.weight.detach().clone()
    of = subject(lambda: model)
    look("gradients", of)
    assert torch.equal(model.weight, before)
    assert "loss" not in vars(model)
    look("overfit", of)
    assert "loss" not in vars(model)
    assert torch.equal(torch.random.get_rng_state(), state)
