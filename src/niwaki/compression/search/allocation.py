"""Which option every group takes: a multiple-choice knapsack, solved by HiGHS' branch and cut.

Minimize Σ_g c_g(o_g) over one option o_g of each group g, subject to Σ_g a_g(o_g) ≤ limit for each resource
(Kellerer, Pferschy & Pisinger, "Knapsack problems", 2004, chapter 11), with x_go ∈ {0, 1}, Σ_o x_go = 1.
Damage is taken to add up over groups, but for the `pairs` that are said to do otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from niwaki.compression.search.knapsack import Program, Solution
from niwaki.core.errors import CallError

__all__ = ["Allocation", "Limits", "Nearest", "Option", "allocate", "nearest_feasible"]

Pairs = Mapping[tuple[int, int, int, int], tuple[float, float]]
"""(group a, its option i, group b, its option j) → what the two together add to (fidelity, diversity), of
either sign."""

_AXES = ("fidelity", "diversity")


@dataclass(frozen=True)
class Option:
    """One choice of a group.

    fidelity, diversity: damage in margins; below 0 (a gain) it counts as 0: chance must pay for nothing
    latency: ms
    bytes:   of the stored model
    memory:  live bytes at each program point, as many for all options, or () where nothing is said
    An infinite value bars the option.
    """

    fidelity: float
    diversity: float
    latency: float = 0.0
    bytes: float = 0.0
    memory: tuple[float, ...] = ()


@dataclass(frozen=True)
class Limits:
    """The most of each: damage in margins, ms, bytes, bytes live at once."""

    fidelity: float = math.inf
    diversity: float = math.inf
    latency: float = math.inf
    bytes: float = math.inf
    memory: float = math.inf

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if math.isnan(value) or value < 0:
                raise CallError(f"the limit of {name} must be at least 0, not {value}")

    def finite(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if math.isfinite(value)}


@dataclass(frozen=True)
class Allocation:
    """One option of each group, and what they come to.

    choices: number of the option, by group
    fidelity, diversity, latency, bytes: sums, with the constant and the pairs
    memory:  the peak over program points
    gap:     (objective − proven bound) / objective, 0 … 1: how much better the best can be at most
    """

    choices: tuple[int, ...]
    fidelity: float
    diversity: float
    latency: float
    bytes: float
    memory: float
    gap: float = 0.0


@dataclass(frozen=True)
class Nearest:
    """Where no allocation keeps all limits: what comes nearest, and what is in the way.

    allocation: least Σ of relative excesses (of (value − limit)/limit; of the value where the limit is 0)
    excess:     limit that it does not keep → relative excess
    blocking:   limits that no allocation keeps together, while it would if any one of them were lifted
    least:      limit → the least it can be set to with all the others kept; absent where that does not help
    """

    allocation: Allocation
    excess: dict[str, float]
    blocking: tuple[str, ...]
    least: dict[str, float] = field(default_factory=dict)


def allocate(
    groups: Sequence[Sequence[Option]],
    limits: Limits,
    *,
    minimize: Literal["latency", "bytes", "damage"],
    pairs: Pairs | None = None,
    constant: Option = Option(0.0, 0.0),
    gap: float = 0.01,
    seconds: float = 5.0,
) -> Allocation | None:
    """The allocation of least latency, bytes or damage within the limits; None where there is none.

    minimize: `damage` is max(Σ fidelity/λ_f, Σ diversity/λ_d), λ the axis' limit, or 1 margin where it has
              none; an axis limited to 0 has no say, since it is 0 anyway
    pairs:    what neighbours add together, linearized: z ≤ x_ai, z ≤ x_bj, z ≥ x_ai + x_bj − 1 (McCormick
              1976, exact for binary x)
    constant: what all allocations have, c₀ of the latency for one
    gap:      relative to the objective without the constant
    seconds:  of the solver; the best found until then is returned, with the gap that it proved
    Raises CallError for options that make no sense, NiwakiError where time ran out with nothing found.
    """
    program = _program(groups, pairs, constant)
    found = program.solve(limits.finite(), minimize, gap=gap, seconds=seconds)
    return None if found is None else _allocation(program, found)


def nearest_feasible(
    groups: Sequence[Sequence[Option]],
    limits: Limits,
    *,
    pairs: Pairs | None = None,
    constant: Option = Option(0.0, 0.0),
    gap: float = 0.01,
    seconds: float = 5.0,
) -> Nearest:
    """What comes nearest to the limits where `allocate` finds None, and which of them block.

    Each limit is made elastic, Σ a ≤ limit·(1 + s), s ≥ 0, and Σ s minimized (Chinneck, "Feasibility and
    infeasibility in optimization", 2008, section 6.1); what blocks is an irreducible set by the deletion
    filter (section 6.3). Where the limits can be kept, `excess`, `blocking` and `least` are empty.
    seconds: of each of the up to eleven problems
    Raises as `allocate`; CallError where every option of a group is barred.
    """
    program = _program(groups, pairs, constant)
    wanted = limits.finite()
    found = program.solve(wanted, "excess", elastic=tuple(wanted), gap=gap, seconds=seconds)
    if found is None:
        raise CallError("every option of a group is barred: no limit would help")
    allocation = _allocation(program, found)
    excess = {n: e for n, v in wanted.items() if (e := _excess(getattr(allocation, n), v)) > 1e-6}
    if not excess:
        return Nearest(allocation, {}, ())
    blocking = dict(wanted)
    for name in wanted:
        others = {n: v for n, v in blocking.items() if n != name}
        if program.solve(others, "", gap=1.0, seconds=seconds) is None:
            blocking = others
    least: dict[str, float] = {}
    for name in blocking:
        one = program.solve(wanted, "excess", elastic=(name,), gap=gap, seconds=seconds)
        if one is not None:
            least[name] = float(getattr(_allocation(program, one), name))
    return Nearest(allocation, excess, tuple(blocking), least)


def _excess(value: float, limit: float) -> float:
    return max(0.0, value - limit) / (limit or 1.0)


def _program(groups: Sequence[Sequence[Option]], pairs: Pairs | None, constant: Option) -> Program:
    pairs = pairs or {}
    if not groups or not all(groups):
        raise CallError("there is a group without options")
    every = [o for group in groups for o in group]
    points = {len(o.memory) for o in (*every, constant)} - {0}
    if len(points) > 1:
        raise CallError(f"options speak of different numbers of program points: {sorted(points)}")
    for a, i, b, j in pairs:
        if a == b or not (0 <= a < len(groups) and 0 <= b < len(groups)):
            raise CallError(f"a pair is of two different groups, not of {a} and {b}")
        if not (0 <= i < len(groups[a]) and 0 <= j < len(groups[b])):
            raise CallError(f"a pair names options {i} and {j} that groups {a} and {b} do not have")
    width = max(points, default=0)
    return Program(
        [[_costs(o, width) for o in group] for group in groups],
        {k: dict(zip(_AXES, v, strict=True)) for k, v in pairs.items()},
        _costs(constant, width),
    )


def _costs(option: Option, width: int) -> dict[str, tuple[float, ...]]:
    """By name; of memory one value for each of `width` program points."""
    memory = option.memory or (0.0,) * width
    values = {
        "fidelity": (max(0.0, option.fidelity) if option.fidelity == option.fidelity else math.nan,),
        "diversity": (max(0.0, option.diversity) if option.diversity == option.diversity else math.nan,),
        "latency": (option.latency,),
        "bytes": (option.bytes,),
        "memory": memory,
    }
    for name, row in values.items():
        if any(math.isnan(v) for v in row):
            raise CallError(f"an option's {name} is not a number")
    return values


def _allocation(program: Program, found: Solution) -> Allocation:
    totals = program.totals(found.choices)
    one = {name: totals[name][0] for name in ("fidelity", "diversity", "latency", "bytes")}
    return Allocation(found.choices, **one, memory=max(totals["memory"], default=0.0), gap=found.gap)
