"""Diversity by multi-scale structural similarity: how alike two random images of one class look.

Wang, Simoncelli & Bovik, "Multi-scale structural similarity for image quality assessment", Asilomar 2003;
between generated images of a class: Odena, Olah & Shlens, "Conditional image synthesis with auxiliary
classifier GANs", ICML 2017 (https://arxiv.org/abs/1610.09585).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.statistics.result import Result, mean_interval, signature
from niwaki.evaluation.statistics.shares import integers

__all__ = ["ms_ssim", "ms_ssim_diversity"]

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, from the finest: Wang et al., section 3.2."""
_TAPS, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def ms_ssim_diversity(
    samples: Any,
    *,
    low: float,
    high: float,
    pairs: int | None = None,
    classes: Any = None,
    seed: int = 0,
    batch: int = 256,
    compat: str | None = None,
) -> Result:
    """Mean MS-SSIM of random pairs of images of a class: 0 … 1, **lower is more diverse**, 1 is one picture.

    samples:   images (n, C, H, W) or (n, H, W) with values in low … high
    low, high: the value range; images are moved to 0 … high − low, because luminances have a zero
    pairs:     how many pairs, None for as many as there are; no sample is in two of them, so that they are
               independent and the interval is that of a mean
    classes:   integers (n,): both images of a pair are of one class; None for all in one. A class weighs by
               its number of pairs
    seed:      of the pairing
    batch:     pairs at a time
    compat:    as in `ms_ssim`

    per_sample (n,) is the similarity of the pair that the sample is in, NaN where it is in none. It has no
    floor of its own: a perfect generator scores what as many real images do.
    Raises CallError for other shapes, images smaller than 3×3, values out of the range, NaN, too many pairs.
    """
    x = _images(samples, low, high)
    label = np.zeros(len(x), dtype=np.int64) if classes is None else integers(classes, "classes", len(x))
    chosen = _pairs(label, np.random.default_rng(seed))
    available = len(chosen)
    if not available:
        raise CallError("no two images are of one class: there is no pair to compare")
    if pairs is not None and not 1 <= pairs <= available:
        raise CallError(f"pairs must be 1 … {available} for these samples (none in two pairs), not {pairs}")
    chosen = chosen[:pairs]
    similarity = np.concatenate(
        [
            ms_ssim(x[part[:, 0]], x[part[:, 1]], low=low, high=high, compat=compat)
            for part in (chosen[i : i + batch] for i in range(0, len(chosen), batch))
        ]
    )
    per_sample = np.full(len(x), np.nan)
    per_sample[chosen] = similarity[:, None]
    taps, scales = _scales(min(x.shape[-2:]))
    below, above = mean_interval(similarity)
    text = signature(
        "ms_ssim",
        scales=scales,
        taps=taps,
        range=f"{low:g}…{high:g}",
        within="class" if classes is not None else None,
        compat=compat,
        pairs=len(chosen),
        n=len(x),
    )
    interval = (max(0.0, below), min(1.0, above))
    return Result(float(similarity.mean()), interval, None, per_sample, (0, len(x)), seed, text)


