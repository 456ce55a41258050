"""How near a restored sample is to the truth, one number for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from niwaki.core.contract import CallError, ValueSpec

__all__ = ["MEASURES", "Measure", "by_frame", "enlarged", "measure", "psnr", "structural_similarity"]

Of = Callable[[np.ndarray, np.ndarray, ValueSpec], np.ndarray | None]

_LEAST = 1e-10
"""Mean squared error, as a share of the squared range, below which a sample is exact: 100 dB."""
_SIDE = 3


@dataclass(frozen=True)
class Measure:
    """A figure of restored samples beside PSNR.

    name, better: as the report says them (`higher`, `lower`)
    of:           restored samples, the truth `(n, …)`, their spec → one number each `(n,)`; None where it
                  does not apply
    """

    name: str
    better: str
    of: Of


MEASURES: dict[str, Measure] = {}


def measure(name: str, better: str) -> Callable[[Of], Of]:
    """Decorator: what the judge of restorations shows of samples that the function applies to."""

    def enter(of: Of) -> Of:
        MEASURES[name] = Measure(name, better, of)
        return of

    return enter


def psnr(x: np.ndarray, truth: np.ndarray, span: float) -> np.ndarray:
    """Peak signal-to-noise ratio of each sample: 10 log₁₀(span²/MSE) in dB `(n,)`, at most 100.

    x, truth: `(n, …)`; span: width of the value range
    """
    if x.shape != truth.shape:
        raise CallError(f"what is compared must have one shape, not {x.shape} and {truth.shape}")
    error = ((x.astype(np.float64) - truth) / span).reshape(len(x), -1)
    return -10.0 * np.log10(np.maximum((error**2).mean(1), _LEAST))


@measure("structural similarity (MS-SSIM)", "higher")
def structural_similarity(x: np.ndarray, truth: np.ndarray, spec: ValueSpec) -> np.ndarray | None:
    """MS-SSIM of each image with its truth `(n,)`: one scale (SSIM) below 22 pixels. None for what is no
    image of 3×3 or more, and where the values have no bounds."""
    if not (spec.axes or "").endswith("HW") or min(spec.shape[-2:]) < _SIDE or len(spec.shape) > 3:
        return None
    if not np.isfinite([spec.low, spec.high]).all():
        return None
    from niwaki.evaluation.metrics.ms_ssim import ms_ssim

    clipped = np.clip(x, spec.low, spec.high)
    return np.concatenate(
        [
            ms_ssim(
                clipped[at : at + 256],
                np.clip(truth[at : at + 256], spec.low, spec.high),
                low=spec.low,
                high=spec.high,
            )
            for at in range(0, len(x), 256)
        ]
    )


def by_frame(x: np.ndarray, truth: np.ndarray, spec: ValueSpec) -> dict[str, np.ndarray]:
    """PSNR and, where the values have bounds, structural similarity of each frame of clips, by the measure's
    name: `(n, T)`. Nothing of what is no clip.

    x, truth: `(n, T, C, H, W)`; spec: of a clip
    """
    if spec.axes != "TCHW":
        return {}
    ends = np.isfinite([spec.low, spec.high]).all()
    span = spec.high - spec.low if ends else max(float(np.ptp(truth)), 1e-12)
    frames, real = (v.reshape(-1, *v.shape[2:]) for v in (x, truth))
    alike = structural_similarity(frames, real, replace(spec, shape=spec.shape[1:], axes="CHW"))
    found = {"PSNR in dB": psnr(frames, real, span), "structural similarity (SSIM)": alike}
    return {name: each.reshape(x.shape[:2]) for name, each in found.items() if each is not None}


def enlarged(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """x `(n, …)` brought to `shape` by repeating each value; None where that takes no whole factors."""
    if x.ndim != len(shape) + 1 or any(s % have for s, have in zip(shape, x.shape[1:], strict=True)):
        return None
    for axis, size in enumerate(shape, start=1):
        x = np.repeat(x, size // x.shape[axis], axis=axis)
    return x
