"""What a budget says, and what it cannot say."""

from __future__ import annotations

import pytest

from niwaki.compression.search.budget import Budget, cost_text
from niwaki.core.contract import CallError


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("latency=0.3ms", "latency", 0.3),
        ("latency = 300 us", "latency", 0.3),
        ("latency@16=2s", "latency@16", 2000.0),
        ("size=100kB", "size", 100e3),
        ("bytes=1MiB", "size", 2.0**20),
        ("memory=40MB", "memory", 40e6),
        ("evaluations=4", "evaluations", 4.0),
        ("steps=4", "evaluations", 4.0),
    ],
)
def test_limits_are_in_units(text: str, key: str, value: float) -> None:
    assert Budget.parse(text).resolved({}) == {key: pytest.approx(value)}


def test_relative_limits_are_parts_of_what_the_model_takes() -> None:
    budget = Budget.parse("latency=/20, size=/8, latency@16=/2")
    now = {"latency": 6.0, "size": 800.0, "latency@16": 10.0}
    assert budget.resolved(now) == {"latency": 0.3, "size": 100.0, "latency@16": 5.0}
    assert budget.batches == (1, 16)
    with pytest.raises(CallError, match="was not measured"):
        budget.resolved({"size": 1.0})


def test_a_budget_reads_itself() -> None:
    budget = Budget.parse("latency@16=/20, size=100kB, memory=40MB, evaluations=4")
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("latency", "is no limit"),
        ("latncy=3ms", "cannot limit 'latncy'.*latency"),
        ("latency=3kB", "unit of latency"),
        ("size=3ms", "unit of size"),
        ("size=0kB", "above 0"),
        ("size=/8kB", "has no unit"),
        ("size@16=8kB", "only a latency is of a batch"),
        ("evaluations=4ms", "have no unit"),
        ("size=1kB, bytes=2kB", "twice"),
    ],
)
def test_what_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(CallError, match=said):
        Budget.parse(text)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [("size", 64_100, "64.1 kB"), ("latency@16", 0.3123, "0.312 ms"), ("evaluations", 4, "4")],
)
def test_costs_are_told_as_people_write_them(key: str, value: float, text: str) -> None:
    assert cost_text(key, value) == text
