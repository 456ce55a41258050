"""Samplers of tokens that are led: by conditions, by encoded ones, and by prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Autoregressive, Masked, Noise, NumpyBackend, Sampler, sampler_from_json

SIZE, LENGTH = 5, 4
TABLE = np.random.default_rng(0).normal(size=(SIZE + 1, SIZE)).astype(np.float32)
"""Logits by what is asked, or by what stands before; the question 3 favours 4, not enough to win alone."""
TABLE[3] = TABLE[0]
TABLE[3, 4] = TABLE[0].max() - 0.5


class Toy:
    """Logits of a table, of the label and of the token before; the rows that it was called with."""

    state = ()

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, token: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, ...]:
        self.rows.append(len(token))
        asked = rest[-1].astype(np.int64)
        logits = TABLE[asked] + 0.1 * TABLE[token % SIZE] if token.ndim == 1 else TABLE[asked][:, None]
        return (np.broadcast_to(logits, (len(token), *token.shape[1:], SIZE)),)


class Encoder:
    calls = 0

    def __call__(self, label: np.ndarray) -> np.ndarray:
        self.calls += 1
        return label.astype(np.float32)


class Reader:
    """Logits of a table by the token before."""

    state = ()

    def __call__(self, token: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, ...]:
        return (TABLE[token],)


LED: dict[str, Any] = {"conditions": ("label",), "null": {"label": 0}}
KINDS: dict[str, Sampler] = {
    "autoregressive": Autoregressive(LENGTH, graph="g", temperature=0.0, **LED),
    "masked": Masked(LENGTH, SIZE - 1, 2, "g", temperature=0.0, **LED),
}


def made(sampler: Sampler, label: int = 3, **changes: Any) -> tuple[np.ndarray, Toy, Encoder]:
    toy, encoder = Toy(), Encoder()
    given = {"label": np.full(2, label)}
    noise = Noise(NumpyBackend(), 0, 0, 2)
    return sampler.override(**changes)({"g": toy, "e": encoder}, noise, given), toy, encoder


@pytest.mark.parametrize("sampler", KINDS.values(), ids=KINDS)
def test_one_is_the_question_and_zero_is_none_and_more_leads_beyond(sampler: Sampler) -> None:
    assert np.array_equal(made(sampler, guidance=0.0)[0], made(sampler, 0)[0])
    alone, toy, _ = made(sampler)
    assert set(toy.rows) == {2}
    far, toy, _ = made(sampler, guidance=5.0)
    assert set(toy.rows) == {4}  # both questions in one call
    assert not np.array_equal(far, alone)
    if isinstance(sampler, Masked):
        assert (far == (TABLE[0] + 5.0 * (TABLE[3] - TABLE[0])).argmax()).all()


@pytest.mark.parametrize("sampler", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 1), (2.0, 2)])
def test_conditions_are_encoded_once_for_each_question(sampler: Sampler, guidance: float, calls: int) -> None:
    plain, *_ = made(sampler, guidance=guidance)
    found, _, encoder = made(sampler, guidance=guidance, encoders={"label": "e"})
    assert np.array_equal(found, plain)
    assert encoder.calls == calls
    assert sampler.override(encoders={"label": "e"}).graphs_used() == ("e", "g")


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("prompt", [[[1, 2], [3, -1]], [[2, 2], [4, 1]]])
def test_a_prompt_that_is_a_question_is_blank_where_nothing_is_asked(prompt: Any, alone: bool) -> None:
    """The network sees the token before alone, so that only what follows the prompt at once is led."""
    sampler = Autoregressive(
        LENGTH, first=SIZE, graph="g", prompt="p", null={"p": 0}, temperature=0.0, guidance=3.0, alone=alone
    )
    tokens = np.array(prompt)
    found = sampler({"g": Reader()}, Noise(NumpyBackend(), 0, 0, 2), {"p": tokens})
    for row, given in zip(found, tokens, strict=True):
        known = [t for t in given if t >= 0]
        want = list(known)
        while len(want) < LENGTH:
            before, free = want[-1], 0 if len(want) == len(known) else want[-1]
            want.append(int((TABLE[free] + 3.0 * (TABLE[before] - TABLE[free])).argmax()))
        assert row.tolist() == want


@pytest.mark.parametrize("keep", [0, 1, 3, LENGTH])
def test_the_last_tokens_are_what_is_made(keep: int) -> None:
    sampler = Autoregressive(LENGTH, first=SIZE, graph="g")
    noise = Noise(NumpyBackend(), 0, 0, 3)
    whole, kept = (s({"g": Reader()}, noise, {}) for s in (sampler, sampler.override(keep=keep)))
    assert np.array_equal(kept, whole[:, LENGTH - keep :] if keep else whole)


@pytest.mark.parametrize("sampler", KINDS.values(), ids=KINDS)
def test_older_runtimes_read_what_they_know(sampler: Sampler) -> None:
    later = {"guidance", "null", "encoders", "keep"}
    assert not later & type(sampler)().to_json().keys()
    changed = sampler.override(guidance=2.0, encoders={"label": "e"})
    assert sampler_from_json(changed.to_json()) == changed


@pytest.mark.parametrize(
    ("kind", "wrong", "text"),
    [
        ("autoregressive", {"guidance": 2.0, "null": {}}, "null value"),
        ("masked", {"guidance": 2.0, "null": {}}, "null value"),
        ("autoregressive", {"guidance": 2.0, "beams": 3}, "beams are not led"),
        ("autoregressive", {"keep": LENGTH + 1}, "are kept, not 5"),
    ],
)
def test_what_cannot_be_led_or_kept_is_refused(kind: str, wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(CallError, match=text):
        KINDS[kind].override(**wrong)
