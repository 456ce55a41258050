"""The chart of a training on a terminal shows what was told, and all of it."""

from __future__ import annotations

import io
import itertools
import math

import pytest
from rich.console import Console

from niwaki.workflow.curves import LINES, POINTS, Curves, sparkline
from niwaki.workflow.progress import Drawn


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([7, 7, 0, 0], 2, "█▁"),  # means of two
        ([3, 3, 3], 10, "▁▁▁"),  # no wider than what there is
        ([0, math.nan, 7], 3, "▁ █"),
        ([math.inf, math.nan], 2, "  "),
    ],
)
def test_heights_are_those_of_the_values(values, width, drawn):
    assert sparkline(values, width) == drawn


def test_figures_told_again_are_one_point():
    curves = Curves()
    for told in ({"a": 1.0, "word": "x"}, {"a": 1.0}, {"a": 2.0}, {"a": 2.0}):
        curves.add(told)
    assert curves.values == {"a": [1.0, 2.0]}


def test_a_long_training_keeps_its_whole_course_in_few_points():
    curves = Curves()
    for step in range(10_000):
        curves.add({"loss": float(step)})
    kept = curves.values["loss"]
    assert POINTS / 2 <= len(kept) <= POINTS
    gaps = {b - a for a, b in itertools.pairwise(kept)}
    assert kept[0] == 0.0
    assert kept[-1] > 9_000
    assert max(gaps) <= 2 * min(gaps)


def test_held_out_values_stand_first_and_rates_are_left_out():
    curves = Curves()
    for step in range(3):
        named = {f"phase/{i}": float(step) for i in range(9)}
        curves.add(named | {"lr/phase": step, "phase/gradient_norm": step, "validation/loss": float(-step)})
    assert curves.shown[0] == "validation/loss"
    assert len(curves.shown) == LINES
    assert not any("lr/" in n or "norm" in n for n in curves.shown)


@pytest.mark.parametrize(("height", "there"), [(40, True), (12, False)])
def test_a_terminal_with_room_shows_them_beneath_the_bar_and_a_small_one_does_not(height, there):
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=height)
    drawn = Drawn(console)
    drawn.stage("train", "gan on digits")
    for step in range(1, 21):
        drawn.update(step, 20, {"generator/loss": 1.0 / step})
    drawn._progress.refresh()
    shown = console.file.getvalue()
    drawn.close()
    assert any(block in shown for block in "▂▃▄▅▆▇") is there


def test_a_new_piece_of_work_begins_without_the_curves_of_the_last():
    drawn = Drawn(Console(file=io.StringIO(), force_terminal=True, width=100, height=40))
    drawn.stage("train")
    drawn.update(1, 2, {"loss": 1.0})
    drawn.update(2, 2, {"loss": 2.0})
    assert drawn._progress.curves.shown == ["loss"]
    drawn.stage("evaluate")
    assert drawn._progress.curves.shown == []
    drawn.close()
