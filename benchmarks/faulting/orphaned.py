"""A process that a call has started is killed: the call says so, or does the work itself."""

from __future__ import annotations

import os
import random
import signal

from faulting.kills import judged, undone, went_on
from faulting.subject import Subject

__all__ = ["orphaned"]


def orphaned(subject: Subject, rng: random.Random) -> tuple[str, list[str]]:
    """One trial: a child of the call is killed at a random moment."""
    subject.reset()
    one = subject.start()
    one.wait_a_moment(rng.uniform(0, subject.whole.seconds))
    found = one.children()
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    first = one.wait()
    if first.status == 0:
        return "did without" if found else "had none at that moment", judged(subject, first)
    wrong, done = undone(subject)
    if first.status != 1 or not first.sentence.startswith("niwaki: ") or "Traceback" in first.err:
        wrong.append(f"the call ends with {first.status}, without a sentence: {first.sentence[:300]}")
    second, came, again = went_on(subject, done)
    return f"told, {came}", [*wrong, *again, *judged(subject, second)]
