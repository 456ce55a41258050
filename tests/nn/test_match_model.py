"""The match model finds what followed the last tokens earlier in a sequence, as loops do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from niwaki.core.contract import DataSpec
from niwaki.models.registry import build
from niwaki.nn.layers.match_model import MatchModel

TOKENS, WIDTH, LONGEST = 4, 8, 5


def stirred(longest: int = LONGEST) -> MatchModel:
    torch.manual_seed(1)
    made = MatchModel(longest, TOKENS, WIDTH)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.5)
    return made


def scene(n: int = 3, length: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, stream, and tokens of which the first is the one before all others."""
    rng = torch.Generator().manual_seed(0)
    row = torch.randint(TOKENS, (n, length), generator=rng)
    row[:, 0] = TOKENS
    shape = (n, length)
    return (
        torch.randn((*shape, TOKENS), generator=rng),
        torch.randn((*shape, WIDTH), generator=rng),
        row,
    )


def by_hand(model: MatchModel, stream: Tensor, row: Tensor) -> Tensor:
    """The bonus `(n, T, tokens)` by loops."""
    n, length = row.shape
    found = torch.zeros(n, length, TOKENS)
    for i in range(n):
        tokens = row[i].tolist()
        for t in range(length):
            sums, best = [0.0] * TOKENS, 0
            for s in range(t):
                run = 0
                while run < model.longest and s - run >= 0 and tokens[s - run] == tokens[t - run]:
                    run += 1
                best = max(best, run)
                weight = sum(math.exp(float(g)) for g in model.gain[:run])
                sums[tokens[s + 1]] += weight / (t - s) ** float(model.recency)
            told = model.told(torch.tensor([float(best > k) for k in range(model.longest)]))
            share = float(model.ask(model.norm(stream[i, t])) + told)
            found[i, t] = torch.tensor([share * math.log1p(v) for v in sums])
    return found


@torch.no_grad()
def test_the_bonus_is_that_of_loops_over_all_earlier_places() -> None:
    model = stirred()
    logits, stream, row = scene()
    expected = logits + by_hand(model, stream, row)
    places = torch.arange(row.shape[1])
    torch.testing.assert_close(model(logits, stream, row, places), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.read(logits, stream, row), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("longest", [1, 2, 8])
def test_training_reads_with_the_gradients_of_the_graph(longest: int) -> None:
    model = stirred(longest)
    logits, stream, row = scene()
    for value in (logits, stream):
        value.requires_grad_()
    wanted = [logits, stream, *model.parameters()]
    places = torch.arange(row.shape[1])
    ways = model(logits, stream, row, places), model.read(logits, stream, row)
    dense, sparse = (torch.autograd.grad(z.square().sum(), wanted) for z in ways)
    for a, b in zip(dense, sparse, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_stands_behind_a_place_does_not_count() -> None:
    model = stirred()
    logits, stream, row = scene()
    whole = model.read(logits, stream, row)
    for at in (0, 7, 19):
        behind = row.clone()
        behind[:, at + 1 :] = torch.randint(TOKENS, behind[:, at + 1 :].shape)
        part = model(logits[:, at : at + 1], stream[:, at : at + 1], behind, torch.tensor([at]))
        torch.testing.assert_close(part[:, 0], whole[:, at], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_fresh_weights_leave_the_logits_alone() -> None:
    logits, stream, row = scene()
    model = MatchModel(LONGEST, TOKENS, WIDTH)
    assert torch.equal(model(logits, stream, row, torch.arange(row.shape[1])), logits)


@pytest.mark.parametrize("memory", [{}, {"memory": {"orders": [1, 2], "slots": 64}}])
@pytest.mark.parametrize("name", ["transformer", "state-space", "lstm", "gru", "moe-transformer"])
@torch.no_grad()
def test_cached_and_whole_sequences_agree(name: str, memory: dict[str, object]) -> None:
    torch.manual_seed(0)
    spec = DataSpec.of("text", (24,), levels=6)
    model = build(name, {"width": 16, "depth": 2, "matches": 4, **memory}, spec).eval()
    for weight in model.matches.parameters():
        weight.normal_()
    x = torch.randint(3, (2, 24))
    fed = torch.cat([torch.full((2, 1), 6), x[:, :-1]], 1)
    decode = model.graphs()["decode"]
    held = [torch.zeros(2, *state.shape[1:]) for state in decode.state]
    for i in range(24):
        logits, *news = decode(fed[:, i], torch.tensor([i]), *held)
        for k, new in enumerate(news):
            axis = next((a for a in range(new.ndim) if new.shape[a] != held[k].shape[a]), None)
            held[k] = new if axis is None else held[k].index_copy(axis, torch.tensor([i]), new)
        torch.testing.assert_close(logits, model.logits(x)[:, i], rtol=1e-4, atol=1e-4)
