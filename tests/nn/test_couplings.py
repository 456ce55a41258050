"""Couplings of noise and samples: what moves, what stays, and what it costs."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

from niwaki.nn.couplings import condition_cost, coupled, pairing_cost, weight_of_conditions


def pair(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn((n, 1, 3), generator=rng), torch.randn((n, 1, 3), generator=rng) + 1.0


def order_of(found: Tensor, noise: Tensor) -> list[int]:
    """Which noise each place was given; every one must be an exact copy."""
    same = (found[:, None] == noise[None]).flatten(2).all(-1)
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1).tolist()


def total(x: Tensor, noise: Tensor) -> float:
    return float((x - noise).square().sum())


def test_the_plan_is_the_cheapest_of_all_permutations() -> None:
    noise, x = pair(6)
    best = min(total(x, noise[list(p)]) for p in permutations(range(6)))
    assert total(x, coupled(noise, x)) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("conditions", ["captions", "amounts"])
def test_a_plan_with_conditions_costs_as_little_as_any_permutation(conditions: str) -> None:
    noise, x = pair(6)
    known = conditions_of(conditions, x)
    cost = pairing_cost(x, noise)
    apart = condition_cost(known[0])
    whole = cost + weight_of_conditions(cost, apart, 0.05) * apart
    found = order_of(coupled(noise, x, known), noise)
    best = min(float(whole[range(6), list(p)].sum()) for p in permutations(range(6)))
    assert float(whole[range(6), found].sum()) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("conditions", ["none", "labels", "captions", "amounts"])
def test_each_noise_is_used_once_and_the_same_batch_gives_the_same_plan(conditions: str) -> None:
    noise, x = pair(40)
    known = conditions_of(conditions, x)
    found = coupled(noise, x, known)
    assert sorted(order_of(found, noise)) == list(range(40))
    assert torch.equal(found, coupled(noise, x, known))
    assert total(x, found) <= total(x, noise)


def conditions_of(kind: str, x: Tensor) -> list[Tensor]:
    tokens = torch.randint(0, 2, (len(x), 5), generator=torch.Generator().manual_seed(3))
    return {"none": [], "labels": [torch.arange(len(x)) % 4], "captions": [tokens], "amounts": [x[:, 0, :1]]}[
        kind
    ]


def test_labels_keep_their_own_noise() -> None:
    """C²OT of labels is optimal transport within each: the noise of a label stays a plain draw."""
    noise, x = pair(48)
    y = torch.arange(48) % 3
    found = coupled(noise, x, [y])
    assert torch.equal(y[order_of(found, noise)], y)
    for c in range(3):
        torch.testing.assert_close(found[y == c], coupled(noise[y == c], x[y == c]))


def test_samples_stay_where_they_are_in_their_batch() -> None:
    """The coupling gives back noise alone, so a label cannot lose its sample (torchcfm's issue 172); a batch
    in another order has the same pairs."""
    noise, x = pair(30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(coupled(noise, x[order]), coupled(noise, x)[order])


def test_conditions_that_are_amounts_are_traded_off_by_the_share_of_candidates() -> None:
    noise, x = pair(200)
    c = x[:, 0, :1].contiguous()
    cost, apart = pairing_cost(x, noise), condition_cost(c)
    moved = []
    for share in (0.01, 0.05, 0.2):
        w = weight_of_conditions(cost, apart, share)
        found = (cost + w * apart <= cost.diagonal()[:, None]).double().mean()
        assert float(found) == pytest.approx(share, abs=2e-3)
        at = order_of(coupled(noise, x, [c], share), noise)
        moved.append(float((c[at] - c).square().mean()))
    assert moved[0] < moved[1] < moved[2] < 0.5 * float(torch.cdist(c, c).square().mean())


def test_the_weight_has_ends() -> None:
    noise, x = pair(20)
    cost = pairing_cost(x, noise)
    same, other = torch.zeros(20, 20), 1.0 - torch.eye(20)
    assert weight_of_conditions(cost, other, 0.9) == 0.0  # plain transport has no more candidates
    assert weight_of_conditions(cost, same, 0.1) == 1e8  # equal conditions: there is nothing to trade off


def test_tokens_count_by_the_places_that_differ() -> None:
    c = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5], [9, 9, 9, 4]])
    expected = torch.tensor([[0.0, 0.25, 0.75], [0.25, 0.0, 1.0], [0.75, 1.0, 0.0]], dtype=torch.float64)
    assert torch.equal(condition_cost(c), expected)
