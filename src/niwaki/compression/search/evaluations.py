"""Fewer calls of the network for one sample, where a diffusion can be sampled so."""

from __future__ import annotations

import copy
from typing import Any

import torch

from niwaki.compression.distillation.config import DistillConfig
from niwaki.compression.distillation.fewer_steps import diffusion_of
from niwaki.compression.distillation.student import with_sampling
from niwaki.compression.seeds import CHECK
from niwaki.core.contract import CallError, GenerativeModel
from niwaki_runtime.samplers.solvers import SOLVERS

__all__ = [
    "LEARNT",
    "distances",
    "fewer_evaluations",
    "learnt",
    "learnt_evaluations",
    "sampled",
    "solvers_of",
    "steps_for",
]

_FEWEST = 4
"""Evaluations below which only distillation makes samples worth judging."""
LEARNT = 4
"""Evaluations that are learnt where no plan says how many."""
_QUICK = ("ddim", "dpmpp_2m", "unipc", "heun")
"""Solvers that draw no noise, whose few steps follow the path of many (Song et al. 2021; Lu et al. 2022; Zhao
et al. 2023; Karras et al. 2022)."""


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


def solvers_of(model: GenerativeModel) -> tuple[str, ...]:
    """Those that the model can be sampled with, its own first; none where it is no diffusion."""
    try:
        own = diffusion_of(model).solver
    except CallError:
        return ()
    found = [own]
    for name in _QUICK:
        if name == own:
            continue
        try:
            sampled(model, _FEWEST, name)
        except CallError:  # churn and η belong to some of them
            continue
        found.append(name)
    return tuple(found)


def learnt_evaluations(model: GenerativeModel, config: DistillConfig) -> tuple[int, ...]:
    """How many evaluations a student may learn, from most to fewest: as many as the config says, twice that
    and half of it. Where the sampler is guided also all further doublings: the student says by itself what
    its teacher is guided to, which saves the second call. None where nothing can be learnt so.
    """
    try:
        found = diffusion_of(model)
    except CallError:
        return ()
    if found.self_conditioning:
        return ()
    least = config.evaluations
    out = [e for e in (least // 2, least, 2 * least) if 1 <= e < found.steps]
    guided = not found.only_asked or bool(found.guide)
    while guided and out and 2 * out[-1] < found.steps:
        out.append(2 * out[-1])
    return tuple(reversed(out))


def sampled(model: GenerativeModel, evaluations: int, solver: str | None) -> GenerativeModel:
    """A copy that samples with so many evaluations. Raises CallError where it is no diffusion."""
    made = copy.deepcopy(model)
    before = diffusion_of(model)
    asked: dict[str, Any] = {} if solver is None else {"solver": solver}
    if evaluations:
        asked["steps"] = SOLVERS[solver or before.solver].steps(evaluations)
    with_sampling(made, **asked)
    return made


def steps_for(model: GenerativeModel, evaluations: int) -> int:
    """Steps of the model's own solver with so many evaluations. Raises CallError where it is no diffusion."""
    return SOLVERS[diffusion_of(model).solver].steps(evaluations)


def learnt(model: GenerativeModel, evaluations: int) -> GenerativeModel:
    """A copy that samples as a student of so many evaluations does, with the weights of the model."""
    made = copy.deepcopy(model)
    guide = {"guide": ""} if diffusion_of(model).guide else {}
    with_sampling(made, steps=evaluations, solver="ddim", guidance=1.0, **guide)
    return made


@torch.no_grad()
def distances(
    model: GenerativeModel, evaluations: int, solvers: tuple[str, ...], *, n: int, condition: Any = None
) -> dict[str, float]:
    """By solver, how far samples of so few evaluations lie from those of DDIM with as many as the model
    takes: root mean square, in standard deviations of the latter, over n pairs of the same noise."""
    own = diffusion_of(model)
    calls = SOLVERS[own.solver].evaluations(own.steps)
    whole = sampled(model, min(calls, own.process.timesteps or calls), "ddim")
    wanted = whole.sample(n, seed=CHECK, condition=condition).double()
    spread = float(wanted.std()) or 1.0
    out = {}
    for name in solvers:
        made = sampled(model, evaluations, name).sample(n, seed=CHECK, condition=condition).double()
        out[name] = float((made - wanted).square().mean().sqrt()) / spread
    return out
