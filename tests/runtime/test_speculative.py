"""Speculative decoding: exactly the target's distribution, and the greedy text token for token."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runtime.random_texts import RandomTexts, Remembering, pieces_tokenizer

from niwaki_runtime import speculative
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Autoregressive, NumpyBackend, OneShot
from niwaki_runtime.samplers.prompts import Layout
from niwaki_runtime.samplers.speculation import Counts, Side, speculate
from niwaki_runtime.samplers.steer import Steer
from niwaki_runtime.samplers.tokens import softmax
from niwaki_runtime.tokenizer import Tokenizer

PIECES = ["a", "b", "ab", "c"]
SIZE = 4


class Every:
    """All that chance may do, one after another, each with its probability: what is asked beyond the choices
    given is answered first by the first possible one."""

    def __init__(self, chosen: list[int]) -> None:
        self.chosen, self.asked, self.weight = chosen, list[tuple[int, ...]](), 1.0

    def _one(self, p: np.ndarray) -> int:
        possible = tuple(int(i) for i in np.flatnonzero(p > 0))
        place = len(self.asked)
        self.asked.append(possible)
        got = self.chosen[place] if place < len(self.chosen) else possible[0]
        self.weight *= float(p[got])
        return got

    def token(self, p: np.ndarray, at: int) -> int:
        return self._one(p)

    def instead(self, p: np.ndarray, at: int) -> int:
        return self._one(p)

    def kept(self, chance: float, at: int) -> bool:
        return bool(self._one(np.array([1 - min(chance, 1.0), min(chance, 1.0)])))


def distribution(make: Callable[[Every], tuple[int, ...]]) -> dict[tuple[int, ...], float]:
    """What `make` gives, and how often: by going through all choices, depth first."""
    found: dict[tuple[int, ...], float] = {}
    chosen: list[int] = []
    while True:
        draws = Every(chosen)
        row = make(draws)
        found[row] = found.get(row, 0.0) + draws.weight
        path = [*chosen, *(possible[0] for possible in draws.asked[len(chosen) :])]
        while path and path[-1] == draws.asked[len(path) - 1][-1]:
            path.pop()
        if not path:
            return found
        possible = draws.asked[len(path) - 1]
        chosen = [*path[:-1], possible[possible.index(path[-1]) + 1]]


def side(seed: int, spread: float, length: int, **changes: Any) -> Side:
    graphs = {"decode": Remembering(SIZE, seed, 0, spread), "read": Remembering(SIZE, seed, 3, spread)}
    sampler = Autoregressive(length, first=SIZE, prefill="read", stride=3, **changes)
    return Side(sampler, graphs, (), NumpyBackend(), "target")


def speculated(guesses: int, length: int, counts: Counts, **changes: Any) -> dict[tuple[int, ...], float]:
    def make(draws: Every) -> tuple[int, ...]:
        layout = Layout(np.array([[SIZE] + [-1] * length]), np.array([0]), np.array([True]), length)
        target, draft = side(1, 1.0, length, **changes), side(2, 2.0, length, **changes)
        used = speculate(target, draft, layout, 0, draws, guesses, None)  # type: ignore[arg-type]
        counts.tested += int(used.tested > 0)
        return tuple(layout.samples()[0].tolist())

    return distribution(make)


def plain(length: int, **changes: Any) -> dict[tuple[int, ...], float]:
    """The target alone, in closed form."""
    target = side(1, 1.0, length, **changes)
    graph, found = Remembering(SIZE, 1, 0, 1.0), dict[tuple[int, ...], float]()
    for row in itertools.product(range(SIZE), repeat=length):
        p, stop = 1.0, changes.get("stop", -1)
        for at, token in enumerate(row):
            if at and row[at - 1] == stop:
                p *= token == stop
                continue
            history = [SIZE, *row[:at]]
            p *= target.probabilities(graph.logits(history), history, Steer(), None, length - at)[token]
        if p > 0:
            found[row] = float(p)
    return found


@pytest.mark.parametrize("guesses", [1, 2, 3])
@pytest.mark.parametrize(
    "changes",
    [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.7}, {"min_p": 0.4}, {"penalty": 2.0}, {"stop": 2},
     {"bias": ((1, 3.0),)}],
    ids=str,
)  # fmt: skip
def test_the_distribution_is_the_targets_own(guesses: int, changes: dict[str, Any]) -> None:
    """Over every way that chance can take: the probabilities of all texts."""
    counts = Counts()
    found, wanted = speculated(guesses, 3, counts, **changes), plain(3, **changes)
    assert found.keys() == wanted.keys()
    assert max(abs(found[row] - wanted[row]) for row in wanted) < 1e-12
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)
    assert counts.tested  # it did guess


def test_a_guess_is_kept_as_often_as_the_distributions_overlap() -> None:
    """Leviathan et al., Theorem 3.5: the chance that the first guess is kept is Σ min(p, q)."""
    p, q = (softmax(Remembering(SIZE, s, 0, w).logits([SIZE])[None])[0] for s, w in ((1, 1.0), (2, 2.0)))
    kept = 0.0

    def make(draws: Every) -> tuple[int, ...]:
        nonlocal kept
        layout = Layout(np.array([[SIZE, -1, -1]]), np.array([0]), np.array([True]), 2)
        used = speculate(side(1, 1.0, 2), side(2, 2.0, 2), layout, 0, draws, 1, None)  # type: ignore[arg-type]
        kept += draws.weight * used.accepted
        return ()

    distribution(make)
    assert kept == pytest.approx(float(np.minimum(p, q).sum()), abs=1e-9)


def models(size: int = len(PIECES), length: int = 24, **sampler: Any) -> tuple[RandomTexts, RandomTexts]:
    text = pieces_tokenizer(PIECES, ["<end>"])
    target, draft = (RandomTexts(text, size, length, seed=s, **sampler) for s in (0, 1))
    noisy = target.graph.logits  # a draft that is the target with some noise of its own
    for graph in (draft.graph, draft.read):
        own = graph.logits
        graph.logits = lambda h, own=own: 0.8 * noisy(h) + 0.4 * own(h)  # type: ignore[method-assign,misc]
    return target, draft


@pytest.mark.parametrize("guesses", [1, 2, 3, 7, 40])
@pytest.mark.parametrize(
    "options", [{}, {"penalty": 1.5}, {"stop": 1}, {"stop": ["ca"]}, {"regex": "(a|b|c)*cc"}]
)
def test_greedy_texts_are_the_targets_token_for_token(guesses: int, options: dict[str, Any]) -> None:
    target, draft = models()
    prompt = np.array([[1, 2, 3] + [-1] * 20, [-1] * 23, [0, 3, 0, 3, 1, 1, 2] + [-1] * 16])
    asked = {"program": "continue", "inputs": {"prompt": prompt}, "temperature": 0.0}
    made = speculative.sample(target, draft, 3, guesses=guesses, **asked, **options)
    plain = target.run("continue", 3, inputs={"prompt": prompt}, temperature=0.0, **options)
    np.testing.assert_array_equal(made.x, plain)
    assert made.counts.reads <= made.counts.made
    assert 0 < made.rate <= 1


def test_the_target_as_its_own_draft_is_never_refused() -> None:
    target, _ = models()
    made = speculative.sample(target, target, 5, guesses=4, seed=3)
    assert made.rate == 1.0
    assert made.counts.accepted == made.counts.guessed
    assert made.tokens_per_read > 4.5
    np.testing.assert_array_equal(made.x, target.sample(5, seed=3))  # the same numbers choose its guesses


def test_a_sample_is_the_same_at_every_n() -> None:
    target, draft = models()
    together = speculative.sample(target, draft, 6, seed=2)
    np.testing.assert_array_equal(speculative.sample(target, draft, 2, seed=2, start=3).x, together.x[3:5])
    assert len(set(map(tuple, together.x.tolist()))) == 6


def test_steered_texts_are_whole() -> None:
    target, draft = models(stop=4, size=5)
    tokenizer = Tokenizer(target.files["tokenizer.json"])
    for row in speculative.sample(target, draft, 12, regex="(ab|c){2,9}a").x:
        assert re.fullmatch("(ab|c){2,9}a", tokenizer.decode(row))
    for row in speculative.sample(target, draft, 12, stop=["cb", "aa"]).x:
        assert not re.search("cb|aa", tokenizer.decode(row))


def test_two_that_do_not_fit_are_refused() -> None:
    target, draft = models()
    other = RandomTexts(pieces_tokenizer(["x"]), 1, 24)
    shorter, ended = models(length=9)[1], models(stop=2)[1]
    larger = RandomTexts(target.files["tokenizer.json"], 5, 24)
    for pair, named in (
        ((target, other), "another tokenizer"), ((target, shorter), "reads 9 tokens"),
        ((target, ended), "other tokens"), ((target, larger), "begins its texts in another way"),
    ):  # fmt: skip
        with pytest.raises(CallError, match=named):
            speculative.sample(*pair, program="continue", inputs={"prompt": [1] + [-1] * 22})
    with pytest.raises(CallError, match="cannot take a guess back"):
        speculative.sample(*models_without_reading())
    with pytest.raises(CallError, match="guesses at least 1"):
        speculative.sample(target, draft, guesses=0)
    with pytest.raises(CallError, match="search for texts"):
        speculative.sample(target, draft, beams=2)
    shot = OneShot((1,))
    target._programs["shot"] = target.program("sample").__class__(shot, {}, target.program("sample").output)
    with pytest.raises(CallError, match="no token after token"):
        speculative.sample(target, draft, program="shot")


def models_without_reading() -> tuple[RandomTexts, RandomTexts]:
    target, draft = models()
    for one in (target, draft):
        program = one.program("sample")
        one._programs["sample"] = program.__class__(
            program.sampler.override(prefill=""), program.inputs, program.output
        )
    return target, draft
