"""What many passes take follows from two smaller numbers of them, unless others' work has disturbed one."""

from __future__ import annotations

import pytest

from niwaki.workflow.searching.measuring import _with_passes


@pytest.mark.parametrize(
    ("known", "wanted", "ms"),
    [
        ([(7, 15.0), (2, 5.0)], 30, 61.0),  # 1 ms beside passes of 2
        ([(7, 15.0), (2, 5.0)], 7, 15.0),
        ([(30, 15.0)], 30, 15.0),
        ([(7, 14.0), (2, 20.0)], 30, 60.0),  # fewer cannot take longer
        ([(7, 14.0), (2, 1.0)], 30, 60.0),  # nor can a pass take more than its share
        ([(1, 3.0), (1, 3.0)], 2, 6.0),
    ],
)
def test_what_more_passes_take(known: list[tuple[int, float]], wanted: int, ms: float) -> None:
    assert _with_passes(wanted, known) == pytest.approx(ms)
