"""Small pictures made large: every block of pixels keeps the mean that is given, the rest is the model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.evaluation.metrics.restored import enlarged
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.baselines import bicubic
from niwaki.uses.given import Given, given_pictures, needed_program, run_program
from niwaki.uses.masks import size_of
from niwaki.uses.paths import ARRAYS, files_below
from niwaki.uses.truth import against_truth, lines_of, side_by_side
from niwaki_runtime.specs import ValueSpec

__all__ = ["Upscale", "UpscaleOptions", "block_means"]

PROGRAM = "upscale"


class UpscaleOptions(UseOptions):
    """
    factor: how often a side of the small picture goes into the model's; 0 takes it from the size of the first
            file, and of test samples 2
    n:      test samples, where no files are given
    steps:  of the sampler; 0 for its own number
    """

    factor: int = Field(0, ge=0)
    n: int = Field(64, ge=1)
    steps: int = Field(0, ge=0)


@register_use("upscale")
class Upscale(Use):
    """Runs the program `upscale` of a diffusion model.

    Without files: test samples whose blocks are averaged, measured against the samples themselves and against
    interpolation.
    """

    Options = UpscaleOptions
    summary = "small pictures made large; the means of blocks stay"
    example = "runs/digits-ddpm small.png --class 7 -o large.png"

    def apply(self, call: Call, options: UpscaleOptions) -> Outcome:
        spec = needed_program(call.model, self.name, PROGRAM).output
        factor = options.factor or (_factor(call, spec) if call.files else 2)
        if factor < 2 or spec.shape[1] % factor or spec.shape[2] % factor:
            raise CallError(
                f"the model makes {_size(spec)} pixels, which {factor} does not divide; try factor=2"
            )
        given = _given(call, spec, factor, options.n)
        small = block_means(given.x, factor)
        repeated = np.asarray(enlarged(small, spec.shape), np.float32)
        made = run_program(call, PROGRAM, given, {"known": repeated}, options.steps, factor=factor)
        off = float(np.abs(block_means(made, factor) - small).max())
        lines = [f"{len(made)} pictures from {_size(spec, factor)} to {_size(spec)} pixels"]
        record: dict[str, object] = {"n": len(made), "factor": factor, "mean_off_at_most": off}
        columns = [repeated, made]
        if given.dataset is not None:
            smooth = bicubic(small, factor, spec.low, spec.high)
            measured = against_truth(
                {"made": made, "bicubic": smooth, "nearest pixel": repeated}, given.x, spec, given.dataset
            )
            record["measured"] = measured
            lines += lines_of(measured)
            columns = [repeated, smooth, made, given.x]
        sheet, width = side_by_side(*columns)
        return Outcome(
            record=record, lines=lines, x=made, spec=spec, names=given.names, sheet=sheet, columns=width,
            ending=".png",
        )  # fmt: skip


def block_means(x: np.ndarray, factor: int) -> np.ndarray:
    """`(n, C, H, W)` → float32 `(n, C, H/f, W/f)`: means of f × f pixels."""
    n, c, height, width = x.shape
    blocks = x.astype(np.float64).reshape(n, c, height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean((3, 5)), np.float32)


def _given(call: Call, spec: ValueSpec, factor: int, n: int) -> Given:
    """Small pictures, each pixel repeated to the model's size; of test samples these as they are."""
    if not call.files:
        return given_pictures(call, spec, PROGRAM, ("known",), n)
    small = ValueSpec(
        spec.modality,
        (spec.shape[0], spec.shape[1] // factor, spec.shape[2] // factor),
        spec.axes,
        spec.values,
    )
    for file in _pictures(call):
        if size_of(file) != (small.shape[2], small.shape[1]):
            wide, high = size_of(file)
            raise CallError(
                f"{file} has {wide}×{high} pixels; with factor={factor} the model enlarges "
                f"{_size(spec, factor)} pixels to {_size(spec)}"
            )
    found = given_pictures(call, small, PROGRAM, ("known",), n)
    return Given(np.asarray(enlarged(found.x, spec.shape), np.float32), found.names, found.asked)


def _factor(call: Call, spec: ValueSpec) -> int:
    """From the size of the first picture. Raises CallError where it does not go into the model's."""
    pictures = _pictures(call)
    if not pictures:
        raise CallError("say by factor=2 how often a side of the given arrays goes into the model's")
    wide, high = size_of(pictures[0])
    height, width = spec.shape[-2:]
    if width % wide or height % high or width // wide != height // high or wide == width:
        raise CallError(
            f"{pictures[0]} has {wide}×{high} pixels, and the model makes {_size(spec)}: give a picture "
            "whose sides are the model's divided by 2, 3, 4 …"
        )
    return width // wide


def _pictures(call: Call) -> list[Path]:
    return [file for file in files_below(call.files) if file.suffix.lower() not in ARRAYS]


def _size(spec: ValueSpec, factor: int = 1) -> str:
    return f"{spec.shape[2] // factor}×{spec.shape[1] // factor}"
