"""NaN in a batch: the call ends with a sentence that names it, and keeps what was whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from faulting.kills import judged, undone, went_on
from faulting.subject import Subject

__all__ = ["not_finite", "poisoned"]

LAST = 14
"""The batch that is poisoned is one of the first so many."""


def poisoned(number: int) -> Callable[[], None]:
    """What is done in a child: the batch of that number is NaN in every training, also where it is drawn
    again."""

    def install() -> None:
        from niwaki.training.step import Stepper

        class Poisoned:
            def __init__(self, batches: Any) -> None:
                self.batches = batches

            def batch(self, k: int) -> Any:
                found = self.batches.batch(k)
                if k != number:
                    return found
                return found.map(lambda t: t * float("nan") if t.is_floating_point() else t)

        begin = Stepper.__init__

        def poison(self: Any, fabric: Any, state: Any, stage: Any, batches: Any) -> None:
            begin(self, fabric, state, stage, Poisoned(batches))

        Stepper.__init__ = poison  # type: ignore[method-assign,assignment]

    return install


def not_finite(subject: Subject, rng: random.Random) -> tuple[str, list[str]]:
    """One trial."""
    subject.reset()
    first = subject.call(before=poisoned(rng.randrange(LAST)))
    if first.status == 0:
        if "NaN or infinity in the data" in first.err + first.out:
            return "recorded, the others went on", []  # a study
        return "never drawn", judged(subject, first)
    wrong, done = undone(subject)
    last = first.sentence
    if first.status != 1 or not last.startswith("niwaki: ") or "NaN or infinity in the data" not in last:
        wrong.append(f"the call ends with {first.status}, and does not name the data: {last[:300]}")
    second, came, again = went_on(subject, done)
    return came, [*wrong, *again, *judged(subject, second)]
