"""Series `(T)` and `(C, T)`: curves over time."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from niwaki.modalities.base import Media, Modality, csv_bytes, register_modality
from niwaki.modalities.drawing import blur, grid_size, lines
from niwaki_runtime.specs import ValueSpec

__all__ = ["Series", "as_channels"]


def as_channels(x: np.ndarray) -> np.ndarray:
    """One sample as `(C, T)`."""
    return x[None] if x.ndim == 1 else x


@register_modality("series")
class Series(Modality):
    """Measurements at even times."""

    def writers(self, spec: ValueSpec) -> Mapping[str, Callable[..., bytes]]:
        return {".csv": _table, ".png": _plots}

    def draws(self, spec: ValueSpec) -> bool:
        return True

    def show(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> Media:
        return Media("plot", lines(as_channels(x), spec.low, spec.high))

    def show_difference(self, before: np.ndarray, after: np.ndarray, spec: ValueSpec) -> Media | None:
        change = as_channels(after) - as_channels(before)
        half = (spec.high - spec.low) / 2
        return Media("plot", lines(change, -half, half))

    def say(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> str:
        """The first channel in blocks of eight heights."""
        row = as_channels(x)[0]
        low, span = float(row.min()), float(row.max() - row.min()) or 1.0
        return "".join("▁▂▃▄▅▆▇█"[min(int((v - low) / span * 8), 7)] for v in row[:100])

    def ruin(self, x: np.ndarray, spec: ValueSpec, rng: np.random.Generator) -> np.ndarray:
        """Smoothed over a quarter of their length."""
        return blur(x, x.shape[-1] / 4, (x.ndim - 1,))


def _table(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    """A row per step: number of the sample, step, a column per channel."""
    cubes = x[:, None] if x.ndim == 2 else x
    n, channels, steps = cubes.shape
    head = np.stack(np.meshgrid(np.arange(n), np.arange(steps), indexing="ij"), -1).reshape(-1, 2)
    body = cubes.transpose(0, 2, 1).reshape(-1, channels)
    names = spec.names if len(spec.names) == channels else tuple(f"channel_{c}" for c in range(channels))
    return csv_bytes(np.concatenate([head, body], 1), ("sample", "step", *names))


def _plots(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    """One small plot per sample."""
    from matplotlib.figure import Figure

    rows, columns = grid_size(len(x))
    figure = Figure(figsize=(1.8 * columns, 1.1 * rows), dpi=100)
    axes = np.atleast_1d(np.asarray(figure.subplots(rows, columns, sharey=True))).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, sample in zip(axes, x, strict=False):
        axis.plot(as_channels(sample).T, linewidth=0.9)
    figure.tight_layout(pad=0.3)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
