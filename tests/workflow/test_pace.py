"""About how long a loop takes, said once within its first seconds; the clock is a list of seconds."""

from __future__ import annotations

import pytest

from niwaki.workflow.pace import Pace, about_text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "a few seconds"),
        (9.9, "a few seconds"),
        (11.0, "about 10 s"),
        (38.0, "about 40 s"),
        (57.0, "about 55 s"),
        (58.0, "about 1 min"),
        (150.0, "about 2.5 min"),
        (500.0, "about 8.5 min"),
        (590.0, "about 10 min"),
        (1500.0, "about 25 min"),
        (1900.0, "about 30 min"),
        (3000.0, "about 50 min"),
        (3500.0, "about 1 h"),
        (5400.0, "about 1.5 h"),
        (36_000.0, "about 10 h"),
    ],
)
def test_an_estimate_is_no_more_exact_than_it_knows(seconds: float, said: str) -> None:
    assert about_text(seconds) == said


def heard(updates: list[tuple[int, int, float]]) -> list[tuple[float, float]]:
    """(seconds of the clock, what was said then) of a loop's updates (done, total, clock)."""
    pace = Pace()
    said = [(now, pace.seen(done, total, now)) for done, total, now in updates]
    return [(now, whole) for now, whole in said if whole is not None]


def steady(total: int, each: float, *, first: float = 0.0, start: int = 0) -> list[tuple[int, int, float]]:
    """A loop of units of `each` seconds, the first of which takes `first` more."""
    return [(start, total, 0.0)] + [(start + k, total, first + k * each) for k in range(1, total - start + 1)]


@pytest.mark.parametrize(
    ("updates", "at", "whole"),
    [
        (steady(1000, 0.1), 1.5, 100.0),
        (steady(1000, 0.1, first=2.0), 2.2, 102.0),  # what warms up is paid once
        (steady(30, 1.0), 2.0, 30.0),
        (steady(20, 6.0), 6.0, 120.0),  # one unit is all that can be waited for
        (steady(1000, 0.1, start=800), 1.5, 20.0),  # a resumed loop: what is left of it
        ([(1, 100, 0.0), (2, 100, 1.0), (3, 100, 2.0)], 2.0, 99.0),  # told after the unit, not before it
    ],
    ids=["steady", "warming up", "seconds", "slow", "resumed", "from one on"],
)
def test_a_loop_is_told_once_within_its_first_seconds(
    updates: list[tuple[int, int, float]], at: float, whole: float
) -> None:
    ((now, said),) = heard(updates)
    assert now == pytest.approx(at)
    assert said == pytest.approx(whole)


@pytest.mark.parametrize(
    "updates",
    [
        steady(50, 0.1),  # over in five seconds
        steady(1, 60.0),  # one unit, told when it is done
        [(0, 100, float(now)) for now in range(20)],  # nothing moves
        [],
        [(100, 100, 0.0), (100, 100, 20.0)],  # all was done before
    ],
    ids=["short", "single", "still", "empty", "done"],
)
def test_what_is_short_or_unknown_is_not_told(updates: list[tuple[int, int, float]]) -> None:
    assert heard(updates) == []


def test_every_loop_of_a_piece_of_work_is_told() -> None:
    pace = Pace()
    said = []
    for at, each in ((0.0, 0.5), (100.0, 0.25)):
        for k in range(11):
            whole = pace.seen(k, 100, at + k * each)
            said += [] if whole is None else [whole]
    assert said == pytest.approx([50.0, 25.0])
    pace.begin()  # another piece of work that begins where the last one stood
    assert [pace.seen(10 + k, 100, 200.0 + k) for k in range(3)] == [None, None, pytest.approx(90.0)]
