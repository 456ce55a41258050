"""What a diffusion sampler refuses, in one sentence each."""

from __future__ import annotations

from typing import Any

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.samplers.solvers import SOLVERS

__all__ = ["check_diffusion"]


def check_diffusion(sampler: Any) -> None:
    """Raises CallError where settings of a `Diffusion` do not fit each other, its process or its network."""
    if sampler.solver not in SOLVERS:
        raise CallError(f"there is no solver '{sampler.solver}'; {nearest(sampler.solver, SOLVERS)}")
    if (SOLVERS[sampler.solver].ancestral or sampler.eta) and not sampler.process.preserves_variance:
        solver = f"{sampler.solver}" if not sampler.eta else f"{sampler.solver}' with 'eta"
        raise CallError(
            f"the solver '{solver}' adds the noise of a variance-preserving process, and this one "
            f"is '{sampler.process.kind}'; choose ddim, euler, heun or dpmpp_2m"
        )
    sampler.process.conversion(sampler.prediction)  # raises for a bad one
    if sampler.guidance != 1.0 and not sampler.guide and not set(sampler.conditions) & set(sampler.null):
        raise CallError("guidance needs a condition with a null value, and this model has none")
    if len(sampler.also) != len(sampler.also_weights):
        raise CallError(f"{len(sampler.also)} further conditions need as many weights: 'also_weights'")
    if any(len(names) != len(sampler.conditions) for names in sampler.also):
        raise CallError(f"each of 'also' names a condition for each of {', '.join(sampler.conditions)}")
    if sampler.also and (sampler.guide or not set(sampler.conditions) & set(sampler.null)):
        raise CallError("several conditions need one with a null value, and no 'guide'")
    if sampler.eta and (sampler.solver != "ddim" or not 0.0 <= sampler.eta <= 1.0):
        raise CallError(
            f"eta is a number of 0 … 1 of the solver 'ddim', not {sampler.eta} of '{sampler.solver}'"
        )
    if sampler.churn and not SOLVERS[sampler.solver].churns:
        raise CallError(f"the solver '{sampler.solver}' has no churn; choose euler or heun")
    if sampler.churn < 0.0 or sampler.churn_noise <= 0.0:
        raise CallError("churn must not be negative, and churn_noise must be above 0")
    if not 0.0 <= sampler.threshold <= 1.0 or (sampler.threshold and sampler.clip <= 0.0):
        raise CallError("threshold is a share of 0 … 1, and needs a 'clip' above 0 to scale to")
    for name in ("guidance_interval", "churn_interval"):
        interval = getattr(sampler, name)
        if interval is not None and not interval[0] <= interval[1]:
            raise CallError(f"'{name}' is the least and the greatest time, not {interval}")
    sampler.process.times(sampler.steps)  # raises for a bad number
