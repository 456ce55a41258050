"""Two samples' latents, put together anew: the one's content in the other's style."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.latents import check_latents, conditions_of, decode, encode
from niwaki.uses.reading import read_samples

__all__ = ["Swap", "SwapOptions"]


class SwapOptions(UseOptions):
    """
    keep: share of the latents, from the first, that the content gives; the style gives the rest. With a model
          whose latents go from coarse to fine the first are the large shapes. Nothing is kept at 0, which is
          what transfers a style where the class is the content
    to:   class (a number) that the result is asked to be, where the model is conditioned; default: the first
          file's
    """

    keep: float = Field(0.5, ge=0, le=1)
    to: int | None = Field(None, ge=0)


@register_use("swap")
class Swap(Use):
    """The first file's content in the style of each of the others."""

    Options = SwapOptions
    summary = "the first sample's content in the style of the others, by their latents"
    example = "runs/digits-vae seven.png three.png keep=0 --class 7 --class 3 -o seven-like-three.png"

    def apply(self, call: Call, options: SwapOptions) -> Outcome:
        check_latents(call.model, self.name)
        spec = call.model.program("encode").inputs["x"].value
        x, _ = read_samples(call.files, spec)
        if len(x) < 2:
            raise CallError("swapping needs two samples or more: the content first, then the styles")
        asked = conditions_of(call, "encode", len(x))
        z = encode(call, x, asked)
        flat = z.reshape(len(z), -1)
        cut = round(options.keep * flat.shape[1])
        mixed = np.concatenate([np.repeat(flat[:1, :cut], len(x) - 1, 0), flat[1:, cut:]], 1)
        goal = {k: np.repeat(v[:1], len(x) - 1, 0) for k, v in asked.items()}
        if options.to is not None:
            if not goal:
                raise CallError("to is for a model that is conditioned on classes, and this one is not")
            name = next(iter(goal))
            size = call.model.program("decode").inputs[name].size
            if options.to >= size:
                raise CallError(f"to must lie in 0 … {size - 1}, not {options.to}")
            goal[name] = np.full(len(x) - 1, options.to, np.int64)
        made = decode(call, mixed.reshape(-1, *z.shape[1:]), goal)
        return Outcome(
            record={"n": len(made), "keep": options.keep, "latents_kept": cut, "latents": flat.shape[1]},
            lines=[f"{len(made)} samples: {cut} of {flat.shape[1]} latents are the first one's"],
            x=made,
            spec=spec,
            ending=".png",
        )
