"""Vectors `(C)` and single numbers; whatever has no modality of its own is shown as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from niwaki.modalities.base import Media, Modality, csv_bytes, register_modality
from niwaki.modalities.drawing import lines
from niwaki_runtime.specs import ValueSpec

__all__ = ["Label", "Vector"]


@register_modality("vector")
class Vector(Modality):
    """Rows of a table."""

    def writers(self, spec: ValueSpec) -> Mapping[str, Callable[..., bytes]]:
        return {".csv": _table}

    def show(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> Media:
        if np.size(x) <= 12:
            return Media("text", self.say(x, spec, files))
        return Media("plot", lines(np.ravel(x)[None].astype(np.float64), spec.low, spec.high))

    def say(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> str:
        return "  ".join(f"{v:.4g}" for v in np.ravel(x)[:16])

    def ruin(self, x: np.ndarray, spec: ValueSpec, rng: np.random.Generator) -> np.ndarray:
        """Normal noise of the samples' own mean and deviation in each coordinate."""
        return rng.normal(x.mean(0), x.std(0) + 1e-12, x.shape).astype(np.float32)


@register_modality("label")
class Label(Vector):
    """One of several classes."""

    def say(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> str:
        number = int(np.ravel(x)[0])
        return spec.names[number] if spec.names else str(number)

    def show(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> Media:
        return Media("text", self.say(x, spec, files))


def _table(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    flat = np.reshape(x, (len(x), -1))
    return csv_bytes(flat, spec.names if len(spec.names) == flat.shape[1] else ())
