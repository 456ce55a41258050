"""The coder of flows: local bits-back coding (Ho, Lohn & Abbeel 2019, arXiv:1905.08500), layer by layer.

Values are integers on a grid. A layer moves some of them, z = f(x; those that stay): z is *popped* under
N(f(x), (σ f′(x))²), x is pushed under N(f⁻¹(z), σ²). Together they cost −log f′, whatever σ is, where f is
straight within it (Sections 3.3 and 3.4.2); where it is not, more, and nothing is lost. Layers of constants
only change what the integers stand for. In the end z is pushed under N(0, 1); the decoder goes backwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki_runtime import noise
from niwaki_runtime.codec import normal_grid
from niwaki_runtime.codec.coder import Block, Labels, register_coder
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.level_cells import LevelCells
from niwaki_runtime.codec.level_coder import TRIAL, LevelCoder
from niwaki_runtime.codec.normal_grid import LOG_GRID, MEAN_GRID
from niwaki_runtime.codec.rounding import Rounding
from niwaki_runtime.codec.stack import Stack
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers.local_bits_back import LocalBitsBack
from niwaki_runtime.specs import Levels

__all__ = ["LocalBitsBackCoder"]

_FEWEST, _MOST = 7, 16
"""Bits behind the point of the grid."""
_WIDTH = 3
"""log₂ σ, in steps of the grid."""
_MOST_AT_ONCE = 32
_SHARE = 0.01
"""The share of a block that its first samples' noise may be, which nothing gives back."""
_RESERVE = 48
"""Bits of ground for a value and a layer: no symbol takes more."""
_TURNS = 0x7475_726E_73  # the word "turns"
_FAR = 1 << 34


