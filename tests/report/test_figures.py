"""Charts: what they show, and that they take their colours from the page."""

from __future__ import annotations

import re

import numpy as np

from niwaki.report.figures import PAINT, curves, histogram, points, training_charts


def test_every_logged_quantity_is_drawn_once() -> None:
    log = [
        {
            "step": s, "stage": "main", "seconds": s / 9, "d/adversarial": 1.0 + s, "d/r1": 0.1,
            "g/adversarial": 2.0, "d/gradient_norm": 3.0, "g/gradient_norm": 1.0, "lr/g": 1e-4, "plain": 5.0,
        }
        for s in range(1, 9)
    ]  # fmt: skip
    charts = {c.title: c.legend for c in training_charts(log)}
    assert charts == {
        "d": ("adversarial", "r1"),
        "g": ("adversarial",),
        "training": ("plain",),
        "gradient norm": ("d", "g"),
        "learning rate": ("g",),
    }


def test_a_phase_with_many_terms_is_drawn_in_several_charts() -> None:
    log = [{"step": s, **{f"p/t{i}": float(i) for i in range(6)}} for s in range(3)]
    assert [c.legend for c in training_charts(log)] == [("t0", "t1", "t2", "t3"), ("t4", "t5")]


def test_missing_values_leave_a_gap_and_no_error() -> None:
    log = [{"step": 1, "a/x": 1.0}, {"step": 2, "a/x": None}, {"stage": "odd"}, {"step": 3, "a/x": 2.0}]
    (chart,) = training_charts(log)  # type: ignore[arg-type]
    assert chart.legend == ("x",)
    assert training_charts([]) == []


def test_colours_are_the_pages() -> None:
    for chart in (
        curves("a", {"x": ([1, 2], [1.0, 2.0]), "y": ([1, 2], [3.0, 1.0])}),
        histogram("b", np.arange(50.0), "unit"),
        points("c", {"before": np.eye(3), "after": np.ones((2, 3))}),
    ):
        assert not any(placeholder in chart.svg for placeholder in PAINT)
        assert "var(--c1)" in chart.svg
        assert "var(--sans)" in chart.svg
        assert "<metadata" not in chart.svg
        assert re.match(r'<svg role="img" aria-label="[abc]"', chart.svg)


def test_the_same_data_make_the_same_drawing() -> None:
    series = {"x": ([1, 2, 3], [0.5, 2.0, 1.0])}
    assert curves("a", series) == curves("a", series)
    assert curves("a", series) != curves("a", {"x": ([1, 2, 3], [0.5, 2.0, 1.1])})


def test_titles_cannot_break_out() -> None:
    assert "<b" not in curves('x"><b', {"x": ([1, 2], [1.0, 2.0])}).svg


def test_wide_ranges_are_drawn_on_a_logarithmic_axis() -> None:
    assert (
        "10^" in curves("a", {"x": ([1, 2, 3], [1e-4, 1.0, 1e3])}).svg
        or "\\mathdefault" in curves("a", {"x": ([1, 2, 3], [1e-4, 1.0, 1e3])}).svg
    )
