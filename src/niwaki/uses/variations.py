"""One picture, made anew more and more freely."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.given import Given, given_pictures, needed_program, run_program
from niwaki.uses.settings import listed
from niwaki.uses.truth import against_truth, lines_of

__all__ = ["Variations", "VariationsOptions"]

PROGRAM = "edit"


class VariationsOptions(UseOptions):
    """
    strengths: shares of the sampler's steps that are taken, one group of variations for each, as 0.2,0.5,0.8
    each:      variations of each strength
    n:         test samples, where no files are given
    steps:     of the sampler; 0 for its own number
    """

    strengths: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    each: int = Field(2, ge=1)
    n: int = Field(8, ge=1)
    steps: int = Field(0, ge=0)

    @field_validator("strengths", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return listed(value)


@register_use("variations")
class Variations(Use):
    """Runs the program `edit` with noise of its own for each variation. In a sheet the given picture stands
    first in each row."""

    Options = VariationsOptions
    summary = "variations of a picture, from near to far"
    example = "runs/digits-ddpm three.png strengths=0.3,0.6 each=4 --class 3 -o many.png"

    def apply(self, call: Call, options: VariationsOptions) -> Outcome:
        spec = needed_program(call.model, self.name, PROGRAM).output
        if not options.strengths or min(options.strengths) <= 0 or max(options.strengths) > 1:
            raise CallError("strengths lie above 0 and are at most 1, as strengths=0.2,0.5,0.8")
        given = given_pictures(call, spec, PROGRAM, ("x",), options.n)
        many = _repeated(given, options.each)
        by_strength, measured = [], {}
        for strength in options.strengths:
            made = run_program(
                replace(call, progress=None), PROGRAM, many, {"x": many.x}, options.steps, strength=strength
            )
            by_strength.append(made.reshape(len(given.x), options.each, *spec.shape))
            measured[f"strength {strength:g}"] = made
            if call.progress:
                call.progress(len(by_strength), len(options.strengths))
        found = against_truth(measured, many.x, spec, given.dataset)
        made = np.concatenate(by_strength, 1)  # (n, strengths · each, *shape)
        sheet = np.concatenate([given.x[:, None], made], 1)
        return Outcome(
            record={"n": len(given.x), "strengths": list(options.strengths), "each": options.each,
                    "measured": found},
            lines=[f"{made.shape[0] * made.shape[1]} variations of {len(made)} pictures", *lines_of(found)],
            x=made.reshape(-1, *spec.shape), spec=spec, sheet=sheet.reshape(-1, *spec.shape),
            names=[name for name in given.names for _ in range(made.shape[1])],
            columns=sheet.shape[1], ending=".png",
        )  # fmt: skip


def _repeated(given: Given, each: int) -> Given:
    """Every picture `each` times in a row."""
    asked = {k: np.repeat(v, each, 0) for k, v in given.asked.items()}
    return Given(np.repeat(given.x, each, 0), given.names, asked, given.dataset)