def ms_ssim(first: Any, second: Any, *, low: float, high: float, compat: str | None = None) -> np.ndarray:
    """MS-SSIM of each image with its partner, both (n, C, H, W) or (n, H, W) → float64 (n,), 0 … 1.

    Π_j (mean cs_j)^w_j · (mean l·cs at the coarsest)^w, over positions and channels, with
    l = (2μμ' + C₁)/(μ² + μ'² + C₁), cs = (2σ_xx' + C₂)/(σ² + σ'² + C₂), moments under a Gaussian window that
    lies within the image, √C = 0.01 and 0.03 × range; a negative mean counts as 0. Each scale has the 2×2
    means of the one before.

    Window: 11 taps, σ = 1.5; where the smaller side has fewer than 11 pixels the largest odd number of taps
    that fits, σ in proportion (8×8: 7 taps). Scales: as many of the five as are at least one window wide
    (5 from 176 pixels, 3 from 44, 2 from 22, below that 1, which is SSIM); the weights of fewer than five are
    divided by their sum.
    compat: "torchmetrics" mirrors the image at its borders at the coarsest scale, as that library does;
            from 176 pixels only.
    """
    if compat not in (None, "torchmetrics"):
        raise CallError(f"compat '{compat}' is not known; {nearest(compat, ['torchmetrics'])}")
    x, y = _images(first, low, high), _images(second, low, high)
    if x.shape != y.shape:
        raise CallError(f"the images of a pair must have one shape, not {x.shape[1:]} and {y.shape[1:]}")
    taps, scales = _scales(min(x.shape[-2:]))
    if compat and scales < len(_WEIGHTS):
        raise CallError(f"compat '{compat}' needs images of 176 pixels or more, not {min(x.shape[-2:])}")
    n, channels = x.shape[:2]
    x = (x.to(torch.float64) - low).flatten(0, 1)[:, None]
    y = (y.to(torch.float64) - low).flatten(0, 1)[:, None]
    window = _window(taps, x.device)
    total = sum(_WEIGHTS[:scales]) if scales < len(_WEIGHTS) else 1.0  # the published five sum to 1.0001
    out = torch.ones(n, dtype=torch.float64, device=x.device)
    for j, weight in enumerate(_WEIGHTS[:scales]):
        last = j == scales - 1
        if j:
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        mirror = taps // 2 if last and compat else 0
        luminance, contrast = _similarity(_mirrored(x, mirror), _mirrored(y, mirror), window, high - low)
        local = luminance * contrast if last else contrast
        out *= local.view(n, channels, -1).mean((1, 2)).clamp(min=0.0) ** (weight / total)
    return out.cpu().numpy()


def _mirrored(x: Tensor, by: int) -> Tensor:
    return functional.pad(x, [by] * 4, mode="reflect") if by else x


def _similarity(x: Tensor, y: Tensor, window: Tensor, span: float) -> tuple[Tensor, Tensor]:
    """Luminance and contrast–structure at every position that a whole window has: (n, 1, h, w) each."""
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    maps = torch.cat([x, y, x * x, y * y, x * y])
    maps = functional.conv2d(functional.conv2d(maps, window[:, :, None]), window[..., None])
    mean_x, mean_y, xx, yy, xy = maps.chunk(5)
    var_x, var_y = (xx - mean_x**2).clamp(min=0.0), (yy - mean_y**2).clamp(min=0.0)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * (xy - mean_x * mean_y) + c2) / (var_x + var_y + c2)


def _scales(side: int) -> tuple[int, int]:
    """Taps of the window and number of scales for images whose smaller side has `side` pixels."""
    taps = min(_TAPS, side - 1 + side % 2)
    return taps, sum(side >> j >= taps for j in range(len(_WEIGHTS)))


def _window(taps: int, device: torch.device) -> Tensor:
    """One-dimensional Gaussian weights with the sum 1, as a (1, 1, taps) kernel."""
    at = torch.arange(taps, dtype=torch.float64, device=device) - taps // 2
    weights = torch.exp(-0.5 * (at / (_SIGMA * taps / _TAPS)) ** 2)
    return (weights / weights.sum()).view(1, 1, taps)


def _pairs(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Disjoint random pairs of positions with equal labels, in random order (pairs, 2)."""
    order = rng.permutation(len(label))
    order = order[np.argsort(label[order], kind="stable")]
    found = []
    for one in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        found.append(one[: len(one) // 2 * 2].reshape(-1, 2))
    return rng.permutation(np.concatenate(found))


def _images(samples: Any, low: float, high: float) -> Tensor:
    """(n, C, H, W) as given in type, checked."""
    x = samples.detach() if isinstance(samples, Tensor) else torch.from_numpy(np.asarray(samples))
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or not len(x) or min(x.shape[-2:]) < 3:
        raise CallError(f"images must be (n, channels, height, width), 3×3 or more, not {tuple(x.shape)}")
    if x.is_complex() or x.dtype == torch.bool:
        raise CallError(f"images must be real numbers, not {x.dtype}")
    if not low < high:
        raise CallError(f"a value range must rise, not {low} … {high}")
    smallest, largest = float(x.min()), float(x.max())
    slack = 1e-3 * (high - low)
    if not (low - slack <= smallest and largest <= high + slack):  # NaN is in no range
        raise CallError(f"the images must lie in {low:g} … {high:g}, not {smallest:g} … {largest:g}")
    return x
