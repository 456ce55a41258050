"""Parts of a picture made anew, so that they fit to what is left of it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.baselines import neighbour_fill
from niwaki.uses.given import Given, given_pictures, needed_program
from niwaki.uses.made_anew import PROGRAM, make_anew
from niwaki.uses.masks import known_pixels, random_holes
from niwaki_runtime.specs import ValueSpec

__all__ = ["Inpaint", "InpaintOptions"]


class InpaintOptions(UseOptions):
    """
    mask:    a picture of the size of the given ones, white where pixels are to be made; without it they are
             made where the given pictures are transparent
    hole:    where no mask and no files are given: sides of the rectangle that is taken out of each test
             sample, somewhere, as a share of the sample's
    n:       test samples, where no files are given
    repeats: how often each step of the sampler is taken: more calls, and parts that fit together better
    steps:   of the sampler; 0 for its own number
    """

    files: ClassVar[tuple[str, ...]] = ("mask",)
    mask: str = ""
    hole: float = Field(0.5, gt=0, le=1)
    n: int = Field(64, ge=1)
    repeats: int = Field(5, ge=1)
    steps: int = Field(0, ge=0)


@register_use("inpaint")
class Inpaint(Use):
    """Runs the program `inpaint` of a diffusion model. What is known comes out as it was given.

    Without files: test samples with a hole each, measured against what stood there and against fills that
    need no model.
    """

    Options = InpaintOptions
    summary = "parts of a picture made anew: white in a mask, or transparent"
    example = "runs/digits-ddpm seven.png mask=hole.png --class 7 -o whole.png"

    def apply(self, call: Call, options: InpaintOptions) -> Outcome:
        spec = needed_program(call.model, self.name, PROGRAM).output
        given = given_pictures(call, spec, PROGRAM, ("known", "mask"), options.n)
        known = _known(call, options, given, spec)
        return make_anew(
            call, given, known, spec,
            lambda train: {"nearest training sample": neighbour_fill(given.x, known, train)},
            steps=options.steps, repeats=options.repeats, of="their pixels",
        )  # fmt: skip


def _known(call: Call, options: InpaintOptions, given: Given, spec: ValueSpec) -> np.ndarray:
    if not call.files and not options.mask:
        return random_holes(len(given.x), spec.shape, options.hole, call.seed)
    mask = Path(options.mask) if options.mask else None
    if mask is not None and not mask.is_file():
        raise CallError(f"the mask {mask} does not exist")
    return known_pixels(mask, call.files, spec.shape, len(given.x))
