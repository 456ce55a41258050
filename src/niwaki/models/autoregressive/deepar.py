"""Series value after value by recurrent cells: whole ones, or how one goes on after its past (Salinas et al.
2020, "DeepAR", arXiv:1704.04110)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import (
    Batch,
    Context,
    DataSpec,
    Graph,
    Phase,
    Port,
    Program,
    Real,
    State,
    ValueSpec,
    View,
)
from niwaki.models.autoregressive.series_model import (
    COVARIATES,
    PAST,
    PAST_MASK,
    STATIC,
    X_MASK,
    SeriesModel,
    SeriesModelConfig,
)
from niwaki.models.registry import register
from niwaki.nn.layers.dropout import Dropout
from niwaki.nn.layers.recurrent import CELLS, Cell
from niwaki_runtime.samplers import Sampler
from niwaki_runtime.samplers.steps import Steps

__all__ = ["DeepAR", "DeepARConfig"]


class DeepARConfig(SeriesModelConfig):
    """
    cell:    `gru` or `lstm`
    width:   units of a layer
    depth:   layers, each of which adds to the stream what its cells say
    lags:    values before a step that it is told as they were; the cells remember the rest
    hidden:  units between the cells and what is said, which pruning may cut; 0 leaves them out
    dropout: of what a layer adds
    """

    cell: Cell = "gru"
    width: int = Field(48, ge=1)
    depth: int = Field(2, ge=1)
    lags: int = Field(8, ge=1)
    hidden: int = Field(0, ge=0)
    dropout: float = Field(0.1, ge=0, lt=1)


@register("deepar")
class DeepAR(SeriesModel):
    """p(x) = Π p(x_t | values before, covariates up to t, static ones), a step's channels drawn together.

    With a column `past` a sample goes on after it, in the window's own unit; without one it begins from
    nothing, in the data's unit. What is said of a step is its change from the value before.

    config: DeepARConfig
    spec:   amounts over time `(C, T)`
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("cells",)

    Config = DeepARConfig
    small_matrices = True
    config: DeepARConfig
    example_spec: ClassVar[DataSpec] = DataSpec(
        {"x": ValueSpec("series", (1, 32), "CT", Real(-math.inf, math.inf))}
    )

    def __init__(self, config: DeepARConfig, spec: DataSpec) -> None:
        super().__init__()
        self.refuse_tokens(spec, past=False)
        self.begin(config, spec)
        c, width = self.channels, config.width
        # The lags, whether the last one was measured, whether there is one at all, where the window lies.
        inputs = c * config.lags + c * self.masked + 1 + 2 * c * bool(self.past) + self.known + self.fixed
        self.enter = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.depth))
        self.cells = nn.ModuleList(CELLS[config.cell](width, width) for _ in range(config.depth))
        self.drop = Dropout(config.dropout)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, config.hidden) if config.hidden else None
        self.say = nn.Linear(config.hidden or width, c * self.head.raw)

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("forecast", ("enter", "norms", "cells", "norm", *(("mix",) if self.mix else ()), "say")),
        )

    def unit(self, named: dict[str, Tensor], n: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Centre and scale of values `(n, C, 1)`; where the window lies `(n, 2C)`, None without a past."""
        if not self.past:
            shape = (n, self.channels, 1)
            return self.centre.expand(shape), self.spread.expand(shape), None
        _, mean, deviation, where = self.window(named)
        return mean, deviation, where

    def read_in(
        self, lags: Tensor, measured: Tensor | None, begun: Tensor, known: Tensor | None, fixed: list[Tensor]
    ) -> Tensor:
        """What the first layer sees of every step: lags `(n, T, C·lags)`, measured `(n, T, C)`, begun
        `(n, T, 1)`, known `(n, T, K)`, and of the whole window what is `fixed` `(n, …)`."""
        parts = [lags, begun] + [part for part in (measured, known) if part is not None]
        parts += [row.unsqueeze(1).expand(-1, lags.shape[1], -1) for row in fixed]
        entered: Tensor = self.enter(torch.cat(parts, -1))
        return entered

    def said(self, h: Tensor, before: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        """Parameters `(n, C, T, …)` from the stream `(n, T, width)` and the values before `(n, C, T)`."""
        h = self.norm(h)
        if self.mix is not None:
            h = torch.relu(self.mix(h))
        raw = self.say(h).unflatten(2, (self.channels, self.head.raw)).transpose(1, 2)
        return self.head.parameters(raw, centre + scale * before, scale.expand_as(before))

    def parameters_of(self, x: Tensor, mask: Tensor | None, *given: Tensor) -> Tensor:
        """Teacher forcing over past and future: what is said of every value of `x` `(n, C, P + T)`, given
        those before it."""
        h, z, centre, scale, _ = self._stream(x, mask, given)
        for norm, cell in zip(self.norms, self.cells, strict=True):
            h = h + self.drop(cell(norm(h)))
        return self.said(h, F.pad(z[..., :-1], (1, 0)), centre, scale)

    def _stream(
        self, x: Tensor, mask: Tensor | None, given: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]:
        named = self.named(given)
        centre, scale, where = self.unit(named, x.shape[0])
        z = (x - centre) / scale
        z = z if mask is None else z * mask
        lags, steps = self.config.lags, x.shape[2]
        # Of step t the values t − lags … t − 1.
        before = F.pad(z, (lags, 0))
        rows = torch.stack([before[..., i : i + steps] for i in range(lags)], -1).transpose(1, 2).flatten(2)
        begun = torch.ones_like(rows[..., :1])
        begun = torch.cat([torch.zeros_like(begun[:, :1]), begun[:, 1:]], 1)
        measured = None
        if self.masked:
            measured = torch.ones_like(z) if mask is None else mask
            measured = F.pad(measured[..., :-1], (1, 0)).transpose(1, 2)
        known = named[COVARIATES][..., :steps].transpose(1, 2) if COVARIATES in named else None
        h = self.read_in(rows, measured, begun, known, _fixed(where, named))
        return h, z, centre, scale, named

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """A proper score of every value that was measured, given those before it, in the channel's spread."""
        given, x = self.given(batch), batch.x
        mask = batch.get(X_MASK)
        if self.past:
            x = torch.cat([batch[PAST], x], 2)
            if self.masked:
                mask = torch.cat([batch[PAST_MASK], torch.ones_like(batch.x) if mask is None else mask], 2)
        with torch.autocast(batch.x.device.type, enabled=False):  # bf16 loses differences of large values
            found = self.parameters_of(x, mask, *given)
            score = self.score(found, x, mask)
        if self.training:
            self.follow_agreement(self.ranks(found.detach(), x, mask))
        return {self.config.head: score}

    def read(self, *rest: Tensor) -> tuple[Tensor, ...]:
        """The past, in the conditions → what is said of the first step after it `(n, C, …)`, and state."""
        given = rest[: len(self.conditions)]
        named = dict(zip(self.conditions, given, strict=True))
        past, mask = named[PAST], named.get(PAST_MASK)
        # One step more, whose value nobody reads: what comes before it is all of the past.
        x, seen = F.pad(past, (0, 1)), None if mask is None else F.pad(mask, (0, 1))
        h, z, centre, scale, _ = self._stream(x, seen, given)
        news: list[Tensor] = [F.pad(z, (self.config.lags, 0))[..., -1 - self.config.lags : -1]]
        for norm, cell in zip(self.norms, self.cells, strict=True):
            outputs, last = cell.run(norm(h))  # type: ignore[operator]
            h, news = h + outputs, [*news, *last]
        said = self.said(h[:, -1:], z[..., -2:-1], centre, scale)
        return (said[..., 0, :], *news)

    def step(self, value: Tensor, position: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """The value before `(n, C)`, and the position `(1,)` of this step → what is said of it `(n, C, …)`,
        then the state: the lags `(n, C, lags)`, and the cells'."""
        count = len(self.conditions)
        given, (lags, *state) = rest[:count], rest[count:]
        named = self.named(given)
        centre, scale, where = self.unit(named, value.shape[0])
        begun = (position > 0).to(value.dtype)
        z = (value.unsqueeze(2) - centre) / scale * begun
        lags = torch.cat([lags[..., 1:], z], 2)
        known = None
        if COVARIATES in named:
            known = named[COVARIATES].index_select(2, position).transpose(1, 2)
        flag = begun.expand(value.shape[0], 1, 1)
        measured = torch.ones_like(value).unsqueeze(1) if self.masked else None
        h = self.read_in(lags.flatten(1).unsqueeze(1), measured, flag, known, _fixed(where, named))
        x, news, at = h.squeeze(1), [lags], 0
        for norm, cell in zip(self.norms, self.cells, strict=True):
            parts: int = cell.parts  # type: ignore[assignment]
            fresh = cell.step(norm(x), *state[at : at + parts])  # type: ignore[operator, misc]
            news, at, x = [*news, *fresh], at + parts, x + fresh[0]
        return (self.said(x.unsqueeze(1), z, centre, scale)[..., 0, :], *news)

    def carried(self) -> tuple[State, ...]:
        lags = State("lags", "lags_new", (1, self.channels, self.config.lags))
        return (
            lags,
            *(
                State(f"state_{i}_{k}", f"state_{i}_{k}_new", (1, cell.hidden))  # type: ignore[arg-type]
                for i, cell in enumerate(self.cells)
                for k in range(cell.parts)  # type: ignore[arg-type]
            ),
        )

    def graphs(self) -> dict[str, Graph]:
        held, ports = self.carried(), self.ports()
        value = Port("value", (1, self.channels))
        place = Port("position", (1,), "int64", batch_axis=None, high=self.past + self.future)
        found = {
            "step": Graph("forecaster", View(self, "step"), (value, place, *ports), ("parameters",), held)
        }
        if self.past:
            found["read"] = Graph("forecaster", View(self, "read"), ports, ("parameters",), held)
        return found

    def sampler(self) -> Sampler:
        low, high = (v if math.isfinite(v) else None for v in (self.spec.low, self.spec.high))
        steps = Steps(
            shape=self.spec.shape, read="read" if self.past else "", begin=self.past, head=self.head.drawn,
            conditions=tuple(self.conditions), low=low, high=high, factor=self.factor,
        )  # fmt: skip
        return steps.override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`sample`; after a past the same is `forecast`."""
        found = super().programs()
        return {**found, "forecast": found["sample"]} if self.past else found


def _fixed(where: Tensor | None, named: dict[str, Tensor]) -> list[Tensor]:
    """What is the same at every step `(n, …)`."""
    return [row for row in (where, named.get(STATIC)) if row is not None]
