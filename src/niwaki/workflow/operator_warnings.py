"""What a plan will not make faster, told in one line for each reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from niwaki.deployment.fast_path import OffPath
from niwaki.workflow.reporter import Reporter

__all__ = ["tell_off_path"]

_NAMED = 3
"""As many layers are called by their names."""


def tell_off_path(found: Sequence[OffPath], reporter: Reporter) -> None:
    """A note for each reason, with all that it is the reason for."""
    by_reason: dict[str, list[OffPath]] = {}
    for one in found:
        by_reason.setdefault(one.reason, []).append(one)
    for reason, of in by_reason.items():
        reporter.note(f"off the fast path: {of[0] if len(of) == 1 else _together(of, reason)}")


def _together(of: Sequence[OffPath], reason: str) -> str:
    """`2 Conv ('a', 'b'), 96 % of the arithmetic: …`"""
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(one.operator for one in of).items())
    named = ", ".join(f"'{one.module}'" for one in of[:_NAMED]) + (" …" if len(of) > _NAMED else "")
    known = [one.share for one in of if one.share is not None]
    share = f", {sum(known):.0%} of the arithmetic" if known else ""
    return f"{kinds} ({named}){share}: {reason}"
