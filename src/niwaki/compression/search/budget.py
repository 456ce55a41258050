"""A budget: what a bundle may cost, in milliseconds, bytes, memory and network evaluations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from niwaki.core.contract import CallError, nearest

__all__ = ["COSTS", "Budget", "Limit", "cost_text"]


@dataclass(frozen=True)
class _Cost:
    """What is measured: its unit in words, and what the units that people write are worth in it."""

    unit: str
    units: Mapping[str, float]


_BYTES = {
    "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30,
}  # fmt: skip
COSTS: Mapping[str, _Cost] = {
    "latency": _Cost("ms", {"ms": 1.0, "us": 1e-3, "µs": 1e-3, "s": 1e3}),
    "size": _Cost("bytes", _BYTES),
    "memory": _Cost("bytes", _BYTES),
    "evaluations": _Cost("evaluations", {}),
}
"""What a budget can limit."""
_ALSO = {"bytes": "size", "time": "latency", "ms": "latency", "peak": "memory", "steps": "evaluations"}
_LIMIT = re.compile(r"([a-z]+)(?:@(\d+))?\s*=\s*(/)?\s*(\d+(?:\.\d+)?(?:e-?\d+)?)\s*([a-zµ]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Limit:
    """At most so much of one cost.

    cost:     a key of `COSTS`
    value:    in its unit, or by how much the model's own is divided
    relative: which of both
    batch:    samples that are made at once, where milliseconds are counted
    """

    cost: str
    value: float
    relative: bool = False
    batch: int = 1

    @property
    def key(self) -> str:
        """`latency` at batch 1, `latency@16` at 16."""
        return self.cost if self.batch == 1 else f"{self.cost}@{self.batch}"

    def __str__(self) -> str:
        if self.relative:
            return f"{self.key}=/{self.value:g}"
        return f"{self.key}={cost_text(self.key, self.value).replace(' ', '')}"


@dataclass(frozen=True)
class Budget:
    """Limits, each of another cost."""

    limits: tuple[Limit, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Budget:
        """`latency=0.3ms, size=100kB, memory=40MB, evaluations=4`; `latency@16=2ms` for 16 samples at once;
        `latency=/20` for a twentieth of what the model takes now. Raises CallError for anything else."""
        found: dict[str, Limit] = {}
        for part in (p.strip() for p in text.split(",") if p.strip()):
            limit = _limit(part)
            if limit.key in found:
                raise CallError(f"the budget limits '{limit.key}' twice")
            found[limit.key] = limit
        if not found:
            raise CallError(
                "the budget is empty; write latency=0.3ms, size=100kB, memory=40MB, evaluations=4"
            )
        return cls(tuple(found.values()))

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes at which milliseconds count; 1 where none is said."""
        return tuple(sorted({one.batch for one in self.limits if one.cost == "latency"})) or (1,)

    @property
    def memory(self) -> bool:
        """Whether peak memory is limited."""
        return any(one.cost == "memory" for one in self.limits)

    def resolved(self, now: Mapping[str, float]) -> dict[str, float]:
        """By key, the most that is allowed.

        now: what the model costs before: what relative limits are a part of
        Raises CallError for a relative limit of what is not known.
        """
        out = {}
        for one in self.limits:
            if one.relative and one.key not in now:
                raise CallError(f"'{one}' is a part of what the model takes now, and that was not measured")
            out[one.key] = now[one.key] / one.value if one.relative else one.value
        return out

    def __str__(self) -> str:
        return ", ".join(map(str, self.limits))


def _limit(text: str) -> Limit:
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise CallError(
            f"'{text}' is no limit; write latency=0.3ms, latency@16=2ms, size=100kB, memory=40MB, "
            "evaluations=4, or a part of what the model takes now: latency=/20"
        )
    name, batch, slash, number, unit = found.groups()
    cost = _ALSO.get(name.lower(), name.lower())
    if cost not in COSTS:
        raise CallError(f"a budget cannot limit '{name}'; {nearest(cost, COSTS)}")
    if batch and (cost != "latency" or int(batch) < 1):
        raise CallError(f"'{text}': only a latency is of a batch, of at least one sample")
    value, units = float(number), COSTS[cost].units
    if not value > 0:
        raise CallError(f"'{text}': a limit is above 0")
    if slash:
        if unit:
            raise CallError(f"'{text}': a part of what the model takes now has no unit")
        return Limit(cost, value, True, int(batch or 1))
    if unit.lower() not in units and not (unit == "" and not units):
        known = ", ".join(u for u in units if u != "us") or "no unit"
        raise CallError(f"'{text}': the unit of {cost} is one of {known}" if units else
                        f"'{text}': {cost} have no unit")  # fmt: skip
    return Limit(cost, value * units.get(unit.lower(), 1.0), False, int(batch or 1))


def cost_text(key: str, value: float) -> str:
    """`0.312 ms`, `64.1 kB`, `4`."""
    cost = key.split("@")[0]
    if cost == "latency":
        return f"{value:.3g} ms"
    if cost == "evaluations":
        return f"{value:g}"
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
