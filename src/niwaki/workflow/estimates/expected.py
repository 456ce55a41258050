"""What stages are expected to take, in one sentence that says what it leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from niwaki.workflow.pace import about_text

__all__ = ["Expected", "told"]


@dataclass(frozen=True)
class Expected:
    """A part of the work.

    what:     it is called in the sentence
    seconds:  as measured a moment ago, or as it took in this run before; None where that is not known
    before:   whether `seconds` are of the call before
    besides:  what the part also does, and nobody can tell the time of
    """

    what: str
    seconds: float | None
    before: bool = False
    besides: tuple[str, ...] = ()


def told(parts: Iterable[Expected]) -> str:
    """`about 3 min for what can be timed now: training about 2 min, timing about 1 min; on top, not known
    yet: export`; parts of one name are added up. Empty where no time is known."""
    known: dict[tuple[str, bool], float] = {}
    unknown: dict[str, None] = {}
    for part in parts:
        if part.seconds is None:
            unknown[part.what] = None
        elif part.seconds:
            key = part.what, part.before
            known[key] = known.get(key, 0.0) + part.seconds
        unknown |= dict.fromkeys(part.besides)
    if not known:
        return ""
    named = ", ".join(
        f"{what} {about_text(seconds)}{' as before' if before else ''}"
        for (what, before), seconds in known.items()
    )
    if len(known) > 1:
        named = f"{about_text(sum(known.values()))} for what can be timed now: {named}"
    return f"{named}; on top, not known yet: {', '.join(unknown)}" if unknown else named
