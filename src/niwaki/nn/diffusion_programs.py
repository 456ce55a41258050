"""Programs that every diffusion model has, in pixels and in latents alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from niwaki.core.contract import ConditionSpec, Program, Real, ValueSpec
from niwaki_runtime.samplers import (
    Cascade,
    Diffusion,
    Inpaint,
    Inversion,
    LatentInpaint,
    LatentUpscale,
    OneShot,
    Renoise,
    Upscale,
)

__all__ = ["WAS", "latent_programs", "pixel_programs"]

WAS = "was_"
"""What stands before the name of a condition that says what a sample was before it is edited."""
Conditions = Mapping[str, ConditionSpec]


def pixel_programs(plan: Diffusion, x: ValueSpec, conditions: Conditions) -> dict[str, Program]:
    """`inpaint` makes what is not known of a sample: `mask` is 1 where `known` counts, and by default 0
    everywhere; `upscale` makes samples with the means of blocks that `known` has; `edit` adds noise to x and
    makes a sample of that; `encode` finds the noise z of which `decode` makes a sample by DDIM.

    plan: the diffusion sampler
    """
    known = ConditionSpec(x)
    z, ddim = ValueSpec(x.modality, x.shape, x.axes, Real(-math.inf, math.inf)), plan.as_ddim()
    found = {"inpaint": Program(Inpaint(plan), {"known": known, "mask": _mask(x), **conditions}, x)}
    if _halved(x):
        found["upscale"] = Program(Upscale(plan), {"known": known, **conditions}, x)
    return found | {
        "edit": Program(Renoise(plan), {"x": known, **conditions}, x),
        "encode": Program(Inversion(ddim), {"x": known, **conditions}, z),
        "decode": Program(replace(ddim, start="z"), {"z": ConditionSpec(z), **conditions}, x),
    }


def latent_programs(
    plan: Diffusion,
    x: ValueSpec,
    conditions: Conditions,
    *,
    encoder: str = "encoder",
    decoder: str = "decoder",
) -> dict[str, Program]:
    """`inpaint`, `upscale` and `edit` as of pixels; `invert` finds the noise of x's latents by DDIM, asked
    for what x was (conditions named `was_…`), and makes a sample of it that is what is asked.

    plan:             the diffusion sampler of latents
    encoder, decoder: graphs around it, each of one input
    """
    known, ddim = ConditionSpec(x), plan.as_ddim()
    found: dict[str, Program] = {}
    fits = x.axes == "CHW" and len(plan.shape) == 3
    if fits and not (x.shape[1] % plan.shape[1] or x.shape[2] % plan.shape[2]):
        inputs = {"known": known, "mask": _mask(x), **conditions}
        found["inpaint"] = Program(LatentInpaint(plan, encoder=encoder, decoder=decoder), inputs, x)
    if fits and _halved(x):
        bound = x.high if x.low == -x.high and math.isfinite(x.high) else 0.0
        found["upscale"] = Program(
            LatentUpscale(plan, encoder=encoder, decoder=decoder, bound=bound),
            {"known": known, **conditions},
            x,
        )

    def within(*legs: Diffusion | Renoise | Inversion) -> Cascade:
        outputs = ("given_latents", *("noise" for _ in legs[1:]), "latents")
        into, out = OneShot(graph=encoder, conditions=("x",)), OneShot(graph=decoder, conditions=("latents",))
        return Cascade((into, *legs, out), outputs)

    edit = within(Renoise(plan, x="given_latents"))
    invert = within(Inversion(_of_before(ddim), x="given_latents"), replace(ddim, start="noise"))
    before = {f"{WAS}{name}": spec for name, spec in conditions.items()}
    return found | {
        "edit": Program(edit, {"x": known, **conditions}, x),
        "invert": Program(invert, {"x": known, **before, **conditions}, x),
    }


def _of_before(plan: Diffusion) -> Diffusion:
    """The same sampler, asked for what was."""
    return replace(
        plan,
        conditions=tuple(f"{WAS}{name}" for name in plan.conditions),
        null={f"{WAS}{name}": value for name, value in plan.null.items()},
        encoders={f"{WAS}{name}": graph for name, graph in plan.encoders.items()},
    )


def _mask(x: ValueSpec) -> ConditionSpec:
    one = tuple(1 if axis == "C" else side for axis, side in zip(x.axes or "", x.shape, strict=True))
    return ConditionSpec(ValueSpec("mask", one, x.axes, Real(0.0, 1.0)), null=0.0)


def _halved(x: ValueSpec) -> bool:
    return not (x.shape[-1] % 2 or x.shape[-2] % 2)
