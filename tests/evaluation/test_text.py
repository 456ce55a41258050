"""The verdict on models of text: exact costs of exact damage, and how often it is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from evaluation.text_scenes import LENGTH, LEVELS, SHARE, damaged, rates, taken, windows

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.evaluation.equivalence.margins import Margin
from niwaki.evaluation.equivalence.paired import log_realism_change
from niwaki.evaluation.equivalence.text import (
    DRAWS,
    bits,
    compare_text,
    mean_change,
    rarefied_coverage_of_text,
)
from niwaki.evaluation.equivalence.text_margins import frequencies, mixed, text_margins, vocabularies, without
from niwaki.evaluation.metrics.ngrams import distinct_n, repetition
from niwaki.evaluation.pairwise.neighbourhood import Neighbourhood

MARGINS = {"fidelity": Margin(0.05), "diversity": Margin(0.04)}


@pytest.fixture(scope="module")
def text() -> tuple[np.ndarray, np.ndarray]:
    return windows(60, np.random.default_rng(0))


def test_bits_of_a_uniform_model_are_those_of_a_code_of_fixed_length() -> None:
    log_p = np.full((3, 7), -np.log(256.0))
    np.testing.assert_allclose(bits(log_p), 8.0)
    np.testing.assert_allclose(bits(log_p, bytes_per_token=4.0), 2.0)


def test_rarefied_coverage_is_how_often_the_token_is_among_the_drawn() -> None:
    rng = np.random.default_rng(0)
    p = np.array([[0.0, 0.004, 0.05, 0.5, 1.0]])
    with np.errstate(divide="ignore"):
        found = np.array([rarefied_coverage_of_text(np.log(p[:, i : i + 1]))[0] for i in range(5)])
    drawn = (rng.random((200_000, DRAWS, 1)) < p).any(1).mean(0)
    np.testing.assert_allclose(found, drawn, atol=0.004)
    assert found[0] == 0.0
    assert found[-1] == 1.0


def test_a_change_is_that_of_log_realism_on_the_same_numbers() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 50))
    swaps = rng.integers(0, 2, (99, 50)).astype(bool)
    claims = np.zeros((50, 1), int)
    places = [tuple(Neighbourhood(c, claims, c, 1) for c in (first, second))]
    assert mean_change(first, second, swaps) == log_realism_change(places, swaps)  # type: ignore[arg-type]


def test_planted_damage_is_a_distribution_again(text: tuple[np.ndarray, np.ndarray]) -> None:
    _, log_p = text
    every = np.broadcast_to(np.arange(LEVELS), (1, LENGTH, LEVELS))
    one = log_p[:1]
    noisy = mixed(one, SHARE[every])
    np.testing.assert_allclose(np.exp(noisy).sum(-1), 1.0)
    part = vocabularies(SHARE, np.random.default_rng(0), 1)[0]
    left = np.stack([without(one, np.full((1, LENGTH), t), part) for t in range(LEVELS)], -1)
    np.testing.assert_allclose(np.exp(left).sum(-1), 1.0)
    assert (np.exp(left)[..., part] == 0).all()


@pytest.mark.parametrize("sharp", [1.0, 1.3, 1.6, 2.0, 3.0])
def test_a_model_too_sure_of_itself_has_a_margin(text: tuple[np.ndarray, np.ndarray], sharp: float) -> None:
    """A few tokens at random gain it something: 5 % more than are best for it cost as ever."""
    tokens, log_p = text
    sure = sharp * log_p
    sure -= np.logaddexp.reduce(sure, axis=-1, keepdims=True)
    own, share = taken(sure, tokens), SHARE[tokens]
    amounts = np.linspace(0, 0.5, 2001)
    gained = [mixed(own, share, a).mean() for a in amounts]
    best = amounts[int(np.argmax(gained))]
    assert (best > 0.01) == (sharp > 1)
    expected = max(gained) - mixed(own, share, best + 0.05 * (1 - best)).mean()
    found = text_margins([(tokens, sure)], SHARE, n=60)["fidelity"].value
    assert found == pytest.approx(expected / np.log(2), rel=0.01)
    assert found > 0.001


def test_parts_of_the_vocabulary_hold_five_percent() -> None:
    parts = vocabularies(SHARE, np.random.default_rng(3))
    held = parts @ SHARE
    assert len(parts) > 50
    assert (held > 0.044).all()
    assert (held < 0.056).all()
    assert len(np.unique(parts, axis=0)) > 40
    assert vocabularies(np.array([0.6, 0.4]), np.random.default_rng(0)).shape == (0, 2)


def test_margins_are_what_the_damage_costs(text: tuple[np.ndarray, np.ndarray]) -> None:
    tokens, log_p = text
    found = text_margins([(tokens[:30], log_p[:30]), (tokens[30:], log_p[30:])], SHARE, n=60)
    own = taken(log_p, tokens)
    q = 0.95 * np.exp(own) + 0.05 * SHARE[tokens]
    assert found["fidelity"].value == pytest.approx(float((-np.log2(q) + own / np.log(2)).mean()))
    assert found["fidelity"].value < -np.log2(0.95)
    # One part after the other, by the slow way.
    parts = vocabularies(SHARE, np.random.default_rng([0, 0x766F]))
    lost = [
        0.05
        / SHARE[p].sum()
        * (rarefied_coverage_of_text(own) - rarefied_coverage_of_text(without(log_p, tokens, p))).mean()
        for p in parts
    ]
    assert 0.5 * np.mean(lost) < found["diversity"].value <= np.mean(lost)
    halved = text_margins([text], SHARE, n=60, bytes_per_token=2.0)
    assert halved["fidelity"].value == pytest.approx(found["fidelity"].value / 2)
    assert halved["diversity"].value == pytest.approx(found["diversity"].value)


def test_a_model_that_knows_only_frequencies_has_no_margin_of_fidelity() -> None:
    rng = np.random.default_rng(5)
    tokens = rng.choice(LEVELS, (60, LENGTH), p=SHARE)
    log_p = np.broadcast_to(np.log(SHARE), (60, LENGTH, LEVELS))
    margins = text_margins([(tokens, log_p)], SHARE, n=60)
    before = taken(log_p, tokens)
    found = compare_text(before, before + 0.01 * rng.random(before.shape) - 0.01, margins)
    assert found.fidelity.outcome == "inconclusive"
    assert "no better than its frequencies" in found.fidelity.text


def test_no_sets_no_margin_of_diversity() -> None:
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 2, (30, 8))
    margins = text_margins([(tokens, np.full((30, 8, 2), np.log(0.5)))], np.array([0.5, 0.5]), n=30)
    assert margins["diversity"] == Margin(0.0)


def test_noise_costs_fidelity_and_lost_words_cost_diversity() -> None:
    noisy = damaged("random", 0.3, 200, 0)
    assert noisy.fidelity.outcome == "loss"
    assert noisy.diversity.outcome != "loss"
    poorer = damaged("words", 0.3, 200, 0)
    assert poorer.diversity.outcome == "loss"
    assert poorer.fidelity.outcome == "loss"  # text with words that are never said has no finite code
    unhurt = damaged("random", 0.0, 200, 0)
    assert unhurt.fidelity.outcome == unhurt.diversity.outcome == "no loss"


def test_a_lower_temperature_loses_diversity() -> None:
    rng = np.random.default_rng(2)
    margins = text_margins([windows(200, rng)], SHARE, n=200)
    tokens, log_p = windows(200, rng)
    cold = 2.0 * log_p - np.log(np.exp(2.0 * log_p).sum(-1, keepdims=True))
    found = compare_text(taken(log_p, tokens), taken(cold, tokens), margins)
    assert found.diversity.outcome == "loss"


def test_the_same_model_loses_nothing_and_says_so(text: tuple[np.ndarray, np.ndarray]) -> None:
    own = taken(text[1], text[0])
    found = compare_text(own, own.copy(), {"fidelity": Margin(0.0), "diversity": Margin(0.0)})
    assert found.fidelity.outcome == found.diversity.outcome == "no loss"
    assert found.bits_per_byte["before"] == found.bits_per_byte["after"]
    json.dumps(jsonable(found), allow_nan=False)


def test_sentences_speak_of_text(text: tuple[np.ndarray, np.ndarray]) -> None:
    own = taken(text[1], text[0])
    found = compare_text(own, own - 0.001, MARGINS, bytes_per_token=1.0)
    rise = 0.001 / np.log(2)
    assert found.fidelity.delta == pytest.approx(rise)
    assert "the test text took more bits per byte, by 0.00144" in found.fidelity.text
    assert found.n == 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:10], "at least 20 windows"),
        (lambda x: x[:, :5], "the same windows"),
        (lambda x: x * np.nan, "finite"),
        (lambda x: -x, "at most 0"),
    ],
)
def test_what_is_no_text_is_refused(text: tuple[np.ndarray, np.ndarray], change, message) -> None:  # type: ignore[no-untyped-def]
    own = taken(text[1], text[0])
    with pytest.raises(CallError, match=message):
        compare_text(own, change(own), MARGINS)


def test_frequencies_add_one() -> None:
    np.testing.assert_allclose(frequencies(np.array([[0, 0], [2, 0]]), 3), [4 / 7, 1 / 7, 2 / 7])


def test_distinct_and_repeated_grams_are_counted() -> None:
    tokens = np.array([[1, 2, 1, 2, 1], [1, 2, 3, 4, 5]])
    found = distinct_n(tokens, n=2)
    assert found.value == pytest.approx(5 / 8)  # 12 21 23 34 45
    again = repetition(tokens, n=2)
    np.testing.assert_allclose(again.per_sample, [0.5, 0.0])
    assert again.value == 0.25
    # The jackknife, by leaving out for real.
    rng = np.random.default_rng(0)
    many = rng.integers(0, 9, (12, 10))
    each = [distinct_n(np.delete(many, i, 0)).value for i in range(12)]
    error = np.sqrt(11 / 12 * ((each - np.mean(each)) ** 2).sum())
    low, high = distinct_n(many).interval or (0, 0)
    assert (high - low) / 2 == pytest.approx(1.959964 * error, rel=1e-5)
    for bad in (tokens[:1], tokens[:, :1], tokens.astype(float)):
        with pytest.raises(CallError, match="n-grams"):
            distinct_n(bad)


@pytest.mark.parametrize("kind", ["random", "words"])
def test_wrong_verdicts_are_rare(kind: str) -> None:
    at_margin = rates(kind, 0.05, 20, n=120)
    assert at_margin["no loss"] <= 0.2
    assert at_margin["loss"] <= 0.2
    assert rates(kind, 0.0, 10, n=120)["no loss"] >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "words"])
def test_error_rates_and_power(kind: str) -> None:
    at_margin = rates(kind, 0.05, 400)
    print(kind, "at the margin", at_margin)
    assert at_margin["no loss"] <= 0.05
    for amount in (0.0, 0.025, 0.075, 0.1, 0.15):
        print(kind, f"damage {amount:.1%}, margin 5 %", rates(kind, amount, 100))
