"""Metrics are summed on the device and read from it once per log line: inside a step nothing waits for the
device."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from niwaki.core.store import jsonable, read_jsonl, write_text

__all__ = ["Sums", "truncate_log"]


class Sums:
    """Running sums of named scalars, with one count each. A value that is not finite stays visible in its
    sum."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.values: dict[str, Tensor] = {}
        self.counts: dict[str, float] = {}

    @torch.no_grad()
    def add(self, named: Mapping[str, Tensor], share: float = 1.0) -> None:
        """Add scalars; `share` is the weight of a micro-batch."""
        new = [n for n in named if n not in self.values]
        for name in new:
            self.values[name] = torch.zeros((), device=self.device)
            self.counts[name] = 0.0
        torch._foreach_add_(
            [self.values[n] for n in named], [v.detach().float() for v in named.values()], alpha=share
        )
        for name in named:
            self.counts[name] += share

    def read(self) -> dict[str, float]:
        """Means since the last `clear`, in one transfer."""
        names = [n for n in self.values if self.counts[n]]
        if not names:
            return {}
        sums = torch.stack([self.values[n] for n in names]).double().tolist()
        return {n: s / self.counts[n] for n, s in zip(names, sums, strict=True)}

    def clear(self) -> None:
        if self.values:
            torch._foreach_zero_(list(self.values.values()))
        self.counts = dict.fromkeys(self.values, 0.0)

    def restore(self, values: Mapping[str, Tensor], counts: Mapping[str, float]) -> None:
        self.values = {n: v.to(self.device, copy=True) for n, v in values.items()}
        self.counts = {n: float(counts[n]) for n in self.values}


def not_finite(means: Mapping[str, float]) -> list[str]:
    """Names of the values that are NaN or infinite."""
    return [n for n, v in means.items() if not math.isfinite(v)]


def truncate_log(path: Path, step: int) -> None:
    """Drop the lines written after `step`, and a last line that a kill cut short: they will be written
    again."""
    kept = [r for r in read_jsonl(path) if r.get("step", 0) <= step]
    if path.exists():
        write_text(path, "".join(json.dumps(jsonable(r), allow_nan=False) + "\n" for r in kept))
