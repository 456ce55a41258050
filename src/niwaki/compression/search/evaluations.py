"""Fewer calls of the network for one sample, where a diffusion can be sampled so."""

from __future__ import annotations

import copy
from typing import Any

from niwaki.compression.distillation.fewer_steps import diffusion_of
from niwaki.compression.distillation.student import with_sampling
from niwaki.core.contract import CallError, GenerativeModel
from niwaki_runtime.samplers.solvers import SOLVERS

__all__ = ["fewer_evaluations", "sampled"]

_FEWEST = 4
"""Evaluations below which only distillation makes samples worth judging."""


def fewer_evaluations(model: GenerativeModel) -> tuple[int, ...]:
    """Half of the model's own, a quarter … down to four; none where it does not sample by one diffusion."""
    try:
        found = diffusion_of(model)
    except CallError:
        return ()
    now, out = SOLVERS[found.solver].evaluations(found.steps), list[int]()
    while now // 2 >= _FEWEST:
        now //= 2
        out.append(now)
    return tuple(out)


def sampled(model: GenerativeModel, evaluations: int, solver: str | None) -> GenerativeModel:
    """A copy that samples with so many evaluations. Raises CallError where it is no diffusion."""
    made = copy.deepcopy(model)
    before = diffusion_of(model)
    asked: dict[str, Any] = {} if solver is None else {"solver": solver}
    if evaluations:
        asked["steps"] = SOLVERS[solver or before.solver].steps(evaluations)
    with_sampling(made, **asked)
    return made
