"""What coders of stored levels share: samples as levels and back, and their bits by the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from niwaki_runtime.codec.coder import Coder, Labels, levels_of
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import Noise, NumpyBackend
from niwaki_runtime.specs import Levels

__all__ = ["TRIAL", "LevelCoder"]

TRIAL = 64
"""Samples that a file's settings are chosen by."""


class LevelCoder(Coder):
    """Coder of a program whose sampler gives the bits of `x`, and whose other conditions are the labels.

    A subclass checks in `__init__` that the samples are such as it codes.
    """

    def __init__(self, graphs: Mapping[str, Any], program: Program) -> None:
        spec = program.inputs["x"].value
        assert isinstance(spec.values, Levels)
        self._graphs, self._sampler, self._spec, self._values = graphs, program.sampler, spec, spec.values

    def items(self, x: np.ndarray) -> np.ndarray:
        return levels_of(x, self._spec)

    def samples(self, items: np.ndarray) -> np.ndarray:
        seen: np.ndarray = self._values.seen(items.astype(np.float64))
        return seen.reshape(-1, *self._spec.shape)

    def asked_at_once(self) -> int:
        """Samples whose bits are asked for in one call."""
        return TRIAL

    def bits(self, items: np.ndarray, labels: Labels) -> np.ndarray:
        parts, step, names = [np.empty(0)], self.asked_at_once(), self._sampler.conditions_used()[1:]
        for first in range(0, len(items), step):
            here = slice(first, first + step)
            asked = dict(zip(names, (y[here] for y in labels), strict=True))
            noise = Noise(NumpyBackend(), 0, first, len(items[here]))
            given = {"x": self.samples(items[here]), **asked}
            parts.append(np.asarray(self._sampler(self._graphs, noise, given)))
        return np.concatenate(parts)
