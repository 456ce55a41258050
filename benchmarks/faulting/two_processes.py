"""A second call while the first one works: it reads what is whole, or is refused in a sentence."""

from __future__ import annotations

import random

from faulting.children import Ended
from faulting.states import broken
from faulting.subject import Subject

__all__ = ["beside"]

REFUSED = "is in use by another niwaki"


def beside(first: Subject, second: Subject, rng: random.Random) -> tuple[str, list[str]]:
    """One trial: `second` begins at a random moment of `first`, in the same folder.

    What the first one leaves must be what it leaves alone. A second one on the same run is refused while the
    run is held; whoever reads gives what the run holds, or says in a sentence what is not there yet.
    """
    first.reset()
    one = first.start()
    try:
        one.wait_a_moment(rng.random() * first.whole.seconds)
        other = second.call(log="second")
    finally:
        ended = one.wait()
    wrong = broken(first.place)
    if ended.status != 0:
        wrong.append(f"the first call ends with {ended.status}: {ended.sentence}")
    came, said = _second(other)
    wrong += said
    touched = set(second.after) | {"run/report.html"} if came == "worked" else set()
    for name, content in first.after.items():
        now = first.state().get(name)
        if now != content and not (name in touched and now is not None):
            wrong.append(f"{name} of the first call " + ("is missing" if now is None else "differs"))
    left = [n for n in first.state() if n not in first.after and n not in second.after]
    wrong += [f"{name} is left over" for name in left]
    return came, wrong


def _second(other: Ended) -> tuple[str, list[str]]:
    if other.status == 0:
        return "worked", []
    wrong = []
    if "Traceback" in other.err or "defect" in other.err or not other.sentence.startswith("niwaki"):
        wrong.append(f"the second call ends with {other.status}, without a sentence: {other.sentence}")
    return "refused" if REFUSED in other.err else "told what is missing", wrong
