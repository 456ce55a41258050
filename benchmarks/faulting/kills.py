"""SIGKILL at a random moment, then the same call again: it ends well, to the same bits."""

from __future__ import annotations

import random

from faulting.children import Ended
from faulting.states import broken, different
from faulting.subject import Subject

__all__ = ["killed"]


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
        return "ended before", _judged(subject, first)
    found = subject.state()
    wrong = broken(subject.place)
    untouched = subject.untouched()
    wrong += [f"after the kill {said}" for said in different(found, {**found, **untouched})]
    done = dict(subject.finished().items() - subject.at_first.items())
    second, came = subject.call(), "went on"
    if second.status == 2 and subject.verb.again and "add --resume" in second.err:
        second, came = subject.call(more=subject.verb.again), "went on with --resume"
    again = [stage for stage, when in done.items() if subject.finished().get(stage) != when]
    if subject.verb.always:
        again = []
    wrong += [f"the stage '{stage}' was done, and was done again" for stage in again]
    return came, wrong + _judged(subject, second)


def _judged(subject: Subject, last: Ended) -> list[str]:
    if last.status != 0:
        return [f"the call ends with {last.status}: {last.sentence}"]
    return different(subject.state(), subject.after)
