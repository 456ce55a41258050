"""Images that move with constant velocity over a dark ground and bounce off its borders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, Levels, Real, ValueSpec
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress
from niwaki.data.splitting import SPLITS, choose, shares

__all__ = ["MovingOptions", "bounced", "draw", "moving_pool"]

RATE = 8.0  # frames per second
SLOWEST = 1 / 3  # of `speed`


class MovingOptions(Options):
    """Settings of every source of moving images.

    samples: clips over all three splits
    size:    height and width in pixels
    frames:  of a clip
    past:    so many of the first frames become the column `past`, and the others are the sample
    speed:   greatest speed in pixels per frame; the least is a third of it
    """

    samples: int = Field(default=6000, ge=300, le=1_000_000)
    size: int = Field(default=16, ge=8, le=128)
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


def moving_pool(
    single: Pool,
    members: Sequence[np.ndarray],
    config: DataConfig,
    options: MovingOptions,
    *,
    name: str,
    things: int,
    stream: int,
    progress: Progress | None,
) -> Pool:
    """Clips of what a pool of images `(n, 1, S, S)` with classes holds, with the columns `position`,
    `velocity` and, where asked for, `past`; `class` is that of the one thing, or of several in rising order.

    members: positions of each split's images
    name:    of the data
    things:  in a clip; where two overlap, the brighter one is seen
    stream:  of the random numbers
    Raises CallError where `past` leaves no frame, and where a thing has no room to move.
    """
    if options.past >= options.frames:
        raise CallError(f"data.past={options.past} of {options.frames} frames leaves none to be made")
    side = single.x.shape[-1]
    if options.size <= side:
        raise CallError(f"data.size={options.size} leaves no room to move for what is {side} pixels large")
    assert single.y is not None
    y, pictures = single.y.numpy(), single.x.numpy()[:, 0]
    groups = np.array(list(combinations_with_replacement(range(single.spec.classes), things)))
    counts = shares(options.samples, config.fractions)
    parts: dict[str, list[np.ndarray]] = {"x": [], "class": [], "position": [], "velocity": []}
    for split, count in enumerate(counts):
        rng = np.random.default_rng([config.seed, split, stream])
        kind = rng.permutation(np.arange(count) % len(groups))
        chosen = members[split][choose(y[members[split]], groups[kind], rng)]
        clips, place, going = _clips(pictures[chosen].astype(np.float64), options, rng)
        parts["x"].append(np.rint(clips).astype(np.uint8)[:, :, None])
        parts["class"].append(kind)
        later = place[:, :, options.past :]  # (n, things, T, 2)
        parts["position"].append(later.transpose(0, 1, 3, 2).reshape(count, 2 * things, -1))
        parts["velocity"].append(going[:, :, options.past].reshape(count, 2 * things))
        if progress:
            progress(split + 1, len(SPLITS))
    found = {key: np.concatenate(values) for key, values in parts.items()}
    return _pool(name, found, groups, single.spec, options, np.repeat(np.arange(len(SPLITS)), counts))


def _clips(
    images: np.ndarray, options: MovingOptions, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips `(n, T, size, size)` of images `(n, things, S, S)`, with positions and velocities of the things
    `(n, things, T, 2)`."""
    room = float(options.size - images.shape[-1])
    n = images.shape[:2]
    angle = rng.uniform(0, 2 * math.pi, n)
    speed = options.speed * rng.uniform(SLOWEST, 1.0, n)
    velocity = np.stack([np.cos(angle), np.sin(angle)], -1) * speed[..., None]
    place, going = bounced(rng.uniform(0, room, (*n, 2)), velocity, np.arange(options.frames), room)
    place, going = place.swapaxes(-1, -2), going.swapaxes(-1, -2)
    drawn = [draw(images[:, k], place[:, k], options.size) for k in range(n[1])]
    return np.max(drawn, axis=0), place, going


def _pool(
    name: str,
    found: dict[str, np.ndarray],
    groups: np.ndarray,
    single: DataSpec,
    options: MovingOptions,
    assignment: np.ndarray,
) -> Pool:
    def video(frames: int) -> ValueSpec:
        return ValueSpec(
            "video", (frames, 1, options.size, options.size), "TCHW", Levels(single.levels), RATE
        )

    def floats(key: str) -> Tensor:
        return torch.from_numpy(found[key].astype(np.float32))

    clips, past, things = torch.from_numpy(found["x"]), options.past, groups.shape[1]
    which = "" if things == 1 else "_{}"
    names = tuple(f"{axis}{which.format(k + 1)}" for k in range(things) for axis in "xy")
    kept = options.frames - past
    room = float(options.size - single.shape[-1])
    place = ValueSpec("series", (len(names), kept), "CT", Real(0.0, room), RATE, names=names)
    speed = ValueSpec("vector", (len(names),), "C", Real(-options.speed, options.speed), names=names)
    columns = {
        "position": Column(place, floats("position")),
        "velocity": Column(speed, floats("velocity")),
    }
    if past:
        columns["past"] = Column(video(past), clips[:, :past].contiguous())
    titles = tuple("".join(single.class_names[k] for k in group) for group in groups)
    return Pool(
        name,
        DataSpec({"x": video(kept), "class": ValueSpec.label(len(groups), titles)}),
        clips[:, past:].contiguous(),
        torch.from_numpy(found["class"].astype(np.int64)),
        columns=columns,
        assignment=assignment,
    )