@register_coder(LocalBitsBack.kind)
class LocalBitsBackCoder(LevelCoder):
    """Settings: bits behind the point of the `grid`, and how many samples go through a layer `at_once`."""

    def __init__(self, graphs: Mapping[str, Any], program: Program) -> None:
        plan, spec = program.sampler, program.inputs["x"].value
        assert isinstance(plan, LocalBitsBack)
        if not isinstance(spec.values, Levels) or spec.size != plan.size:
            raise CallError(f"a codec by 'local_bits_back' writes levels, and {spec.modality} has none")
        super().__init__(graphs, program)
        self._plan = plan
        self._moving = [i for i, back in enumerate(plan.backs) if back]
        between = self._values.seen(np.arange(1, spec.levels, dtype=np.float64) - 0.5)
        self._edges = graphs[plan.cells](np.repeat(between[:, None], plan.size, 1))[0]

    def settings(
        self, items: np.ndarray, labels: Labels, *, block: int, lossy: bool, quality: int
    ) -> dict[str, Any]:
        n, layers = min(block, len(items)), sum(map(bool, self._plan.backs))
        if not n:
            return {"grid": _FEWEST, "at_once": 1}
        # Every layer that moves half of the values adds noise of σ, which costs σ² of them each time; a bit
        # of the grid costs a bit of each value once. The sum is least where 4^grid is about 128 · n · layers.
        grid = int(np.clip(round(0.5 * math.log2(128 * n * max(1, layers))), _FEWEST, _MOST))
        whole = n * float(self.bits(items[:TRIAL], tuple(y[:TRIAL] for y in labels)).mean())
        once = self._plan.size * (grid + 2)
        return {"grid": grid, "at_once": int(np.clip(_SHARE * whole / once, 1, _MOST_AT_ONCE))}

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        try:
            grid, at_once = int(settings["grid"]), int(settings["at_once"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CodecError("the header of the coded file lacks what its coder needs") from error
        if not _FEWEST <= grid <= _MOST or not 1 <= at_once <= _MOST_AT_ONCE:
            raise CodecError("the header of the coded file contradicts itself")
        return {"grid": grid, "at_once": at_once}

    def encode(self, items: np.ndarray, labels: Labels, settings: Mapping[str, Any], *, lossy: bool) -> Block:
        stack, rounding = Stack(self._reserve(settings["at_once"])), Rounding()
        cells, scales = self._grids(settings["grid"], rounding)
        for first, end in self._batches(len(items), settings["at_once"]):
            asked = tuple(y[first:end] for y in labels)
            whole = cells.pop(stack, items[first:end])
            for i in self._moving:
                layer = self._layer(i, asked, scales[i], first, rounding)
                before = whole[:, layer.places].copy()
                after = normal_grid.pop(stack, *layer.forward(whole), sure=True).reshape(before.shape)
                whole[:, layer.places] = after
                normal_grid.push(stack, before.reshape(-1), *layer.backward(whole), sure=False)
            mean, width = self._prior(scales[-1], len(whole), first, rounding)
            turned = whole.reshape(-1) ^ self._turns(first, end, width)
            normal_grid.push(stack, turned, mean, width, sure=False)
        words, untouched = stack.to_words()
        return Block(words, untouched, rounding.to_bytes())

    def decode(
        self, block: Block, n: int, labels: Labels, settings: Mapping[str, Any], *, lossy: bool
    ) -> np.ndarray:
        stack = Stack.from_words(block.words, self._reserve(settings["at_once"]), block.mark)
        rounding = Rounding(block.ties)
        cells, scales = self._grids(settings["grid"], rounding)
        found = np.zeros((n, self._plan.size), np.int64)
        for first, end in reversed(list(self._batches(n, settings["at_once"]))):
            asked = tuple(y[first:end] for y in labels)
            mean, width = self._prior(scales[-1], end - first, first, rounding)
            turned = normal_grid.pop(stack, mean, width, sure=False)
            whole = (turned ^ self._turns(first, end, width)).reshape(end - first, -1)
            for i in reversed(self._moving):
                layer = self._layer(i, asked, scales[i], first, rounding)
                after = whole[:, layer.places].copy()
                before = normal_grid.pop(stack, *layer.backward(whole), sure=False).reshape(after.shape)
                whole[:, layer.places] = before
                normal_grid.push(stack, after.reshape(-1), *layer.forward(whole), sure=True)
            found[first:end] = cells.push(stack, whole)
            if not stack.bits:  # no encoder uses up the ground
                raise CodecError("the coded block ends before its samples do")
        if not stack.is_ground():
            raise CodecError("the coded block does not come out even")
        return found

    def _grids(self, grid: int, rounding: Rounding) -> tuple[LevelCells, list[_Scale]]:
        """The cells of levels, and what integers stand for before every layer and after the last one."""
        ones = np.ones(self._plan.size)
        scales = [_Scale(ones * 2.0**-grid, ones * 2.0 ** -(grid + 1))]
        for move, back in zip(self._plan.moves, self._plan.backs, strict=True):
            scale, shift = scales[-1].scale, scales[-1].shift
            if not back:
                low, high = self._graphs[move](np.stack([shift, shift + scale]))[0]
                scales.append(_Scale(high - low, low))
            else:
                scales.append(scales[-1])
        return LevelCells(self._edges, grid, rounding), scales

    def _layer(self, i: int, asked: Labels, scale: _Scale, first: int, rounding: Rounding) -> _Layer:
        move, back = self._graphs[self._plan.moves[i]], self._graphs[self._plan.backs[i]]
        return _Layer(move, back, asked, self._plan.places(i), scale, first, 1 + 3 * i, rounding)

    def _prior(self, scale: _Scale, m: int, first: int, rounding: Rounding) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log₂ σ of the integers that are standard normal in the end `(m · size,)`."""
        stage = 1 + 3 * len(self._plan.moves)
        mean = np.repeat((-scale.shift / scale.scale)[None], m, 0)
        width = np.repeat(-np.log2(scale.scale)[None], m, 0)
        return _rounded(mean, MEAN_GRID, rounding, first, stage), _rounded(
            width, LOG_GRID, rounding, first, stage + 1
        )

    def _turns(self, first: int, end: int, width: np.ndarray) -> np.ndarray:
        """Agreed random digits `(m · size,)` that the last ones are turned by before they are pushed: the
        next samples' noise is drawn from the bits on top of the stack, and without new randomness it would
        follow from that of the samples before."""
        drawn = noise.uniform(_TURNS, first, end - first, self._plan.size) * (1 << normal_grid.LARGEST_UNIT)
        return drawn.astype(np.int64).reshape(-1) & ((1 << normal_grid.unit_of(width)) - 1)

    def _reserve(self, at_once: int) -> int:
        """Words of the ground: all that the first samples could pop."""
        return -(-self._plan.size * at_once * _RESERVE * (len(self._moving) + 1) // 32) + 2

    def _batches(self, n: int, at_once: int) -> Iterator[tuple[int, int]]:
        """First sample and last + 1 of those that go through a layer together."""
        for first in range(0, n, at_once):
            yield first, min(n, first + at_once)


@dataclass(frozen=True)
class _Scale:
    """An integer j of a place stands for shift + scale · j, `(size,)` each."""

    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class _Layer:
    """One layer on integers `(m, size)`: the distributions of the values that it moves."""

    move: Any
    back: Any
    asked: Labels
    places: np.ndarray
    scale: _Scale
    first: int
    stage: int
    rounding: Rounding

    def forward(self, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log₂ σ of what the values become `(m · places,)`."""
        z, slopes = self.move(self._values(whole), *self.asked)
        width = _WIDTH + slopes[:, self.places] / math.log(2.0)
        return self._steps(z, 0), _rounded(width, LOG_GRID, self.rounding, self.first, self.stage + 1)

    def backward(self, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log₂ σ of what the values were `(m · places,)`."""
        mean = self._steps(self.back(self._values(whole), *self.asked)[0], 2)
        return mean, np.full(mean.shape, _WIDTH << LOG_GRID)

    def _values(self, whole: np.ndarray) -> np.ndarray:
        return np.asarray(self.scale.shift + self.scale.scale * whole)

    def _steps(self, values: np.ndarray, stage: int) -> np.ndarray:
        at = (values - self.scale.shift) / self.scale.scale
        return _rounded(at[:, self.places], MEAN_GRID, self.rounding, self.first, self.stage + stage)


def _rounded(x: np.ndarray, grid: int, rounding: Rounding, first: int, stage: int) -> np.ndarray:
    """`(m, k)` with `grid` bits behind the point as integers `(m · k,)` of bounded size."""
    return np.clip(rounding(x * (1 << grid), first=first, stage=stage), -_FAR, _FAR).reshape(-1)
