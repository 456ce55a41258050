"""Pricing ends where the whole time would not suffice, keeps what it measured, and goes on from there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from niwaki.compression.search.budget import Budget
from niwaki.compression.search.choices import Choices
from niwaki.core.contract import NiwakiError
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.searching import pricing
from niwaki.workflow.searching.clock import Clock

EXPORT = 40.0
"""Seconds of one."""


def test_where_exports_take_longer_than_the_search_it_is_said_and_a_second_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    plans = [Choices(bits={"layer": bits}, origin=f"{bits} bits") for bits in (2, 3, 4, 5, 6, 7, 8)]

    def exported(search: Any, candidate: Any, **rest: Any) -> None:
        now[0] += EXPORT

    def measured(search: Any, paths: list[Path], **rest: Any) -> list[dict[str, float]]:
        return [{"latency": 1.0, "size": 100.0} for _ in paths]

    monkeypatch.setattr(pricing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pricing, "carry_out", exported)
    monkeypatch.setattr(pricing, "_kept", lambda directory: directory)
    monkeypatch.setattr(pricing, "measure_bundles", measured)
    monkeypatch.setattr(pricing, "_plans", lambda search: plans)
    monkeypatch.setattr(pricing, "_fitted", lambda search, rows, *wants, each: rows)

    def search(seconds: float) -> Any:
        run = SimpleNamespace(reporter=Quiet())
        clock = Clock(seconds, now=lambda: now[0])
        template = SimpleNamespace(evaluations=())
        return SimpleNamespace(
            run=run, path=tmp_path, clock=clock, budget=Budget.parse("size=1kB"), template=template
        )

    with pytest.raises(NiwakiError, match=r"takes 40 s here, and 3 are needed.*--time 400s"):
        pricing.price(search(60.0), 9.0)
    assert now[0] == EXPORT  # one told that another would be too late
    with pytest.raises(NiwakiError, match="2 of which are known now"):
        pricing.price(search(60.0), 9.0)
    rows: Any = pricing.price(search(600.0), 90.0)
    assert len(rows) >= 3
    assert now[0] <= 2 * EXPORT + 4 * EXPORT


def test_a_bundle_of_several_evaluations_is_exported_once_and_timed_with_two_numbers_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, exported = [0.0], list[Choices]()
    plans = [Choices(bits={"layer": bits}, evaluations=7, origin=f"{bits} bits") for bits in (2, 3, 4)]

    def export(search: Any, candidate: Any, **rest: Any) -> None:
        now[0] += EXPORT
        exported.append(candidate.choices)

    def measured(
        search: Any, paths: list[Path], *, overrides: list[dict[str, int]], **rest: Any
    ) -> list[dict[str, float]]:
        return [{"latency": 1.0 + 2.0 * steps["steps"], "size": 100.0} for steps in overrides]

    monkeypatch.setattr(pricing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pricing, "carry_out", export)
    monkeypatch.setattr(pricing, "_kept", lambda directory: directory)
    monkeypatch.setattr(pricing, "measure_bundles", measured)
    monkeypatch.setattr(pricing, "steps_for", lambda model, evaluations: evaluations)
    monkeypatch.setattr(pricing, "_plans", lambda search: plans)
    monkeypatch.setattr(pricing, "_fitted", lambda search, rows, *wants, each: rows)
    search: Any = SimpleNamespace(
        run=SimpleNamespace(reporter=Quiet(), model=None), path=tmp_path,
        clock=Clock(1000.0, now=lambda: now[0]), budget=Budget.parse("latency=1ms"),
        template=SimpleNamespace(evaluations=(15, 7)),
    )  # fmt: skip
    rows: Any = pricing.price(search, 50.0)  # less than two exports take: two are the least
    assert [c.key for c in exported] == [c.key for c in plans[:2]]
    told = [(row["choices"]["evaluations"], row["costs"]["latency"]) for row in rows]
    assert told == [(7, 15.0), (2, 5.0)] * 2
    pricing.price(search, 50.0)  # goes on where it was: nothing is exported again
    assert [c.key for c in exported] == [c.key for c in plans]


@pytest.mark.parametrize(("slacks", "room"), [((0.1, 0.02), 0.1), ((0.66, 0.0), 0.25)])
def test_predictions_stay_away_from_a_limit_as_far_as_they_err_and_a_quarter_at_most(
    slacks: tuple[float, ...], room: float
) -> None:
    made: dict[int, Any] = {
        n: SimpleNamespace(quality=SimpleNamespace(slack=s)) for n, s in enumerate(slacks)
    }
    assert pricing.Prices(made, made[0], None, 1.0, []).room == room
