"""From logits to tokens, against a reference written token by token."""

from __future__ import annotations

import math

import numpy as np
import pytest

from niwaki_runtime.samplers import tokens

RNG = np.random.default_rng(0)


def kept(logits: list[float], temperature: float, top_k: int, top_p: float) -> dict[int, float]:
    """Probabilities of the tokens that survive, slowly: Holtzman et al. 2020."""
    z = [x / temperature for x in logits]
    ids = sorted(range(len(z)), key=lambda i: (-z[i], i))
    if 0 < top_k < len(z):
        ids = [i for i in ids if z[i] >= z[ids[top_k - 1]]]
    total = sum(math.exp(z[i]) for i in ids)
    chosen, mass = [], 0.0
    for i in ids:
        if chosen and mass >= top_p:
            break
        chosen.append(i)
        mass += math.exp(z[i]) / total
    total = sum(math.exp(z[i]) for i in chosen)
    return {i: math.exp(z[i]) / total for i in chosen}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 3, 9, 50])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
def test_filter(temperature: float, top_k: int, top_p: float) -> None:
    logits = RNG.standard_normal((40, 9)).round(3)
    z = tokens.filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    for row, filtered in zip(logits, z, strict=True):
        expected = kept(row.tolist(), temperature, top_k, top_p)
        p = tokens.softmax(filtered[None])[0]
        assert {int(i) for i in np.flatnonzero(np.isfinite(filtered))} == set(expected)
        np.testing.assert_allclose(p, [expected.get(i, 0.0) for i in range(9)], atol=1e-12)


def test_ties_at_the_cut_are_all_kept() -> None:
    z = tokens.filter_logits(np.array([[1.0, 3.0, 2.0, 2.0, 0.0]]), top_k=2)
    assert np.isfinite(z).tolist() == [[False, True, True, True, False]]


def test_the_likeliest_survives_any_top_p() -> None:
    z = tokens.filter_logits(np.array([[0.0, 1.0]]), top_p=1e-30)
    assert np.isfinite(z).tolist() == [[False, True]]


def test_frequencies_follow_the_probabilities() -> None:
    logits = np.array([0.3, -1.0, 2.0, 0.0, 1.0])
    n = 20_000
    u = (np.arange(n) + 0.5) / n  # every quantile once: the counts are then exact to one
    counts = np.bincount(tokens.choose(np.tile(logits, (n, 1)), u), minlength=5)
    assert np.abs(counts - n * tokens.softmax(logits[None])[0]).max() <= 1.0


@pytest.mark.parametrize("u", [1e-300, 1e-10, 0.5, 1 - 2**-33])
def test_what_is_cut_off_is_never_chosen(u: float) -> None:
    logits = np.array([[0.0, 5.0, 0.0, 5.0, 0.0]])
    assert tokens.choose(logits, np.array([u]), top_k=2)[0] in (1, 3)


def test_inverse_cdf_is_monotone_in_u() -> None:
    logits = RNG.standard_normal((1, 30))
    picked = tokens.choose(np.tile(logits, (500, 1)), np.linspace(1e-6, 1 - 1e-6, 500))
    assert np.all(np.diff(picked) >= 0)


def test_temperature_zero_is_greedy() -> None:
    logits = RNG.standard_normal((20, 7)).astype(np.float32)
    np.testing.assert_array_equal(tokens.choose(logits, np.full(20, 0.99), temperature=0.0), logits.argmax(1))


def test_huge_logits_do_not_overflow() -> None:
    picked = tokens.choose(np.array([[1e4, -1e4, 9.9e3]]), np.array([0.999]))
    assert picked.tolist() == [0]
