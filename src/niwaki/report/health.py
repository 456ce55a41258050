"""How the gradients of the layers fared in training, layers that belong together in one row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from niwaki.report.record import RunRecord
from niwaki.report.words import number_text

__all__ = ["MOST", "folded", "health_rows"]

MOST = 24
"""Rows at most, where names allow."""


def health_rows(record: RunRecord) -> list[dict[str, str]]:
    """One row per group of layers; empty where nothing was measured."""
    found = record.training.get("health") or []
    stages = list(dict.fromkeys(row["stage"] for row in found))
    out = []
    for stage in stages:
        rows = [row for row in found if row["stage"] == stage]
        for name, members in folded(rows, max(1, MOST // len(stages))).items():
            dead = sum(1 for row in members if row["zero"])
            out.append(
                {
                    "name": f"{stage}: {name}" if len(stages) > 1 else name,
                    "layers": str(len(members)),
                    "gradient": number_text(_norm([row["gradient"] for row in members])),
                    "last": number_text(_norm([row["last"][0] for row in members])),
                    "update": number_text(_middle([row["update"] for row in members])),
                    "last_update": number_text(_middle([row["last"][1] for row in members])),
                    "dead": f"{dead} without gradient" if dead else "",
                }
            )
    return out


def folded(rows: Sequence[Mapping[str, Any]], most: int) -> dict[str, list[Mapping[str, Any]]]:
    """Rows by as much of the beginning of their names as makes no more than `most` groups; at least by the
    first part."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for depth in range(max((row["layer"].count(".") for row in rows), default=0) + 1, 0, -1):
        found = {}
        for row in rows:
            found.setdefault(".".join(row["layer"].split(".")[:depth]), []).append(row)
        if len(found) <= most:
            break
    return found


def _norm(values: Sequence[float]) -> float:
    """Of all layers of a group together."""
    return math.sqrt(sum(v * v for v in values))


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
