"""Gradients that are skipped: one spike is, and no training is skipped for ever (vdvae #25)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from training_toys import Regression

from niwaki.core.contract import Batch, Context
from niwaki.core.store import read_jsonl
from niwaki.data import Feeder, Split
from niwaki.training import NotFinite, TrainConfig, fit
from niwaki.training.outliers import IN_A_ROW, Outliers, norm_of


class Spiked(Regression):
    """Its loss is multiplied at some steps."""

    def __init__(self, spikes: dict[int, float]) -> None:
        super().__init__()
        self.spikes = spikes

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {k: t * self.spikes.get(ctx.step, 1.0) for k, t in super().loss(phase, batch, ctx).items()}


def trained(spikes: dict[int, float], vectors: Split, directory=None, steps: int = 60, **changes) -> Spiked:
    torch.manual_seed(0)
    model = Spiked(spikes)
    config = TrainConfig(
        steps=steps, batch=8, ema=0.0, optimizer="sgd", schedule="constant", precision="fp32",
        log_every=10, checkpoint_every=0, **{"skip": 10.0, "lr": 0.02, **changes},
    )  # fmt: skip
    fit(model, vectors, config, seed=1, directory=directory)
    return model


@pytest.mark.parametrize("spike", [1e6, math.inf, math.nan])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_planted_spike_is_skipped_and_training_goes_on(spike, clip, vectors, tmp_path) -> None:
    model = trained({30: spike}, vectors, tmp_path, clip=clip)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    skipped = {line["step"]: line["fit/skipped"] for line in lines}
    assert skipped == {10: 0, 20: 0, 30: 0, 40: pytest.approx(0.1), 50: 0, 60: 0}
    assert lines[-1]["fit/square"] < lines[0]["fit/square"]


def test_without_the_rule_the_spike_spoils_all(vectors) -> None:
    with pytest.raises(NotFinite):
        trained({30: math.inf}, vectors, skip=0.0)


def test_gradients_that_stay_large_are_followed_again(vectors, tmp_path) -> None:
    """A hundred times as large from step 30 on: a fixed threshold would skip all that follow."""
    trained(dict.fromkeys(range(30, 90), 100.0), vectors, tmp_path, steps=90, lr=1e-4)
    shares = [line["fit/skipped"] for line in read_jsonl(tmp_path / "metrics.jsonl")]
    assert shares[3] > 0.5
    assert shares[-1] == 0.0


def test_a_loss_that_stays_broken_ends_the_training(vectors) -> None:
    with pytest.raises(NotFinite):
        trained(dict.fromkeys(range(30, 60), math.nan), vectors)


def test_the_first_norms_are_followed_whatever_they_are() -> None:
    outliers = Outliers()
    assert not any(outliers.skips("a", 10.0**i, 2.0) for i in range(12))
    assert outliers.skips("a", math.nan, 2.0)


def test_phases_have_norms_of_their_own() -> None:
    outliers = Outliers()
    for _ in range(30):
        assert not outliers.skips("small", 1.0, 5.0)
        assert not outliers.skips("large", 100.0, 5.0)
    assert outliers.skips("small", 100.0, 5.0)
    assert not outliers.skips("large", 100.0, 5.0)


@pytest.mark.parametrize("norm", [1e3, 1e9, math.inf])
def test_at_most_ten_are_skipped_in_a_row(norm: float) -> None:
    outliers = Outliers()
    for _ in range(30):
        outliers.skips("a", 1.0, 3.0)
    decisions = [outliers.skips("a", norm, 3.0) for _ in range(5 * IN_A_ROW)]
    runs = "".join("s" if d else "f" for d in decisions).split("f")
    assert max(map(len, runs)) == IN_A_ROW


def test_a_resumed_training_skips_what_an_uninterrupted_one_does(vectors, tmp_path) -> None:
    class Crash(Exception):
        pass

    class Failing:
        feeder, at = Feeder(vectors, 8, seed=1), 33

        def batch(self, k: int) -> Batch:
            if k == self.at:
                raise Crash
            return self.feeder.batch(k)

    def run(where: str, **changes) -> Spiked:
        torch.manual_seed(0)
        model = Spiked({25: 40.0, 36: 40.0})
        config = TrainConfig(
            steps=50, batch=8, lr=0.02, skip=5.0, log_every=10, checkpoint_every=10, precision="fp32"
        )
        fit(model, vectors, config, seed=1, directory=tmp_path / where, **changes)
        return model

    whole, failing = run("whole", batches=Feeder(vectors, 8, seed=1)), Failing()
    with pytest.raises(Crash):
        run("cut", batches=failing)
    failing.at = -1
    again = run("cut", batches=failing, resume=True)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())
    logs = [
        [r.get("fit/skipped") for r in read_jsonl(tmp_path / d / "metrics.jsonl")] for d in ("whole", "cut")
    ]
    assert logs[0] == logs[1]
    assert sum(x or 0.0 for x in logs[0]) == pytest.approx(0.2)


def test_norms_come_back_with_a_checkpoint() -> None:
    outliers = Outliers()
    for i in range(25):
        outliers.skips("a", 1.0 + i % 3, 3.0)
    again = Outliers.from_json(outliers.to_json())
    assert again == outliers
    assert [again.skips("a", x, 3.0) for x in (2.0, 50.0)] == [
        outliers.skips("a", x, 3.0) for x in (2.0, 50.0)
    ]


def test_the_norm_is_that_of_all_gradients_together() -> None:
    parts = [torch.randn(3, 2), None, torch.randn(4)]
    flat = torch.cat([p.flatten() for p in parts if p is not None])
    torch.testing.assert_close(norm_of(parts), flat.norm())
