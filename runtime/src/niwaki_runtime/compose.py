"""Several conditions at once: what fits all of them, or one and not another (Liu, Li, Du, Torralba &
Tenenbaum 2022, "Compositional visual generation with composable diffusion models")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.programs import SAMPLING, Program, Runner
from niwaki_runtime.samplers.base import Array
from niwaki_runtime.samplers.diffusion import Diffusion

__all__ = ["compose", "composed"]


def compose(
    runner: Runner,
    n: int,
    conditions: Sequence[Mapping[str, Any]],
    weights: Sequence[float] | None = None,
    *,
    program: str = SAMPLING,
    inputs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Array:
    """Samples `(n, *shape)` of a diffusion model under several sets of conditions.

    The network's output is out(∅) + Σ wᵢ (out(cᵢ) − out(∅)) at every step: of two conditions of weight 1 what
    both ask for, of a negative weight what its condition does not ask for. It is the score of
    p(x) Π (p(x | cᵢ) / p(x))^wᵢ without noise alone: at other levels the noised product has another score (Du
    et al. 2023, "Reduce, reuse, recycle"), so that samples are near that product, not of it.

    conditions: names of inputs → a value for all, or an array with one row per sample; a name that one of
                them leaves out asks for nothing there
    weights:    one for each; default: 1 for each
    inputs:     what is given all of them alike: inputs that have no null value (a picture that leads)
    options:    as of `Runner.run` (`seed`, `steps` …)
    Raises CallError where the program is no diffusion with a condition that can be left out, and for a wrong
    name or number of weights.
    """
    weights = [1.0] * len(conditions) if weights is None else list(weights)
    if not conditions or len(weights) != len(conditions):
        raise CallError(f"{len(conditions)} conditions need one weight each, not {len(weights)}")
    asked = composed(runner.program(program), weights)
    null = _diffusion(runner.program(program)).null
    given = dict(inputs or {})
    for k, one in enumerate(conditions):
        for name in one:
            if name not in null:
                raise CallError(f"'{name}' cannot be composed; {nearest(name, null)}")
        for name, empty in null.items():
            given[_called(name, k)] = one.get(name, empty if asked.inputs[name].shape == () else None)
    return runner.run(asked, n, inputs={k: v for k, v in given.items() if v is not None}, **options)


def composed(program: Program, weights: Sequence[float]) -> Program:
    """The program of several sets of conditions: the inputs of the first have their own names, those of the
    k-th `name_k`. Conditions without a null value stay one for all.

    Raises CallError where it is no diffusion with a condition that can be left out.
    """
    plan = _diffusion(program)
    further = range(1, len(weights))
    also = tuple(tuple(_called(k, i) if k in plan.null else k for k in plan.conditions) for i in further)
    sampler = program.sampler.override(
        guidance=float(weights[0]), also=also, also_weights=tuple(map(float, weights[1:]))
    )
    inputs = dict(program.inputs)
    inputs |= {_called(name, i): program.inputs[name] for i in further for name in plan.null}
    return replace(program, sampler=sampler, inputs=inputs)


def _called(name: str, k: int) -> str:
    """The input of that name in the k-th set, counted from 0."""
    return name if k == 0 else f"{name}_{k + 1}"


def _diffusion(program: Program) -> Diffusion:
    found = program.sampler.parts_of(Diffusion)
    if len(found) != 1 or not found[0].null:
        raise CallError(
            "only a diffusion model with a condition that can be left out is asked for several at once "
            "(trained with model.conditioning.drop above 0)"
        )
    return found[0]
