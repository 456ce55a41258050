"""How clips move: whether neighbouring frames show the same, and whether what they show keeps its velocity.

Frame to frame alikeness after Huang et al., "VBench: comprehensive benchmark suite for video generative
models", CVPR 2024 (there by features of frames that stand still; here by pixels that may shift), the rest by
the centre of brightness, which moves as what is seen does wherever the ground is dark and nothing is hidden.
Each measures fidelity and says nothing of diversity: a clip that stands still passes them all.
"""

from __future__ import annotations

import itertools

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.result import Result, mean_interval, signature

__all__ = [
    "centres",
    "frames_recognised",
    "motion_error",
    "position_error",
    "same_all_along",
    "temporal_consistency",
]

SHIFT = 2
"""Pixels that a frame may shift from one to the next, in each direction."""


def temporal_consistency(clips: np.ndarray) -> Result:
    """The correlation of neighbouring frames, one of them shifted by the whole pixels (−2 … 2) at which it is
    highest; the mean over a clip's pairs, then over clips. 1: every frame is the one before, shifted.

    clips: `(n, T, C, H, W)`, T ≥ 2, height and width at least 5
    """
    x = _checked(clips, 2).astype(np.float64)
    height, width = x.shape[-2:]
    if min(height, width) <= 2 * SHIFT:
        raise CallError(f"frames of {height}×{width} pixels are too small for shifts of {SHIFT}")
    best = np.full((len(x), x.shape[1] - 1), -1.0)
    for down, right in itertools.product(range(-SHIFT, SHIFT + 1), repeat=2):
        before = x[:, :-1, :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
        after = x[:, 1:, :, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
        best = np.maximum(best, _correlation(before, after))
    return _result("temporal_consistency", best.mean(1))


def motion_error(clips: np.ndarray, low: float) -> Result:
    """Pixels between the centre of brightness and where it would be at the velocity of the two frames before:
    the median over a clip's frames (so that a bounce now and then does not count), then the mean over clips.

    clips: `(n, T, C, H, W)`, T ≥ 3; low: the value of darkness
    """
    at = centres(_checked(clips, 3), low)
    off = np.linalg.norm(at[:, 2:] - 2 * at[:, 1:-1] + at[:, :-2], axis=-1)
    return _result("motion_error", np.median(off, axis=1))


def position_error(clips: np.ndarray, low: float, offset: np.ndarray, room: np.ndarray) -> Result:
    """Pixels between the centre of brightness and where one thing that bounces off known walls would be by
    the velocity of the first two frames: the mean over a clip's later frames, then the median over clips (of
    some the first step is a bounce, and says nothing).

    clips:  `(n, T, C, H, W)`, T ≥ 3; low: the value of darkness
    offset: from the place that the walls hold to the centre of brightness `(n, 2)` or `(2,)`, x and y
    room:   the walls of that place are at 0 and `room` `(2,)`
    """
    at = centres(_checked(clips, 3), low) - np.expand_dims(offset, -2)
    step = np.arange(at.shape[1])[:, None]
    free = np.mod(at[:, :1] + (at[:, 1:2] - at[:, :1]) * step, 2 * room)
    expected = np.where(free > room, 2 * room - free, free)
    off = np.linalg.norm(at - expected, axis=-1)[:, 2:].mean(1)
    value = float(np.median(off))
    text = signature("position_error", n=len(off))
    return Result(value, None, None, off, (0, len(off)), None, text)


def frames_recognised(shown: np.ndarray, asked: np.ndarray) -> Result:
    """The share of frames that show what their clip was asked to show; the mean over clips.

    shown: class of each frame `(n, T)`; asked: of each clip `(n,)`
    """
    return _result("frames_recognised", (shown == asked[:, None]).mean(1))


def same_all_along(shown: np.ndarray) -> Result:
    """The share of a clip's frames that show what most of them show; the mean over clips. 1: no clip turns
    into something else on its way.

    shown: class of each frame `(n, T)`
    """
    counts = (shown[:, :, None] == shown[:, None, :]).sum(2).max(1)
    return _result("same_all_along", counts / shown.shape[1])


def centres(clips: np.ndarray, low: float) -> np.ndarray:
    """The centre of brightness of every frame `(n, T, 2)`, x and y in pixels; of a frame that is dark
    everywhere, its middle."""
    light = np.maximum(np.asarray(clips, dtype=np.float64) - low, 0.0).sum(2)  # over channels
    total = light.sum((-1, -2))
    height, width = light.shape[-2:]
    sums = (light.sum(-2) * np.arange(width)).sum(-1), (light.sum(-1) * np.arange(height)).sum(-1)
    middle = (width - 1) / 2, (height - 1) / 2
    lit = np.maximum(total, 1e-12)
    return np.stack([np.where(total > 1e-9, s / lit, m) for s, m in zip(sums, middle, strict=True)], -1)


def _checked(clips: np.ndarray, least: int) -> np.ndarray:
    x = np.asarray(clips)
    if x.ndim != 5 or not len(x):
        raise CallError(f"clips must be (n, frames, channels, height, width), not {x.shape}")
    if x.shape[1] < least:
        raise CallError(f"motion needs clips of {least} frames or more, not {x.shape[1]}")
    return x


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's, over the last three axes; frames without any contrast are alike where both are so."""
    a, b = (v - v.mean((-1, -2, -3), keepdims=True) for v in (a, b))
    aa, bb, ab = ((u * v).mean((-1, -2, -3)) for u, v in ((a, a), (b, b), (a, b)))
    flat = 1e-12
    plain = np.where((aa < flat) & (bb < flat), 1.0, 0.0)
    return np.where((aa < flat) | (bb < flat), plain, ab / np.sqrt(np.maximum(aa * bb, flat**2)))


def _result(name: str, values: np.ndarray) -> Result:
    text = signature(name, n=len(values))
    return Result(float(values.mean()), mean_interval(values), None, values, (0, len(values)), None, text)
