"""Images pixel by pixel, from left to right and from top to bottom: what is known of the rows above is read
once for each row, so that the cost is linear in the pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register
from niwaki_runtime.samplers.reading import carry
from niwaki_runtime.samplers.tokens import Chooses

__all__ = ["Raster"]


@register
@dataclass(frozen=True)
class Raster(Chooses, Sampler):
    """Three networks, for each row, for each of its pixels, and for each channel of a pixel:

        above, *state = row(levels of the row above, *conditions, *state)
        hidden, *state = pixel(levels of the pixel to the left, above at this column, *conditions, *state)
        logits = channel(hidden, levels of this pixel, as far as they are known)

    What is not there (above the first row, to the left of the first pixel, not known yet) is level `levels`.
    The state of `row` goes on from row to row, that of `pixel` begins anew in every row.

    shape:       (C, H, W)
    levels:      that a value can have
    low, step:   the value of level k is low + step·k
    row:         name of the graph: levels `(n, C, W)` → above `(n, W, F)`
    pixel:       name of the graph: levels `(n, C)`, above `(n, F)` → hidden `(n, G)`
    channel:     name of the graph: hidden, levels `(n, C)` → logits `(n, C, levels)`
    conditions:  names of the conditions, in the order of the inputs of `row` and `pixel`
    temperature, top_k, top_p, min_p: of the choice of a level (`tokens.Choice`)
    """

    kind: ClassVar[str] = "raster"
    shape: tuple[int, int, int] = (1, 1, 1)
    levels: int = 2
    low: float = 0.0
    step: float = 1.0
    row: str = "row"
    pixel: str = "pixel"
    channel: str = "channel"
    conditions: tuple[str, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        check_shape(self.shape, "the sampler 'raster'")
        if len(self.shape) != 3 or self.levels < 2:
            raise CallError(
                "the sampler 'raster' needs images (C, H, W) of 2 levels or more, "
                f"not {self.shape} and {self.levels}"
            )
        _ = self.choice  # refuses settings that choose no level

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        row, pixel, channel = graphs[self.row], graphs[self.pixel], graphs[self.channel]
        backend, n, (count, height, width) = noise.backend, noise.n, self.shape
        asked = [conditions[name] for name in self.conditions]
        choice = self.choice
        made = np.full((n, count, height, width), self.levels, dtype=np.int64)
        nothing = np.full((n, count), self.levels, dtype=np.int64)
        rows = [backend.asarray(s.zeros(n)) for s in row.state]
        before = np.full((n, count, width), self.levels, dtype=np.int64)
        for i in range(height):
            above, rows = _call(row, (backend.asarray(before), *asked), rows)
            cells = [backend.asarray(s.zeros(n)) for s in pixel.state]
            left = nothing
            for j in range(width):
                hidden, cells = _call(pixel, (backend.asarray(left), above[:, j], *asked), cells)
                here = nothing.copy()
                for k in range(count):
                    out = channel(hidden, backend.asarray(here))
                    logits = backend.numpy(outputs(out)[0])[:, k]
                    place = (i * width + j) * count + k
                    here[:, k] = choice(logits, noise.uniform(draw=place))
                made[:, :, i, j] = left = here
                if progress:
                    progress(i * width + j + 1, height * width)
            before = made[:, :, i]
        return backend.asarray((self.low + self.step * made).astype(np.float32))

    def graphs_used(self) -> tuple[str, ...]:
        return (self.row, self.pixel, self.channel)

    def evaluations(self) -> int:
        """Of the network of pixels; that of rows is called once for each row."""
        return self.shape[1] * self.shape[2]


def _call(graph: Runner, inputs: tuple[Array, ...], state: list[Array]) -> tuple[Array, list[Array]]:
    """The output of a graph, and its state after the call."""
    out, *news = graph(*inputs, *state)
    return out, carry(state, news, graph.state, 0)
