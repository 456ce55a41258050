"""Two trainings in turns: each gets its time, what is untimed does not count, and errors come through."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from peers.turns import Contender, TimeIsUp, Turn, in_turns


def work(seconds: float) -> None:
    """Use so much processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Trained:
    """Writes its name at every step."""

    parameters = 1

    def __init__(self, name: str, log: list[str], ends: Callable[[Turn], None]) -> None:
        self.name, self.log, self.ends = name, log, ends

    def train(self, turn: Turn) -> None:
        while not turn.over:
            self.log.append(self.name)
            work(0.002)
            self.ends(turn)
            turn.tick(3)

    def score(self) -> dict[str, float]:
        return {}


def both(ends: Callable[[Turn], None] = lambda turn: None) -> tuple[dict[str, Turn], list[str]]:
    log: list[str] = []
    contenders: dict[str, Contender] = {name: Trained(name, log, ends) for name in "ab"}
    return in_turns(contenders, 0.06, 0.01), log


def test_both_get_their_time_in_turns() -> None:
    turns, log = both()
    assert all(turn.spent >= 0.06 and turn.rate() > 0 for turn in turns.values())
    for name, turn in turns.items():
        assert sum(samples for samples, _ in turn.blocks) == 3 * log.count(name)
    changes = sum(first != second for first, second in pairwise(log))
    assert 4 <= changes < len(log) - 1, "they alternate, by more than a step"


def test_what_is_untimed_does_not_count() -> None:
    def ends(turn: Turn) -> None:
        with turn.untimed():
            work(0.002)

    turns, log = both(ends)
    for name, turn in turns.items():
        assert turn.spent >= 0.06
        assert sum(seconds for _, seconds in turn.blocks) == pytest.approx(turn.spent, abs=1e-3)
        assert log.count(name) <= turn.spent / 0.002, "each step was charged for its work alone"


def test_a_loop_without_an_end_is_ended_and_an_error_is_told() -> None:
    def stop(turn: Turn) -> None:
        raise TimeIsUp

    turns, log = both(stop)
    assert sorted(log) == ["a", "b"]
    assert all(turn.done for turn in turns.values())

    def fail(turn: Turn) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        both(fail)
