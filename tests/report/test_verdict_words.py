"""A verdict's words equal its test: what its interval says, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from niwaki.report.verdict_words import (
    badge_text,
    lead_text,
    loss_text,
    meaning_text,
    standing,
    statistic_name,
    tone_of,
    value_texts,
)


def verdict(outcome: str, low: float, high: float, margin: float = 0.1, **more: Any) -> dict[str, Any]:
    delta = (low + high) / 2
    return {
        "outcome": outcome, "delta": delta, "interval": [low, high], "margin": margin, "before": 0.735,
        "after": 0.735 - delta, "statistic": "rarefied coverage: share of real samples", "n": 1000, **more,
    }  # fmt: skip


CASES = {
    "gain": verdict("no loss", -0.05, -0.01),
    "within": verdict("no loss", -0.01, 0.05),
    "small": verdict("no loss", 0.02, 0.06),
    "same": verdict("no loss", 0.0, 0.0, margin=0.0),
    "loss": verdict("loss", 0.12, 0.2),
    "open": verdict("inconclusive", 0.05, 0.2, n_needed=3400),
}


@pytest.mark.parametrize("found", CASES)
def test_where_the_interval_lies_decides_the_words(found: str) -> None:
    assert standing(CASES[found]) == found


@pytest.mark.parametrize(
    ("found", "tone", "badge"),
    [
        ("gain", "good", "no loss, a gain"),
        ("within", "good", "no loss beyond 0.10"),
        ("small", "good", "a small loss, inside the margin"),
        ("same", "good", "no loss, nothing changed"),
        ("loss", "bad", "loss"),
        ("open", "open", "inconclusive"),
    ],
)
def test_a_badge_says_what_was_shown(found: str, tone: str, badge: str) -> None:
    assert (tone_of(CASES[found]), badge_text(CASES[found])) == (tone, badge)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ("gain", "It lost no diversity, which rose by 0.010 at least."),
        ("within", "Of diversity it lost less than 0.050 (margin 0.10)."),
        ("small", "Of diversity it lost less than 0.060 (margin 0.10): a small loss, inside the margin."),
        ("same", "It lost no diversity: every sample is the same."),
        ("loss", "It lost diversity: more than 0.12 (margin 0.10)."),
        ("open", "Whether it lost diversity is undecided; about 3\u202f400 samples would tell."),
    ],
)
def test_the_first_sentence_names_the_bound_and_the_margin(found: str, text: str) -> None:
    assert lead_text("diversity", CASES[found]) == text


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ("no loss", "It lost no fidelity beyond the margin."),
        ("loss", "It lost fidelity."),
        ("inconclusive", "Whether it lost fidelity is undecided."),
    ],
)
def test_a_verdict_without_figures_claims_no_more_than_its_outcome(outcome: str, text: str) -> None:
    bare = {"outcome": outcome}
    assert lead_text("fidelity", bare) == text
    assert loss_text(bare) == ""
    assert value_texts(bare) == ("not measured", "not measured")


def test_the_headline_shows_what_was_tested_with_its_interval() -> None:
    assert statistic_name(CASES["small"]) == "rarefied coverage"
    assert value_texts(CASES["small"]) == ("0.735", "0.695")
    interval = "(95 % interval of the loss 0.0200 … 0.0600), margin 0.100"
    assert loss_text(CASES["small"]) == f"rarefied coverage fell by 0.0400 {interval}"
    interval = "(95 % interval of the loss −0.0500 … −0.0100)"
    assert loss_text(CASES["gain"]).startswith(f"rarefied coverage rose by 0.0300 {interval}")
    assert loss_text(CASES["same"]).endswith("margin none")


@pytest.mark.parametrize(
    ("low", "high", "margin", "noise", "words"),
    [
        (0.05, 0.2, 0.1, 0.0, "reaches across the margin"),
        (0.1, 0.2, 0.1, 0.0, "reaches across the margin"),
        (0.01, 0.05, 0.1, 0.0, "lies wholly below the margin"),
        (0.15, 0.25, 0.1, 0.0, "lies wholly above the margin"),
        (0.01, 0.05, 0.1, 0.06, "No margin could be fixed"),
        (0.01, 0.05, 0.0, 0.0, "No margin could be fixed"),
    ],
)
def test_an_open_verdict_reaches_across_only_where_it_does(
    low: float, high: float, margin: float, noise: float, words: str
) -> None:
    meaning = meaning_text(verdict("inconclusive", low, high, margin, margin_noise=noise))
    assert words in meaning
    assert ("reaches across" in meaning) == (words == "reaches across the margin")
    assert meaning.endswith("That is neither a pass nor a failure.")


@pytest.mark.parametrize("found", ["gain", "within", "small", "same", "loss"])
def test_a_decided_verdict_never_speaks_of_reaching_across(found: str) -> None:
    assert "across" not in meaning_text(CASES[found])
    assert ("something was lost" in meaning_text(CASES[found])) == (found == "small")


@pytest.mark.parametrize("found", CASES)
def test_what_was_tested_in_unfit_features_is_a_hint(found: str) -> None:
    unfit = {**CASES[found], "unfit": ["random"]}
    assert tone_of(unfit) == "open"
    assert badge_text(unfit) == f"a hint: {badge_text(CASES[found])}"
    hint = "This is a hint only: its features are unfit for these data."
    assert lead_text("fidelity", unfit) == f"{lead_text('fidelity', CASES[found])} {hint}"
    assert meaning_text(unfit).startswith(meaning_text(CASES[found]))
    assert meaning_text(unfit).endswith("it is a hint and no finding.")
    assert badge_text({**CASES[found], "unfit": []}) == badge_text(CASES[found])
