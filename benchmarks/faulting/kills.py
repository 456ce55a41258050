"""SIGKILL at a random moment, then the same call again: it ends well, to the same bits."""

from __future__ import annotations

import random

from faulting.children import Ended
from faulting.states import broken, different
from faulting.subject import Subject

__all__ = ["judged", "killed", "undone", "went_on"]


def killed(subject: Subject, rng: random.Random, *, by_clock: bool) -> tuple[str, list[str]]:
    """One trial: what came of it, and what is wrong.

    by_clock: at a moment of the call's undisturbed time; else before one of its changes of files
    """
    subject.reset()
    if by_clock:
        first = subject.call(kill_after=rng.uniform(0, subject.whole.seconds))
    else:
        first = subject.call(kill_at=rng.randrange(max(1, subject.whole.changes)))
    if first.status is not None:
        return "ended before", judged(subject, first)
    wrong, done = undone(subject)
    second, came, again = went_on(subject, done)
    return came, [*wrong, *again, *judged(subject, second)]


def undone(subject: Subject) -> tuple[list[str], dict[str, str]]:
    """After a call that did not end well: what it has left that may not be so, and the stages that it has
    finished."""
    found = subject.state()
    wrong = broken(subject.place)
    wrong += [f"after the fault {said}" for said in different(found, {**found, **subject.untouched()})]
    return wrong, dict(subject.finished().items() - subject.at_first.items())


def went_on(subject: Subject, done: dict[str, str], **how: object) -> tuple[Ended, str, list[str]]:
    """The same call again, with what a stopped training asks for: how it ended, what came, what is wrong.
    done: the stages that are finished"""
    second, came = subject.call(**how), "went on"  # type: ignore[arg-type]
    if second.status == 2 and subject.verb.again and "add --resume" in second.err:
        second, came = subject.call(more=subject.verb.again, **how), "went on with --resume"  # type: ignore[arg-type]
    again = [stage for stage, when in done.items() if subject.finished().get(stage) != when]
    if subject.verb.always:
        again = []
    return second, came, [f"the stage '{stage}' was done, and was done again" for stage in again]


def judged(subject: Subject, last: Ended) -> list[str]:
    """What is wrong with what the last call has left."""
    if last.status != 0:
        return [f"the call ends with {last.status}: {last.sentence}"]
    return different(subject.state(), subject.after)
