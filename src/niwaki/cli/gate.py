"""`--gate`: exit with 1 where a model gives out its training samples."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

__all__ = ["GateLimit", "Gated", "pass_gate"]

Gated = Annotated[
    bool, typer.Option("--gate", help="Exit with 1 where more training samples are copied than by chance.")
]
GateLimit = Annotated[
    float | None,
    typer.Option(
        "--gate-limit", help="The same, where more than this share of the samples are close copies."
    ),
]


def pass_gate(gates: Mapping[str, Any], gated: bool, limit: float | None) -> int:
    """The exit status; the reasons are told on stderr."""
    from niwaki.report.release import held_back

    if not gated and limit is None:
        return 0
    reasons = held_back(gates, limit)
    for reason in reasons:
        print(f"niwaki: held back: {reason}", file=sys.stderr)
    return 1 if reasons else 0
