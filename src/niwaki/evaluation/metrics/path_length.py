"""Perceptual path length: how far the samples move for a small step through the latent space.

Karras, Laine & Aila, "A style-based generator architecture for generative adversarial networks", CVPR 2019,
section 4.1 (https://arxiv.org/abs/1812.04948); spherical interpolation: Shoemake, "Animating rotation with
quaternion curves", 1985.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.statistics.arrays import features as checked
from niwaki.evaluation.statistics.result import Result, normal_interval, signature
from niwaki.evaluation.statistics.shares import integers

__all__ = ["path_length"]

_PATHS = ("slerp", "lerp")


def path_length(
    sample_function: Callable[..., Any],
    latents: Any,
    *,
    features: Callable[[Any], Any] | None = None,
    labels: Any = None,
    path: str = "slerp",
    epsilon: float = 1e-4,
    trim: tuple[float, float] = (1.0, 99.0),
    seed: int = 0,
    batch: int = 64,
) -> Result:
    """E ‖f(g(z(t))) − f(g(z(t+ε)))‖²/ε², z(t) a random point between two latents: 0 … ∞, lower is smoother.

    sample_function: g, latents (b, …) → samples (b, …), of the kind given (numpy or torch); called once for
                     each end of the step with the same batch, so that noise which follows the row is shared
    latents:         (2n, …), n ≥ 2: rows 2i and 2i+1 are the ends of path i. float64 or float32: the step is
                     ε, and a network that rounds to float32 adds its squared rounding over ε²
    features:        f, samples → (b, d): an extractor, or any function; None for the samples themselves
    labels:          (n,) integers handed to g as its second argument, one per path
    path:            "slerp" along the arc between the ends, straight where they are parallel, never
                     normalised: with ends of equal length it stays on their sphere. "lerp" straight
    trim:            percentiles between which distances are averaged, the nearest paths outside included, as
                     in the paper's code; (0, 100) for all
    seed:            of the places t, uniform in 0 … 1

    The interval is that of a trimmed mean, by the winsorised variance (Tukey & McLaughlin 1963). per_sample
    (n,) belongs to the paths, untrimmed. Its unit is f's, squared: compare within one f and one latent space.
    There is no floor: data have no latents.
    Raises CallError for an odd number of latents, half precision, an unknown path, NaN, a changing width.
    """
    if path not in _PATHS:
        raise CallError(f"path '{path}' is not known; {nearest(path, _PATHS)}")
    if not 0 < epsilon < 1:
        raise CallError(f"epsilon must lie between 0 and 1, not {epsilon}")
    if not 0 <= trim[0] < trim[1] <= 100:
        raise CallError(f"trim must be two rising percentiles, not {trim}")
    z = latents.detach() if isinstance(latents, Tensor) else torch.from_numpy(np.asarray(latents))
    if z.dtype not in (torch.float32, torch.float64):
        raise CallError(f"the latents must be float64 or float32 for a step of {epsilon:g}, not {z.dtype}")
    flat = checked(latents, "latent", least=4)
    if len(z) % 2:
        raise CallError(f"latents come in pairs, the two ends of each path: {len(z)} is odd")
    n = len(z) // 2
    label = None if labels is None else integers(labels, "labels", n)
    t = torch.from_numpy(np.random.default_rng(seed).random((n, 1))).to(flat.device)
    places = [_between(flat[0::2], flat[1::2], t + step, path) for step in (0.0, epsilon)]
    squared = np.empty(n)
    with torch.no_grad():
        for at in range(0, n, batch):
            part = slice(at, min(at + batch, n))
            seen = []
            for place in places:
                point = place[part].to(z.dtype).reshape(-1, *z.shape[1:])
                given = point if isinstance(latents, Tensor) else point.numpy()
                made = sample_function(given) if label is None else sample_function(given, label[part])
                seen.append(checked(made if features is None else features(made), "path"))
            if seen[0].shape != seen[1].shape or len(seen[0]) != len(point):
                raise CallError(
                    f"{len(point)} latents gave features {tuple(seen[0].shape)} and {tuple(seen[1].shape)}"
                )
            squared[part] = (seen[0] - seen[1]).square().sum(1).cpu().numpy()
    distance = squared / epsilon**2
    value, error = _trimmed_mean(distance, trim)
    low, high = normal_interval(value, error)
    text = signature(
        "path_length",
        path=path,
        epsilon=f"{epsilon:g}",
        trim=f"{trim[0]:g}–{trim[1]:g}",
        features=getattr(features, "name", None) if features is not None else "samples",
        n=n,
    )
    return Result(value, (max(0.0, low), high), None, distance, (0, n), seed, text)


def _between(a: Tensor, b: Tensor, t: Tensor, path: str) -> Tensor:
    """The point at t on the way from a to b: (n, d), (n, d), (n, 1) → (n, d)."""
    straight = a + t * (b - a)
    if path == "lerp":
        return straight
    lengths = a.norm(dim=1, keepdim=True) * b.norm(dim=1, keepdim=True)
    cosine = (a * b).sum(1, keepdim=True) / lengths.clamp(min=1e-300)
    angle = cosine.clamp(-1.0, 1.0).arccos()
    sine = angle.sin()
    # sin((1−t)Ω)/sin Ω · a + sin(tΩ)/sin Ω · b
    curved = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / sine.clamp(min=1e-300)
    return torch.where(sine > 1e-6, curved, straight)


def _trimmed_mean(values: np.ndarray, trim: tuple[float, float]) -> tuple[float, float]:
    """Mean of the values between two percentiles, and its standard error."""
    low = np.percentile(values, trim[0], method="lower")
    high = np.percentile(values, trim[1], method="higher")
    kept = values[(values >= low) & (values <= high)]
    share = len(kept) / len(values)
    error = float(np.clip(values, low, high).std(ddof=1)) / (share * math.sqrt(len(values)))
    return float(kept.mean()), error
