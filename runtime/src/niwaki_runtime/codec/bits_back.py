"""The coder of models with latents: bits-back coding of stored levels, or the latents alone with loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from niwaki_runtime.codec.coder import Block, Labels, register_coder
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.latents import LatentStack
from niwaki_runtime.codec.level_coder import TRIAL, LevelCoder
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers.bits_back import BitsBack
from niwaki_runtime.specs import Levels

__all__ = ["BitsBackCoder"]

MOST_BITS = 12
"""Bits of a latent."""
MOST_AT_ONCE = 32
"""Samples that a network is asked about at once."""
_SPARE = 2
"""Bits of a latent beyond −log₂ of its posterior's width."""
_SILENT = 0.02
"""Bits that a latent must say on average, lest it be left at its mean."""
_SHARE = 0.01
"""The share of a block that the bits of its first samples' latents may be, which nothing gives back."""
_WEIGHTS = 1 << 22
"""Log-weights of levels in memory at once while bits are measured."""


@register_coder(BitsBack.kind)
class BitsBackCoder(LevelCoder):
    """Settings are the `bits` of each latent and how many samples' latents are popped `at_once`."""

    lossy = True

    def __init__(self, graphs: Mapping[str, Any], program: Program) -> None:
        plan, spec = program.sampler, program.inputs["x"].value
        assert isinstance(plan, BitsBack)
        if not isinstance(spec.values, Levels):
            raise CallError(f"a codec by 'bits_back' writes stored levels, and {spec.modality} has none")
        super().__init__(graphs, program)
        self._plan = plan

    def asked_at_once(self) -> int:
        return int(np.clip(_WEIGHTS // (self._spec.size * self._spec.levels), 1, TRIAL))

    def settings(
        self, items: np.ndarray, labels: Labels, *, block: int, lossy: bool, quality: int
    ) -> dict[str, Any]:
        part, asked = items[:TRIAL], tuple(y[:TRIAL] for y in labels)
        if not len(part):
            return {"bits": [0] * self._plan.latents, "at_once": 1}
        if not -MOST_BITS <= quality <= MOST_BITS:
            raise CallError(f"quality lies in {-MOST_BITS} … {MOST_BITS}, not {quality}")
        narrow, said = self._stack(np.zeros(self._plan.latents, np.int64), 1).needs(part, asked)
        most = np.clip(np.ceil(narrow + (quality if lossy else _SPARE)), 0 if lossy else 1, MOST_BITS)
        bits = np.where(said > _SILENT, most, 0).astype(np.int64)
        at_once = MOST_AT_ONCE
        if not lossy:
            whole = min(block, len(items)) * float(self.bits(part, asked).mean())
            at_once = int(np.clip(_SHARE * whole / max(1, bits.sum()), 1, MOST_AT_ONCE))
        return {"bits": bits.tolist(), "at_once": at_once}

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bits, at_once = tuple(map(int, settings["bits"])), int(settings["at_once"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CodecError("the header of the coded file lacks what its coder needs") from error
        sound = (
            len(bits) == self._plan.latents
            and 1 <= at_once <= MOST_AT_ONCE
            and min(bits) >= 0
            and max(bits) <= MOST_BITS
        )
        if not sound:
            raise CodecError("the header of the coded file contradicts itself")
        return {"bits": bits, "at_once": at_once}

    def encode(self, items: np.ndarray, labels: Labels, settings: Mapping[str, Any], *, lossy: bool) -> Block:
        stack = self._stack(np.array(settings["bits"]), settings["at_once"])
        return stack.approximate(items, labels) if lossy else stack.encode(items, labels)

    def decode(
        self, block: Block, n: int, labels: Labels, settings: Mapping[str, Any], *, lossy: bool
    ) -> np.ndarray:
        stack = self._stack(np.array(settings["bits"]), settings["at_once"])
        return stack.reconstruct(block, n, labels) if lossy else stack.decode(block, n, labels)

    def _stack(self, bits: np.ndarray, at_once: int) -> LatentStack:
        return LatentStack(self._graphs, self._plan, self._spec.shape, self._values, bits, at_once)
