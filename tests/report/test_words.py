"""Figures as people read them."""

from __future__ import annotations

import math

import pytest

from niwaki.report.words import (
    METRICS,
    bytes_text,
    change_text,
    count_text,
    interval_text,
    metric_words,
    ms_text,
    number_text,
    seconds_text,
    sentence_list,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.2345, "1.23"),
        (99.96, "100"),
        (123.4, "123"),
        (1234567, "1\u202f234\u202f567"),
        (0.00123456, "0.00123"),
        (-0.5, "−0.500"),
        (1.5e-7, "1.50e-07"),
        (None, "not measured"),
        (math.nan, "not measured"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (812, "812 B"), (999, "999 B"), (1000, "1.00 kB"), (64_100, "64.1 kB"), (999_999, "1.00 MB"),
     (3_204_000, "3.20 MB"), (2.5e9, "2.50 GB"), (None, "not measured")],
)  # fmt: skip
def test_bytes(n: float | None, text: str) -> None:
    assert bytes_text(n) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(0.0942, "0.094 ms"), (0.5, "0.500 ms"), (12.34, "12.3 ms"), (1200, "1.20 s")]
)
def test_milliseconds(ms: float, text: str) -> None:
    assert ms_text(ms) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (44.2, "44.2 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")]
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_changes_name_their_direction() -> None:
    assert change_text(100, 10, "smaller", "larger") == "10.0× smaller"
    assert change_text(10, 100, "smaller", "larger") == "10.0× larger"
    assert change_text(100, 100.2, "faster", "slower") == "unchanged"
    assert change_text(None, 1, "faster", "slower") == change_text(1, None, "faster", "slower") == ""


def test_intervals_share_their_decimals() -> None:
    assert interval_text(0.03, 0.16) == "0.030 … 0.160"
    assert interval_text(-1.5, 0.25) == "−1.50 … 0.25"
    assert interval_text(0, 0) == "0.00 … 0.00"


def test_counts_and_lists() -> None:
    assert count_text(2316033) == "2\u202f316\u202f033"
    assert [sentence_list(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_metrics_are_found_by_the_words_in_their_names() -> None:
    assert metric_words("closeness") == METRICS["log_realism"]  # as older records have it
    assert metric_words("reach") == METRICS["rarefied_coverage"]
    assert metric_words("frechet_distance") == METRICS["frechet"]
    assert metric_words("clipped_density").title == "Density (clipped)"
    assert metric_words("clipped_density").axis == "fidelity"
    assert metric_words("close").axis == "memory"
    assert metric_words("something_new").title == "Something new"
    assert metric_words("something_new").axis == ""
