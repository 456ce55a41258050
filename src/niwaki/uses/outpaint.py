"""A picture moved or made smaller within the model's frame, and what then lies around it made up."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.baselines import edge_fill
from niwaki.uses.given import Given, given_pictures, needed_program
from niwaki.uses.made_anew import PROGRAM, make_anew
from niwaki.uses.masks import size_of
from niwaki.uses.paths import ARRAYS, files_below
from niwaki_runtime.specs import ValueSpec

__all__ = ["Outpaint", "OutpaintOptions", "placed"]


class OutpaintOptions(UseOptions):
    """
    left, right, top, bottom: pixels of the model's frame that are made anew on each side. A given picture of
             the frame's size moves by left − right and top − bottom, and what leaves the frame is cut off;
             a smaller one is as large as what is left, or is placed at `left` and `top`
    n:       test samples, where no files are given: their own borders are made anew, and measured
    repeats: how often each step of the sampler is taken
    steps:   of the sampler; 0 for its own number
    """

    left: int = Field(0, ge=0)
    right: int = Field(0, ge=0)
    top: int = Field(0, ge=0)
    bottom: int = Field(0, ge=0)
    n: int = Field(64, ge=1)
    repeats: int = Field(5, ge=1)
    steps: int = Field(0, ge=0)


@register_use("outpaint")
class Outpaint(Use):
    """Runs the program `inpaint` with a frame as the mask. What is known comes out as it was given."""

    Options = OutpaintOptions
    summary = "what lies around a picture, within the model's size"
    example = "runs/digits-ddpm seven.png left=2 --class 7 -o moved.png"

    def apply(self, call: Call, options: OutpaintOptions) -> Outcome:
        spec = needed_program(call.model, self.name, PROGRAM).output
        given, known = _framed(call, options, spec)
        return make_anew(
            call, given, known, spec,
            lambda train: {"nearest known pixel": edge_fill(given.x, known)},
            steps=options.steps, repeats=options.repeats, of="the frame",
        )  # fmt: skip


def placed(x: np.ndarray, shape: tuple[int, ...], left: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """x `(n, C, h, w)` in a frame `(n, C, H, W)` of zeros, its corner at (top, left), what lies beyond cut
    off; and where it lies, float32 `(1, H, W)`. left and top may be negative."""
    height, width = shape[-2:]
    frame, known = np.zeros((len(x), *shape), np.float32), np.zeros((1, height, width), np.float32)
    rows = slice(max(top, 0), min(top + x.shape[2], height))
    columns = slice(max(left, 0), min(left + x.shape[3], width))
    inside = x[:, :, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    frame[:, :, rows, columns], known[:, rows, columns] = inside, 1.0
    return frame, known


def _framed(call: Call, options: OutpaintOptions, spec: ValueSpec) -> tuple[Given, np.ndarray]:
    """The pictures in the frame, and a mask `(n, 1, H, W)` of where they lie."""
    height, width = spec.shape[-2:]
    room = (height - options.top - options.bottom, width - options.left - options.right)
    if min(room) < 1:
        raise CallError(f"nothing is left of {width}×{height} pixels within such borders")
    size = _given_size(call, spec)
    if size == (height, width) and room == size:
        raise CallError("say how many pixels are to be made on which side, as left=2")
    if size == (height, width):
        given = given_pictures(call, spec, PROGRAM, ("known", "mask"), options.n)
        if given.dataset is not None:  # the truth: it stays where it is, without its borders
            known = np.zeros((1, height, width), np.float32)
            known[:, options.top : height - options.bottom, options.left : width - options.right] = 1.0
            return given, np.repeat(known[None], len(given.x), 0)
        if (options.left and options.right) or (options.top and options.bottom):
            raise CallError(
                f"a picture of {width}×{height} pixels fills the frame: it is moved away from one side, not "
                "from two opposite ones"
            )
        left, top = options.left - options.right, options.top - options.bottom
        frame, known = placed(given.x, spec.shape, left, top)
    else:
        if size[0] > room[0] or size[1] > room[1]:
            raise CallError(
                f"{size[1]}×{size[0]} pixels do not fit into the {room[1]}×{room[0]} that such borders leave"
            )
        if size[0] != size[1]:
            raise CallError(f"the given pictures have {size[1]}×{size[0]} pixels; give square ones")
        left = options.left or (width - size[1] - options.right if options.right else 0)
        top = options.top or (height - size[0] - options.bottom if options.bottom else 0)
        small = ValueSpec(spec.modality, (spec.shape[0], *size), spec.axes, spec.values)
        given = given_pictures(call, small, PROGRAM, ("known", "mask"), options.n)
        frame, known = placed(given.x, spec.shape, left, top)
    return Given(frame, given.names, given.asked), np.repeat(known[None], len(frame), 0)


def _given_size(call: Call, spec: ValueSpec) -> tuple[int, int]:
    """Height and width of what is given: that of the files where it is less than the model's, which are
    brought to the model's otherwise. Raises CallError where they differ."""
    height, width = spec.shape[-2:]
    pictures = [f for f in files_below(call.files) if f.suffix.lower() not in ARRAYS] if call.files else []
    sizes = {size_of(file)[::-1] for file in pictures}
    small = {size for size in sizes if size[0] <= height and size[1] <= width}
    if not small:
        return height, width
    if len(sizes) > 1:
        raise CallError("the given pictures differ in size; outpaint those of one size at a time")
    return small.pop()
