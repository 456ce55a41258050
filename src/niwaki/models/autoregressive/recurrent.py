"""Layers of recurrent cells over tokens: LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014).

They are what larger models are measured against: their state does not grow with the text.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import DataSpec, State
from niwaki.models.autoregressive.token_model import TokenModel, TokenModelConfig
from niwaki.models.registry import register, register_preset
from niwaki.nn.layers.recurrent import CELLS, Cell

__all__ = ["Recurrent", "RecurrentConfig"]


class RecurrentConfig(TokenModelConfig):
    """
    cell:  `lstm` or `gru`
    depth: number of layers, each of which adds to the stream what its cells say
    """

    cell: Cell = "lstm"
    depth: int = Field(2, ge=1)


@register("lstm")
class Recurrent(TokenModel):
    """A language model of recurrent layers with a way past each of them.

    config: RecurrentConfig
    spec:   tokens `(T,)`
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("cells",)

    Config = RecurrentConfig
    config: RecurrentConfig

    def __init__(self, config: RecurrentConfig, spec: DataSpec) -> None:
        super().__init__()
        self.begin(config, spec)
        width = config.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.depth))
        self.cells = nn.ModuleList(CELLS[config.cell](width, width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.finish(config.depth, ())
        for cell in self.cells:
            cell.initialize()  # type: ignore[operator]

    @property
    def layers(self) -> tuple[str, ...]:
        return ("norms", "cells", "norm")

    def think(self, h: Tensor) -> Tensor:
        for norm, cell in zip(self.norms, self.cells, strict=True):
            h = h + self.drop(cell(norm(h)))
        return h

    def advance(self, h: Tensor, position: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, news, at = h.squeeze(1), [], 0
        for norm, cell in zip(self.norms, self.cells, strict=True):
            parts: int = cell.parts  # type: ignore[assignment]
            fresh = cell.step(norm(x), *state[at : at + parts])  # type: ignore[operator, misc]
            news += fresh
            at += parts
            x = x + fresh[0]
        return (x.unsqueeze(1), *news)

    def carried(self) -> tuple[State, ...]:
        return tuple(
            State(f"state_{i}_{k}", f"state_{i}_{k}_new", (1, cell.hidden))  # type: ignore[arg-type]
            for i, cell in enumerate(self.cells)
            for k in range(cell.parts)  # type: ignore[arg-type]
        )


register_preset("gru", "lstm", "recurrent layers of GRU cells (Cho et al. 2014)", cell="gru")
