"""Which weights stay: exact counts, every group of a pattern, ties, thresholds against slow references."""

from __future__ import annotations

import pytest
import torch

from niwaki.compression.pruning.patterns import erk, keep_global, keep_highest, keep_n_of_m, lamp
from niwaki.compression.pruning.schedules import cubic, even
from niwaki.compression.pruning.shares import adaptive
from niwaki.core.contract import CallError


def test_schedules_begin_at_nothing_and_end_at_the_ratio() -> None:
    for schedule in (even, cubic):
        assert schedule(0, 7) == 0.0
        assert schedule(7, 7) == 1.0
        steps = [schedule(k, 7) for k in range(8)]
        assert steps == sorted(steps)
    # Zhu & Gupta, eq. 1: s_t = s_f + (s_i − s_f)(1 − t/n)³ with s_i = 0
    assert cubic(2, 8) * 0.9 == pytest.approx(0.9 + (0.0 - 0.9) * (1 - 2 / 8) ** 3)
    assert cubic(1, 2) == 0.875  # most at first


def test_as_many_stay_as_were_asked_for_and_ties_go_to_the_first() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0], [2.0, 0.0, 2.0]])
    assert keep_highest(scores, 2).tolist() == [[False, True, True], [False, False, False]]
    assert keep_highest(torch.zeros(5), 2).tolist() == [True, True, False, False, False]
    assert int(keep_highest(torch.randn(11, 13), 40).sum()) == 40
    both = keep_global({"a": torch.ones(4), "b": torch.ones(2, 2)}, 5, {})
    assert [int(m.sum()) for m in both.values()] == [4, 1]


def test_a_global_choice_is_exact_and_leaves_every_tensor_its_floor() -> None:
    scores = {"strong": torch.arange(100.0) + 1000, "weak": torch.arange(50.0)}
    keep = keep_global(scores, 60, {"strong": 1, "weak": 10})
    assert {n: int(m.sum()) for n, m in keep.items()} == {"strong": 50, "weak": 10}
    assert bool(keep["weak"][40:].all())
    assert bool(keep["strong"][50:].all())


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (4, 8)])
@pytest.mark.parametrize(("shape", "axis"), [((6, 16), 1), ((5, 8, 3, 3), 1), ((16, 4, 2, 2), 0)])
def test_every_group_of_a_pattern_keeps_its_strongest(
    n: int, m: int, shape: tuple[int, ...], axis: int
) -> None:
    torch.manual_seed(0)
    scores = torch.rand(shape)
    keep = keep_n_of_m(scores, n, m, axis)
    rows, kept = scores.movedim(axis, -1).reshape(-1, m), keep.movedim(axis, -1).reshape(-1, m)
    for row, mask in zip(rows, kept, strict=True):  # slowly
        assert int(mask.sum()) == n
        assert set(torch.nonzero(mask).flatten().tolist()) == set(row.argsort(descending=True)[:n].tolist())
    equal = keep_n_of_m(torch.zeros(shape), n, m, axis).movedim(axis, -1).reshape(-1, m)
    assert bool((equal == (torch.arange(m) < n)).all())  # ties: the first of each group


def test_a_width_that_holds_no_whole_groups_is_refused() -> None:
    with pytest.raises(CallError, match="axis of 6 does not divide into groups of 4"):
        keep_n_of_m(torch.rand(3, 6), 2, 4, 1)


def test_lamp_is_the_share_of_all_that_is_at_least_as_strong() -> None:
    torch.manual_seed(1)
    w = torch.randn(4, 5)
    flat = w.abs().flatten().double().sort().values
    slow = {float(a): float(a**2 / sum(b**2 for b in flat[i:])) for i, a in enumerate(flat)}
    for a, score in zip(w.abs().flatten().double(), lamp(w.abs()).flatten(), strict=True):
        assert float(score) == pytest.approx(slow[float(a)], rel=1e-12)
    assert float(lamp(w.abs()).max()) == 1.0
    torch.testing.assert_close(lamp(w.abs() * 1e-3), lamp(w.abs()), rtol=1e-6, atol=0)  # no scale
    gone = lamp(w.abs().flatten().index_fill(0, torch.tensor([3]), -torch.inf))
    assert torch.isinf(gone[3])
    assert bool(torch.isfinite(torch.cat([gone[:3], gone[4:]])).all())


def test_erk_keeps_its_proportions_its_total_and_dense_what_must_be() -> None:
    shapes = {"big": (64, 64, 3, 3), "small": (8, 8, 3, 3), "linear": (100, 50)}
    share = erk(shapes, 0.1)
    sizes = {n: torch.Size(s).numel() for n, s in shapes.items()}
    assert sum(share[n] * sizes[n] for n in shapes) == pytest.approx(0.1 * sum(sizes.values()))
    assert all(0 < v <= 1 for v in share.values())
    raw = {n: sum(s) / sizes[n] for n, s in shapes.items()}
    free = [n for n in shapes if share[n] < 1]
    assert len({round(share[n] / raw[n], 9) for n in free}) == 1
    dense = erk(shapes, 0.5)
    assert dense["small"] == 1.0
    assert sum(dense[n] * sizes[n] for n in shapes) == pytest.approx(0.5 * sum(sizes.values()))


def test_adaptive_shares_take_from_layers_whose_strength_is_in_few_channels() -> None:
    peaked = torch.tensor([10.0, 9.0] + [0.1] * 14)
    even_ones = torch.ones(16)
    kept = adaptive([peaked, even_ones], 16)
    assert sum(kept) == 16
    assert kept[0] <= 3 < 13 <= kept[1]
    assert adaptive([even_ones, even_ones * 7], 16) == [8, 8]  # the scale of a layer means nothing
    # slowly: a unit stays while the stronger ones hold less than a share E of the squares
    torch.manual_seed(0)
    scores = [torch.rand(9), torch.rand(5) ** 3, torch.rand(12)]
    kept = adaptive(scores, 13)
    levels = []
    for s in scores:
        squares = sorted((float(v) ** 2 for v in s), reverse=True)
        levels.append([sum(squares[:i]) / sum(squares) for i in range(len(squares))])
    threshold = sorted(v for level in levels for v in level)[12]
    assert kept == [sum(v <= threshold for v in level) for level in levels]
