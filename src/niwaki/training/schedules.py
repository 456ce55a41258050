"""Learning-rate schedules by name: pure functions (step, total) → share of the peak rate, or (step, total,
seen), where they go by what validations have measured.

A new one is a function with `@schedule("name")`; its keyword arguments are its settings, checked by their
annotations: `schedule: {name: step, every: 100}`. Warm-up comes before every schedule and is not its concern:
`step` counts from its end, 0 … total.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from niwaki.training.named_functions import filled_in

__all__ = ["Schedule", "build_schedule", "followed", "schedule", "schedule_names"]

Schedule = Callable[..., float]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]

_SCHEDULES: dict[str, Callable[..., float]] = {}
_FOLLOWING: set[Callable[..., float]] = set()


def schedule(name: str, *, follows: bool = False) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Decorator: enter a function (step, total, *, settings) → factor under a name.

    follows: it takes a third argument, the values so far of the figure that its setting `by` names, one for
             each validation of the stage
    """

    def enter(function: Callable[..., float]) -> Callable[..., float]:
        _SCHEDULES[name] = function
        if follows:
            _FOLLOWING.add(function)
        return function

    return enter


def schedule_names() -> list[str]:
    return sorted(_SCHEDULES)


def build_schedule(asked: str | Mapping[str, Any]) -> Schedule:
    """The function that a recipe's `schedule` names, its settings filled in.

    Raises CallError for an unknown name or a setting that does not fit.
    """
    return filled_in("schedule", _SCHEDULES, asked)


def followed(function: Schedule) -> str | None:
    """The figure of validations that a schedule goes by; None where it follows from the step alone."""
    known = isinstance(function, partial) and function.func in _FOLLOWING
    return str(function.keywords["by"]) if known else None  # type: ignore[attr-defined]


@schedule("constant")
def constant(step: int, total: int) -> float:
    """1."""
    return 1.0


@schedule("cosine")
def cosine(step: int, total: int, *, floor: Share = 0.0) -> float:
    """floor + (1 − floor)·½(1 + cos πτ), τ = step/total (Loshchilov & Hutter 2017, SGDR, no restarts)."""
    share = 0.5 * (1.0 + math.cos(math.pi * (step / total)))
    return floor + (1.0 - floor) * share if floor else share


@schedule("linear")
def linear(step: int, total: int, *, floor: Share = 0.0) -> float:
    """1 − (1 − floor)·τ."""
    return 1.0 - (1.0 - floor) * min(step / total, 1.0)


@schedule("step")
def staircase(
    step: int,
    total: int,
    *,
    every: Annotated[int, Field(ge=0)] = 0,
    at: tuple[Share, ...] = (),
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1,
) -> float:
    """γ^k after k drops: one every `every` steps, and one at each share `at` of the stage. With neither, at ½
    and ¾ (He et al. 2016)."""
    places = at if at or every else (0.5, 0.75)
    drops = sum(step >= place * total for place in places) + (step // every if every else 0)
    return gamma**drops


@schedule("exponential")
def exponential(
    step: int, total: int, *, end: Annotated[float, Field(gt=0, le=1)] = 0.01, halving: Count | None = None
) -> float:
    """end^τ, so that it ends at `end`; or 2^(−step/halving), halved every `halving` steps."""
    return 2.0 ** (-step / halving) if halving else end ** (step / total)


@schedule("range")
def rising(step: int, total: int, *, start: Annotated[float, Field(gt=0, le=1)] = 1e-5) -> float:
    """start^(1 − τ): from `start` to 1 by a constant ratio (Smith 2017's range test, which finds a rate)."""
    return start ** (1.0 - step / total)


@schedule("cosine_restarts")
def cosine_restarts(
    step: int,
    total: int,
    *,
    cycles: Count = 4,
    growth: Annotated[float, Field(ge=1)] = 1.0,
    floor: Share = 0.0,
) -> float:
    """Cosines from 1 to `floor`, each cycle `growth` times as long as the one before (Loshchilov & Hutter
    2017, SGDR). The cycles fill the stage: the first takes (g − 1)/(g^n − 1) of it, 1/n for g = 1."""
    done = min(step / total, 1.0)
    shares = [growth**k for k in range(cycles)]
    start, whole = 0.0, sum(shares)
    for k, share in enumerate(shares):
        length = share / whole
        # A step that falls on the border of two cycles begins the later one, whatever the rounding.
        if k + 1 == cycles or done < start + length - 1e-12:
            within = min(max((done - start) / length, 0.0), 1.0)
            return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * within))
        start += length
    raise AssertionError


@schedule("one_cycle")
def one_cycle(
    step: int,
    total: int,
    *,
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3,
    start: Share = 0.04,
    end: Share = 4e-6,
) -> float:
    """Up from `start` to 1 in a share `rise` of the stage and down to `end`, both by a cosine (Smith & Topin
    2019, Super-Convergence; the shares are those of fast.ai)."""
    done = min(step / total, 1.0)
    if done < rise:
        return start + (1.0 - start) * 0.5 * (1.0 - math.cos(math.pi * done / rise))
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * (done - rise) / (1.0 - rise)))


@schedule("wsd")
def warmup_stable_decay(
    step: int,
    total: int,
    *,
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2,
    floor: Share = 0.0,
    shape: Literal["linear", "sqrt"] = "sqrt",
) -> float:
    """1, and in the last share `decay` of the stage down to `floor`: 1 − (1 − floor)·s, with s the share of
    the decay that is done, or its root (Hu et al. 2024, MiniCPM; Hägele et al. 2024, arXiv:2405.18392)."""
    done = min(max(step / total - (1.0 - decay), 0.0) / decay, 1.0)
    return 1.0 - (1.0 - floor) * (math.sqrt(done) if shape == "sqrt" else done)


@schedule("plateau", follows=True)
def plateau(
    step: int,
    total: int,
    seen: Sequence[float] = (),
    *,
    by: str = "loss",
    higher: bool = False,
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    patience: Count = 3,
    min_delta: Annotated[float, Field(ge=0)] = 0.0,
    rest: Annotated[int, Field(ge=0)] = 0,
    floor: Share = 0.0,
) -> float:
    """factor^k after k cuts, no less than `floor`: one after `patience` validations in a row that were not
    lower than the best before by more than `min_delta` (He et al. 2016, Section 3.4, did it by hand).

    by:     figure of the validations, the held-out loss or what `validate` measures; `higher` values of it
            are the better ones
    rest:   validations after a cut that do not count against it
    """
    best, waited, resting, cuts = math.inf, 0, 0, 0
    for value in seen:
        value = -value if higher else value
        waited = 0 if value < best - min_delta else waited + 1
        best = value if waited == 0 else best
        waited, resting = (0, resting - 1) if resting else (waited, 0)
        if waited >= patience:
            cuts, waited, resting = cuts + 1, 0, rest
    return max(factor**cuts, floor)
