"""The memory of n-grams holds what counting by hand finds, and in training nothing of the passage that is
read."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.nn.layers.ngram_counts import NEAR, WAYS, Hashing, count
from niwaki.nn.layers.ngram_memory import MemoryConfig, NgramMemory, Own

TOKENS, LENGTH = 5, 24


def windows(n: int = 40, seed: int = 0) -> Tensor:
    return torch.randint(TOKENS, (n, LENGTH), generator=torch.Generator().manual_seed(seed))


def memory(x: Tensor, slots: int = 2**17, successors: int = TOKENS) -> NgramMemory:
    made = NgramMemory(MemoryConfig(orders=(1, 2, 4), slots=slots, successors=successors), TOKENS, 8)
    made.remember(x)
    return made


def read(x: Tensor) -> Tensor:
    """The tokens that are read before each of `x`."""
    return F.pad(x[:, :-1], (1, 0), value=TOKENS)


def by_hand(x: Tensor, order: int) -> dict[tuple[int, ...], Counter[int]]:
    found: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for row in x.tolist():
        for i in range(order, len(row)):
            found[tuple(row[i - order : i])][row[i]] += 1
    return found


def test_every_context_has_the_counts_that_are_found_by_hand() -> None:
    x = windows()
    held = memory(x)
    slots = held.slots(held.contexts(read(x)))
    for k, order in enumerate(held.config.orders):
        known = by_hand(x, order)
        for n, i in np.ndindex(*x.shape):
            slot = int(slots[n, i, k])
            if i < order:
                assert slot == len(held.marks) - 1  # a context does not reach before the first token
                continue
            expected = known[tuple(x[n, i - order : i].tolist())]
            if sum(expected.values()) > 255:
                continue
            row, amounts = held.successors[slot].tolist(), held.counts[slot].tolist()
            got = {name: c for name, c in zip(row, amounts, strict=False) if name >= 0}
            assert got == dict(expected)
            assert amounts[TOKENS:] == [sum(expected.values()), len(expected)]


def test_frequent_contexts_are_scaled_and_nothing_seen_is_forgotten() -> None:
    x = torch.zeros(30, LENGTH, dtype=torch.long)
    x[3, 7] = 1
    held = memory(x)
    slot = int(held.slots(held.contexts(read(x)))[5, 5, 0])
    assert held.successors[slot, :2].tolist() == [0, 1]
    assert held.counts[slot, :2].tolist() == [255, 1]


def test_of_contexts_without_room_the_rarest_go() -> None:
    x = windows(200)
    hashing = Hashing.of((3,), 8, TOKENS)
    table = count(x.numpy(), hashing, TOKENS, TOKENS)
    totals = defaultdict(list)
    for context, following in by_hand(x, 3).items():
        place = hashing.places(np.array([context[::-1]]))[0, 0, 0]
        totals[int(place)].append(sum(following.values()))
    kept = sum(sum(sorted(found)[-WAYS:]) for found in totals.values())
    assert table.kept == pytest.approx(kept / sum(map(sum, totals.values())))
    assert 0.3 < table.kept < 0.9


def test_training_sees_nothing_that_only_the_passage_itself_holds() -> None:
    x = windows(120, seed=3)
    held = memory(x)
    slot = held.slots(held.contexts(read(x)))
    names = held.successors[slot].long()
    amounts = held.counts[slot].float()
    often, total, kinds = amounts[..., :TOKENS], amounts[..., TOKENS], amounts[..., TOKENS + 1]
    left, _, fewer = held._without(Own(x, torch.arange(len(x))), slot, names, often, total, kinds)
    order, k = 4, 2
    where: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for n, row in enumerate(x.tolist()):
        for i in range(order, LENGTH):
            where[tuple(row[i - order : i + 1])].add(n)
    checked = Counter()
    for n, i in np.ndindex(*x.shape):
        if i < order:
            continue
        for j in range(TOKENS):
            if names[n, i, k, j] < 0:
                continue
            seen = where[(*x[n, i - order : i].tolist(), int(names[n, i, k, j]))]
            if all(abs(w - n) <= NEAR for w in seen):
                assert left[n, i, k, j] == 0
                checked["near"] += 1
            elif max(seen) - min(seen) > 2 * NEAR:
                assert left[n, i, k, j] > 0
                checked["far"] += 1
    assert min(checked.values()) > 100
    assert torch.equal(fewer[..., k], (left[..., k, :] > 0).sum(-1).float())


def test_fresh_weights_leave_the_logits_alone_and_trained_ones_favour_what_followed() -> None:
    x = windows()
    held = memory(x)
    logits, stream = torch.randn(len(x), LENGTH, TOKENS), torch.randn(len(x), LENGTH, 8)
    context = held.contexts(read(x))
    torch.testing.assert_close(held(logits, stream, context), logits)
    with torch.no_grad():
        held.weigh.bias.view(-1, 3)[:, 0] = 1.0  # as much for each order that has seen the token
    added = (held(logits, stream, context) - logits).gather(-1, x.unsqueeze(-1)).squeeze(-1)
    possible = torch.tensor([sum(i >= order for order in held.config.orders) for i in range(LENGTH)])
    torch.testing.assert_close(added, possible.float().expand_as(added), atol=1e-5, rtol=0)


def test_orders_ascend() -> None:
    for orders in ((), (2, 1), (1, 1), (0, 2)):
        with pytest.raises(CallError, match="orders must be positive and ascend"):
            MemoryConfig(orders=orders)
