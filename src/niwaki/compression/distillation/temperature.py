"""The temperature at which a student's samples lie as far from each other as its teacher's.

What a small network answers to a squared error is the mean E[t | s] of what it cannot tell apart, and by the
law of total variance Var t = Var s + E|t − s|²: taught pair by pair it is right on average, and its samples
draw together by just the error that is left. They look better than the teacher's, and reach fewer real ones.
A standard deviation of the noise slightly above 1 gives the distance back. It costs nothing on the device.
Where styles are made of the noise, whatever its length (a style-based generator), it is their truncation ψ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from niwaki.core.contract import CallError, ConditionSpec, GenerativeModel
from niwaki.core.errors import NothingToDo
from niwaki_runtime.specs import resolve

__all__ = ["LIMITS", "has_temperature", "matched_temperature", "mean_distance", "spread_option"]

_SPREADS = ("temperature", "truncation")

LIMITS = (0.5, 2.0)
"""Temperatures that are tried. Beyond them, training has failed, not sampling."""
_NEAR = 0.95
"""A share of the teacher's distances from which on more training would change little."""

Look = Callable[[np.ndarray], np.ndarray]


def has_temperature(model: GenerativeModel) -> bool:
    """Whether its samples are made of one noise, whose temperature (or truncation) can be matched."""
    return bool(spread_option(model))


def spread_option(model: GenerativeModel) -> str:
    """The option of its sampler that says how far samples of one noise lie apart; empty where none does."""
    sampler = model.sampler()
    known = sampler.options() if sampler.draws_latents() else set()
    return next((name for name in _SPREADS if name in known), "")


def matched_temperature(
    student: GenerativeModel,
    teacher: GenerativeModel,
    *,
    extractor: Look | None = None,
    condition: Any = None,
    n: int = 1024,
    seed: int = 0,
) -> tuple[float, float]:
    """(the temperature; the student's mean distance between samples as it is, over the teacher's).

    extractor: samples `(n, *shape)` → features `(n, d)`, where distances are taken; None is the samples' own
               values, which miss what a mean hides in details
    condition: what both are asked for; None is the classes in turn. Distances are taken within a class
    n:         samples of each; their noise is the same at every temperature
    Raises CallError for samplers without a temperature, and NothingToDo where none within `LIMITS` matches.
    """
    if not has_temperature(student):
        raise CallError(f"'{student.name}' is no generator of one noise, so it has no temperature to match")
    option = spread_option(student)
    now = float(getattr(student.sampler(), option))
    groups = _classes(student.conditions, condition, n)

    def distance(model: GenerativeModel, **how: Any) -> float:
        made = model.sample(n, seed=seed, condition=condition, **how).float().numpy()
        return mean_distance(made if extractor is None else extractor(made), groups)

    wanted = distance(teacher)
    found = {now: distance(student)}

    def lacking(temperature: float) -> float:
        if temperature not in found:
            found[temperature] = distance(student, **{option: temperature})
        return found[temperature] / wanted - 1.0

    share = found[now] / wanted
    other = now * (LIMITS[1] if share < 1.0 else LIMITS[0])
    # Most often the answer is near: a quarter of the way is tried first.
    near = now + (other - now) / 4
    end = near if lacking(now) * lacking(near) <= 0 else other
    if lacking(now) * lacking(end) > 0:
        raise NothingToDo(
            f"no {option} between {LIMITS[0]} and {LIMITS[1]} brings the samples as far from each other "
            f"as the uncompressed model's (now {share:.2f} of it)"
            + ("; train on first" if share < _NEAR else "")
        )
    return round(float(brentq(lacking, now, end, xtol=5e-4)), 3), share


def mean_distance(features: np.ndarray, groups: np.ndarray) -> float:
    """Mean Euclidean distance of two different rows of `features` `(n, d)` that are of the same group.

    Raises CallError where no group has two rows.
    """
    x = torch.from_numpy(np.ascontiguousarray(features, np.float32)).flatten(1)
    found = [torch.pdist(x[groups == g]).double() for g in np.unique(groups)]
    total, pairs = sum(float(d.sum()) for d in found), sum(len(d) for d in found)
    if not pairs:
        raise CallError(f"{len(x)} samples are too few: no two of them were asked for the same")
    return total / pairs


def _classes(conditions: Mapping[str, ConditionSpec], condition: Any, n: int) -> np.ndarray:
    """Which samples are asked for the same."""
    rows = resolve(conditions, condition, 0, n)
    asked = [rows[name] for name, c in conditions.items() if c.is_label]
    return (
        np.unique(np.stack(asked), axis=1, return_inverse=True)[1].ravel() if asked else np.zeros(n, np.int64)
    )
