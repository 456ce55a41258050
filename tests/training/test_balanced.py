"""Every class is drawn equally often, and which sample follows from the position alone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from training_toys import Regression

from niwaki.core.contract import DataSpec
from niwaki.data import Split
from niwaki.training import TrainConfig, fit
from niwaki.training.balanced import BalancedFeeder
from niwaki_runtime.errors import CallError

COUNTS = (40, 7, 3)


@pytest.fixture
def skewed():
    y = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    spec = DataSpec.of("vector", (4,), classes=4)  # one of them has no sample
    return Split.of(spec, torch.randn((len(y), 4), generator=torch.Generator().manual_seed(0)), y)


def stream(feeder, batches):
    return torch.cat([feeder.index(k) for k in range(batches)])


def test_of_three_classes_each_stands_once_in_every_three_positions(skewed):
    drawn = skewed.y[stream(BalancedFeeder(skewed, 5, "class", seed=1), 12)]
    assert all(sorted(block) == [0, 1, 2] for block in drawn.reshape(-1, 3).tolist())
    assert len({tuple(block) for block in drawn.reshape(-1, 3).tolist()}) > 1


def test_a_samples_turn_comes_again_when_all_of_its_class_have_had_theirs(skewed):
    rows = stream(BalancedFeeder(skewed, 6, "class", seed=1), 3 * 40 * 2 // 6)
    seen = Counter(rows.tolist())
    for label, count in enumerate(COUNTS):
        times = [seen[int(row)] for row in (skewed.y == label).nonzero()]
        assert sum(times) == 80
        assert max(times) - min(times) <= 1, f"{count} samples"


def test_batches_are_pure_functions_and_processes_share_one(skewed):
    whole = BalancedFeeder(skewed, 6, "class", seed=1)
    later = BalancedFeeder(skewed, 6, "class", seed=1, offset=12)
    assert torch.equal(whole.index(5), BalancedFeeder(skewed, 6, "class", seed=1).index(5))
    assert torch.equal(later.index(0), whole.index(2))
    ranks = [BalancedFeeder(skewed, 2, "class", seed=1, rank=r, world=3) for r in range(3)]
    assert torch.equal(torch.cat([r.index(4) for r in ranks]), whole.index(4))
    assert not torch.equal(whole.index(0), BalancedFeeder(skewed, 6, "class", seed=2).index(0))


def test_a_training_draws_so_and_its_validation_does_not(skewed):
    seen: list[torch.Tensor] = []

    class Noting(Regression):
        def loss(self, phase, batch, ctx):
            if self.training:
                seen.append(batch["class"])
            return super().loss(phase, batch, ctx)

    fit(Noting(), skewed, TrainConfig(steps=4, batch=6, balance="class"), seed=0, validation=skewed)
    assert torch.cat(seen).bincount().tolist() == [8, 8, 8]


def test_what_cannot_be_balanced_is_refused(skewed):
    with pytest.raises(CallError, match="'clas' is no column of labels; did you mean 'class'"):
        BalancedFeeder(skewed, 4, "clas", seed=0)
    with pytest.raises(CallError, match="'balance' and 'curriculum'"):
        TrainConfig(balance="class", curriculum={"by": "novelty"})


def test_attributes_and_their_meetings_are_balanced_too():
    rng = torch.Generator().manual_seed(0)
    y, font = (torch.rand(400, generator=rng) < 0.1).long(), (torch.rand(400, generator=rng) < 0.2).long()
    spec = DataSpec.of("image", (1, 2, 2), levels=4, classes=2)
    split = Split.of(spec, torch.zeros(400, 1, 2, 2, dtype=torch.uint8), y, {"font": font})
    for by, cells in (("font", font), ("class+font", 2 * y + font)):
        feeder = BalancedFeeder(split, 40, by, seed=0)
        counts = torch.bincount(cells[torch.cat([feeder.index(k) for k in range(4)])])
        assert counts.min() == counts.max() == 160 // len(cells.unique())
