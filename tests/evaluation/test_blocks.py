"""Damage block by block: the verdict's statistics, of all blocks together and of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from niwaki.compression.search.rejection import pseudo_values
from niwaki.data import DataConfig, load
from niwaki.data.columns import seen
from niwaki.evaluation.equivalence.blocks import BlockDamage
from niwaki.evaluation.equivalence.calibration import calibrated
from niwaki.evaluation.equivalence.compare import compare
from niwaki.evaluation.equivalence.margins import K, real_size
from niwaki.evaluation.pairwise.neighbourhood import neighbourhoods, rarefied_coverage
from niwaki.evaluation.statistics.samples import split_features
from niwaki.features import build

N, BLOCK = 500, 100


@pytest.fixture(scope="module")
def world() -> Any:
    dataset = load(DataConfig(source="digits"))
    extractors = build(["random"], dataset, seed=0)
    rng = np.random.default_rng(0)
    real = seen(dataset.spec.x, dataset.train.x).numpy()[:N]
    before = (real + 0.1 * rng.normal(size=real.shape)).clip(-1, 1).astype(np.float32)
    after = (before + 0.3 * rng.normal(size=real.shape)).clip(-1, 1).astype(np.float32)
    after[::4] = after[0]  # and some modes are gone
    return dataset, extractors, before, after, calibrated(before, dataset, extractors, seed=0)


def test_all_blocks_together_are_the_verdicts_statistics(world: Any) -> None:
    dataset, extractors, before, after, calibration = world
    whole = compare(before, after, dataset, extractors, seed=0, calibration=calibration)
    damage = BlockDamage(before, dataset, extractors, calibration, seed=0)
    enough = []
    for k in range(0, N, BLOCK):
        damage.add(after[k : k + BLOCK])
        enough.append(damage.enough)
    assert enough == [False, False, False, True, True]  # coverage is told of 250 real samples
    fidelity, diversity = damage.values()
    assert len(fidelity) == len(diversity) == N // BLOCK
    margins = {axis: m.value for axis, m in calibration.margins.items()}
    assert fidelity.mean() * margins["fidelity"] == pytest.approx(whole.fidelity.delta, rel=1e-6)
    # a statistic that is no mean: its jackknife estimate is near it
    assert diversity.mean() * margins["diversity"] == pytest.approx(whole.diversity.delta, rel=0.3)


def test_pseudo_values_are_those_of_the_statistic_without_a_block(world: Any) -> None:
    dataset, extractors, before, after, calibration = world
    damage = BlockDamage(before, dataset, extractors, calibration, seed=0)
    for k in range(0, N, BLOCK):
        damage.add(after[k : k + BLOCK])
    size = real_size(len(dataset.test), N)
    chosen = np.sort(np.random.default_rng([0, 0x7061]).permutation(len(dataset.test))[:size])
    real = split_features(extractors[0], dataset, "test")[chosen]
    first, second = neighbourhoods(real, [extractors[0](before), extractors[0](after)], K)

    def lost(blocks: Any) -> float:
        rows = np.concatenate([np.arange(k, k + BLOCK) for k in blocks])
        sides = [rarefied_coverage(p.part(rows).counts(), len(rows), size).mean() for p in (first, second)]
        return float(sides[0] - sides[1])

    slow = pseudo_values(lost, range(0, N, BLOCK)) / calibration.margins["diversity"].value
    assert damage.values()[1] == pytest.approx(slow, abs=1e-6)
