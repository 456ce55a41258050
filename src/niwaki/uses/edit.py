"""A picture made into something else that keeps its shapes: noised and made anew, or by its noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.given import Given, asked_of, columns_of, given_pictures, needed_program, run_program
from niwaki.uses.latents import check_latents, conditions_of
from niwaki.uses.truth import against_truth, lines_of, side_by_side

__all__ = ["Edit", "EditOptions"]

PROGRAM = "edit"
_PICTURE = ("x", "z")
_INVERT = "invert"  # of diffusions of latents, whose encode and decode end at the latents
_WAS = "was_"


class EditOptions(UseOptions):
    """
    by:       noise: noise is added up to `strength` and taken away again; inversion: the noise that the
              picture comes from is found, and made into a picture of the other class
    strength: with noise, share of the sampler's steps that are taken: near 0 little changes, at 1 all
    was:      with inversion, the class that the given pictures are of; default: not said, where the model can
              do without
    n:        test samples, where no files are given
    steps:    of the sampler; 0 for its own number
    """

    by: Literal["noise", "inversion"] = "noise"
    strength: float = Field(0.6, gt=0, le=1)
    was: Any = None
    n: int = Field(64, ge=1)
    steps: int = Field(0, ge=0)


@register_use("edit")
class Edit(Use):
    """`--class` says what the pictures are to become. By noise it runs the program `edit` (SDEdit), by
    inversion `encode` with what they were and `decode` with what they are to be; in latents `invert` is
    both."""

    Options = EditOptions
    summary = "a picture made into another class, or anew, keeping its shapes"
    example = "runs/digits-ddpm three.png strength=0.6 --class 8 -o eight.png"

    def apply(self, call: Call, options: EditOptions) -> Outcome:
        inverted, in_latents = options.by == "inversion", _INVERT in call.model.programs()
        if inverted and not in_latents:
            check_latents(call.model, self.name)
        program = (_INVERT if in_latents else "decode") if inverted else PROGRAM
        spec = needed_program(call.model, self.name, program).output
        if call.asked is None and call.model.program(program).inputs.keys() - {*_not_asked(call, program)}:
            raise CallError("say what the pictures are to become, with --class")
        given = given_pictures(call, spec, program, _not_asked(call, program), options.n)
        record: dict[str, Any] = {"n": len(given.x), "by": options.by}
        if inverted:
            made = (_in_latents if in_latents else _by_inversion)(call, given, options)
        else:
            made = run_program(call, PROGRAM, given, {"x": given.x}, options.steps, strength=options.strength)
            record["strength"] = options.strength
        record["measured"] = against_truth({"to the given": made}, given.x, spec, given.dataset)
        sheet, width = side_by_side(given.x, made)
        return Outcome(
            record=record,
            lines=[f"{len(made)} pictures by {options.by}", *lines_of(record["measured"])],
            x=made, spec=spec, names=given.names, sheet=sheet, columns=width, ending=".png",
        )  # fmt: skip


def _not_asked(call: Call, program: str) -> tuple[str, ...]:
    """Inputs that do not say what the pictures are to become."""
    return (*_PICTURE, *(name for name in call.model.program(program).inputs if name.startswith(_WAS)))


def _in_latents(call: Call, given: Given, options: EditOptions) -> np.ndarray:
    """The program `invert`: noise of the latents, and back."""
    inputs = call.model.program(_INVERT).inputs
    others = (*_PICTURE, *(name for name in inputs if not name.startswith(_WAS)))
    was: Any = options.was
    if isinstance(was, dict):
        was = {f"{_WAS}{name}": value for name, value in was.items()}
    if was is None and given.dataset is not None:
        columns = columns_of(given.dataset.test, {k.removeprefix(_WAS): s for k, s in inputs.items()})
        was = {f"{_WAS}{k}": v[: len(given.x)] for k, v in columns.items() if f"{_WAS}{k}" in inputs}
    if was is None and any(s.null is None for k, s in inputs.items() if k.startswith(_WAS)):
        raise CallError("say what the given pictures are, with was=…")
    before = asked_of(call, _INVERT, len(given.x), others, was)
    return run_program(call, _INVERT, given, {"x": given.x, **before}, options.steps)


def _by_inversion(call: Call, given: Given, options: EditOptions) -> np.ndarray:
    if options.was is None:
        source = call.model.program("encode").inputs["x"].value
        before = given_pictures(replace(call, asked=None), source, "encode", _PICTURE, options.n)
    else:
        asked = conditions_of(call, "encode", len(given.x), _PICTURE, options.was)
        before = Given(given.x, given.names, asked)
    z = run_program(call, "encode", before, {"x": given.x}, options.steps)
    return run_program(call, "decode", given, {"z": z}, options.steps)
