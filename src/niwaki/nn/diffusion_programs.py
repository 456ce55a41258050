"""Programs that every diffusion model has, in pixels and in latents alike."""

from __future__ import annotations

from collections.abc import Mapping

from niwaki.core.contract import ConditionSpec, Program, ValueSpec
from niwaki_runtime.samplers import Cascade, Diffusion, OneShot, Renoise

__all__ = ["edit_program"]


def edit_program(
    plan: Diffusion,
    x: ValueSpec,
    conditions: Mapping[str, ConditionSpec],
    *,
    encoder: str = "",
    decoder: str = "",
) -> Program:
    """`edit`: noise is added to x, and a sample is made of that.

    plan:       the diffusion sampler
    encoder, decoder: graphs around it, each of one input, where it works on latents
    """
    inputs = {"x": ConditionSpec(x), **conditions}
    if not encoder:
        return Program(Renoise(plan), inputs, x)
    legs = (
        OneShot(graph=encoder, conditions=("x",)),
        Renoise(plan, x="given_latents"),
        OneShot(graph=decoder, conditions=("latents",)),
    )
    return Program(Cascade(legs, ("given_latents", "latents")), inputs, x)
