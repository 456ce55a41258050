"""Clips of handwritten digits that move with constant velocity and bounce off the borders.

After moving MNIST (Srivastava, Mansimov & Salakhutdinov, "Unsupervised learning of video representations
using LSTMs", ICML 2015, Section 4), of scikit-learn's digits. A digit belongs to one split, and so do all
clips that it is part of. Where each digit is at every frame is known, so that a model's motion can be held
to it.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, Levels, Real, ValueSpec
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.sources.digits import choose, digits_by_split
from niwaki.data.splitting import SPLITS, shares

__all__ = ["MovingDigitsOptions", "bounced", "draw", "moving_digits"]

SIDE = 8  # pixels of a digit
RATE = 8.0  # frames per second
SLOWEST = 1 / 3  # of `speed`


class MovingDigitsOptions(Options):
    """Settings of `moving-digits`.

    samples: clips over all three splits
    digits:  in a clip; where two overlap, the brighter one is seen
    size:    height and width in pixels
    frames:  of a clip
    past:    so many of the first frames become the column `past`, and the others are the sample
    speed:   greatest speed in pixels per frame; the least is a third of it
    """

    samples: int = Field(default=6000, ge=300, le=1_000_000)
    digits: int = Field(default=1, ge=1, le=2)
    size: int = Field(default=16, ge=SIDE + 1, le=128)
    frames: int = Field(default=8, ge=2, le=256)
    past: int = Field(default=0, ge=0)
    speed: float = Field(default=1.5, gt=0, le=8)


def bounced(start: np.ndarray, velocity: np.ndarray, time: np.ndarray, room: float) -> tuple[np.ndarray, ...]:
    """Positions and velocities `(…, T)` of what moves from `start` with `velocity` `(…,)` between walls at 0
    and `room`: a straight line, folded.

    time: in frames `(T,)`

    >>> place, speed = bounced(np.array(3.0), np.array(2.0), np.arange(4), 6.0)
    >>> place.tolist(), speed.tolist()
    ([3.0, 5.0, 5.0, 3.0], [2.0, 2.0, -2.0, -2.0])
    """
    free = start[..., None] + velocity[..., None] * time
    phase = np.mod(free, 2 * room)
    back = phase > room
    return np.where(back, 2 * room - phase, phase), np.where(back, -1.0, 1.0) * velocity[..., None]


def draw(images: np.ndarray, position: np.ndarray, size: int) -> np.ndarray:
    """Images `(n, 8, 8)` with their upper left corners at `position` `(n, T, 2)` (to the right, down; in
    pixels) on black ground, bilinear between pixels: `(n, T, size, size)`."""

    def weights(place: np.ndarray) -> np.ndarray:
        """(n, T) → (n, T, size, 8): the share of each row of the image in each row of the ground."""
        away = np.arange(size)[:, None] - np.arange(images.shape[-1]) - place[..., None, None]
        return np.maximum(0.0, 1.0 - np.abs(away))

    rows, columns = weights(position[..., 1]), weights(position[..., 0])
    return rows @ images[:, None] @ columns.swapaxes(-1, -2)


def _clips(
    images: np.ndarray, options: MovingDigitsOptions, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips `(n, T, size, size)` of images `(n, digits, 8, 8)`, with positions and velocities of the digits
    `(n, digits, T, 2)`."""
    room = float(options.size - SIDE)
    n = images.shape[:2]
    angle = rng.uniform(0, 2 * math.pi, n)
    speed = options.speed * rng.uniform(SLOWEST, 1.0, n)
    velocity = np.stack([np.cos(angle), np.sin(angle)], -1) * speed[..., None]
    place, going = bounced(rng.uniform(0, room, (*n, 2)), velocity, np.arange(options.frames), room)
    place, going = place.swapaxes(-1, -2), going.swapaxes(-1, -2)
    drawn = [draw(images[:, k], place[:, k], options.size) for k in range(options.digits)]
    return np.max(drawn, axis=0), place, going


@register("moving-digits", MovingDigitsOptions)
def moving_digits(config: DataConfig, options: MovingDigitsOptions, progress: Progress | None) -> Pool:
    """Clips `(samples, frames − past, 1, size, size)` with levels 0 … 16; `class` is the digit, or the two in
    rising order. Columns: `past` `(past, 1, size, size)`, where asked for; `position` `(2·digits, frames −
    past)`, upper left corners in pixels (to the right and down, digit by digit); `velocity` `(2·digits,)` at
    the sample's first frame, in pixels per frame.

    Raises CallError where `past` leaves no frame, and for shares too small for every digit.
    """
    if options.past >= options.frames:
        raise CallError(f"data.past={options.past} of {options.frames} frames leaves none to be made")
    single, members = digits_by_split(config, progress)
    assert single.y is not None
    y, pictures = single.y.numpy(), single.x.numpy()[:, 0].astype(np.float64)
    groups = np.array(list(combinations_with_replacement(range(single.spec.classes), options.digits)))
    counts = shares(options.samples, config.fractions)
    parts: dict[str, list[np.ndarray]] = {"x": [], "class": [], "position": [], "velocity": []}
    for split, count in enumerate(counts):
        rng = np.random.default_rng([config.seed, split, 0x307E])
        kind = rng.permutation(np.arange(count) % len(groups))
        chosen = members[split][choose(y[members[split]], groups[kind], rng)]
        clips, place, going = _clips(pictures[chosen], options, rng)
        parts["x"].append(np.rint(clips).astype(np.uint8)[:, :, None])
        parts["class"].append(kind)
        later = place[:, :, options.past :]  # (n, digits, T, 2)
        parts["position"].append(later.transpose(0, 1, 3, 2).reshape(count, 2 * options.digits, -1))
        parts["velocity"].append(going[:, :, options.past].reshape(count, 2 * options.digits))
        if progress:
            progress(split + 1, len(SPLITS))
    found = {name: np.concatenate(values) for name, values in parts.items()}
    return _pool(found, groups, single.spec, options, np.repeat(np.arange(len(SPLITS)), counts))


def _pool(
    found: dict[str, np.ndarray],
    groups: np.ndarray,
    single: DataSpec,
    options: MovingDigitsOptions,
    assignment: np.ndarray,
) -> Pool:
    def video(frames: int) -> ValueSpec:
        return ValueSpec(
            "video", (frames, 1, options.size, options.size), "TCHW", Levels(single.levels), RATE
        )

    def floats(name: str) -> Tensor:
        return torch.from_numpy(found[name].astype(np.float32))

    clips, past = torch.from_numpy(found["x"]), options.past
    which = "" if options.digits == 1 else "_{}"
    names = tuple(f"{axis}{which.format(k + 1)}" for k in range(options.digits) for axis in "xy")
    kept = options.frames - past
    place = ValueSpec(
        "series", (len(names), kept), "CT", Real(0.0, float(options.size - SIDE)), RATE, names=names
    )
    speed = ValueSpec("vector", (len(names),), "C", Real(-options.speed, options.speed), names=names)
    columns = {
        "position": Column(place, floats("position")),
        "velocity": Column(speed, floats("velocity")),
    }
    if past:
        columns["past"] = Column(video(past), clips[:, :past].contiguous())
    titles = tuple("".join(map(str, group)) for group in groups)
    return Pool(
        "moving-digits",
        DataSpec({"x": video(kept), "class": ValueSpec.label(len(groups), titles)}),
        clips[:, past:].contiguous(),
        torch.from_numpy(found["class"].astype(np.int64)),
        columns=columns,
        assignment=assignment,
    )
