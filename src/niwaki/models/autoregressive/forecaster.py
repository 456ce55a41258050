"""Forecasts of series: dilated convolutions over the past say a distribution of every future step at once.

Direct multi-horizon quantiles are those of Wen et al. 2017 (arXiv:1711.11053), the linear way beside the
network is that of Zeng et al. 2023 (arXiv:2205.13504), scaling by the window that of Kim et al. 2022 (RevIN).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    Context,
    DataSpec,
    Graph,
    Phase,
    Program,
    Real,
    ValueSpec,
    View,
)
from niwaki.models.autoregressive.series_model import (
    COVARIATES,
    PAST_MASK,
    STATIC,
    X_MASK,
    SeriesModel,
    SeriesModelConfig,
)
from niwaki.models.registry import register
from niwaki.nn.layers.dilated import DilatedBlock, depth_for
from niwaki.nn.layers.dropout import Dropout
from niwaki_runtime.samplers import Sampler
from niwaki_runtime.samplers.paths import Paths

__all__ = ["Forecaster", "ForecasterConfig"]

_ANY = Real(-math.inf, math.inf)


class ForecasterConfig(SeriesModelConfig):
    """
    width:   channels of the convolutions
    hidden:  width of the layer between them and the forecast
    depth:   blocks, each reaching twice as far; None: until the last step sees the whole past
    dropout: of what a block adds, and of the hidden layer
    season:  steps after which the series repeats itself: the network says what differs from the last season
             (1: from the last value); None: from the window's mean
    level:   steps at the end of the past whose mean rise since the season before is added to the last season;
             0 adds none
    """

    width: int = Field(32, ge=1)
    hidden: int = Field(128, ge=1)
    depth: int | None = Field(None, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    season: int | None = Field(None, ge=1)
    level: int = Field(0, ge=0)


@register("forecaster")
class Forecaster(SeriesModel):
    """The future `(C, T)` of a series from its past `(C, P)` and, where the data have any, covariates
    `(K, P + T)` that are known beforehand, static numbers `(S,)`, and a mask of what was measured.

    Each window is brought to its own mean and deviation; a constant one, which has none, to a thousandth of
    the training data's. A sample is one path; its neighbouring steps, and its channels, agree as much as the
    truth's ranks did in training.

    config: ForecasterConfig
    spec:   amounts over time `(C, T)`, a column `past`
    """

    Config = ForecasterConfig
    config: ForecasterConfig
    example_spec: ClassVar[DataSpec] = DataSpec(
        {"x": ValueSpec("series", (1, 32), "CT", _ANY), "past": ValueSpec("series", (1, 128), "CT", _ANY)}
    )
    correlation: Tensor  # (), of neighbouring steps' ranks
    last: Tensor  # (T,), places in the past of the last season, for every step of the future

    def __init__(self, config: ForecasterConfig, spec: DataSpec) -> None:
        super().__init__()
        self.refuse_tokens(spec, past=True)
        self.begin(config, spec)
        c, p, width = self.channels, self.past, config.width
        if config.season is not None and config.season > p:
            raise CallError(f"model.season of {config.season} steps does not fit into a past of {p}")
        if config.level and (config.season is None or config.season + config.level > p):
            raise CallError(
                f"model.level of {config.level} steps needs a season, and both within the past of {p} steps"
            )
        depth = config.depth or depth_for(p)
        self.enter = nn.Conv1d(c * (1 + self.masked) + self.known, width, 1)
        self.blocks = nn.ModuleList(
            DilatedBlock(width, width, 2**i, dropout=config.dropout) for i in range(depth)
        )
        # Two numbers more for each channel: where the window lies, and how wide it is.
        told = 2 * c + self.known * self.future + self.fixed
        self.mix = nn.Linear(width + told, config.hidden)
        self.drop = Dropout(config.dropout)
        self.say = nn.Linear(config.hidden, c * self.future * self.head.raw)
        self.linear = nn.Linear(p, self.future, bias=False)
        nn.init.zeros_(self.linear.weight)  # begins as the window's mean, or as the last season
        self.register_buffer("correlation", torch.zeros(()))
        season = config.season or 1
        self.register_buffer("last", p - season + torch.arange(self.future) % season, persistent=False)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("forecast", ("enter", "blocks", "mix", "say", "linear")),)

    def parameters_of(self, *given: Tensor) -> Tensor:
        """What is said of every step: `(n, C, T, parameters)`, in the unit of the data; given: the
        conditions, in their order."""
        named = self.named(given)
        x, mean, deviation, where = self.window(named)
        entering, told = [x], [where]
        if PAST_MASK in named:
            entering.append(named[PAST_MASK])
        if COVARIATES in named:
            entering.append(named[COVARIATES][..., : self.past])
            told.append(named[COVARIATES][..., self.past :].flatten(1))
        if STATIC in named:
            told.append(named[STATIC])
        h = self.enter(torch.cat(entering, 1))
        for block in self.blocks:
            h = block(h)
        h = torch.relu(self.mix(torch.cat([h[..., -1], *told], 1)))
        raw = self.say(self.drop(h)).unflatten(1, (self.channels, self.future, self.head.raw))
        middle = self.linear(x)
        if self.config.season is not None:
            middle = middle + x.index_select(2, self.last)
        if self.config.level:
            now, end = self.config.level, self.past - (self.config.season or 0)
            rise = x[..., -now:].mean(2, keepdim=True) - x[..., end - now : end].mean(2, keepdim=True)
            middle = middle + rise
        middle = mean + deviation * middle
        return self.head.parameters(raw, middle, deviation.expand_as(middle))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """A proper score of every step that was measured, in units of the channel's spread."""
        mask = batch.get(X_MASK)
        with torch.autocast(batch.x.device.type, enabled=False):  # bf16 loses differences of large values
            found = self.parameters_of(*self.given(batch))
            score = self.score(found, batch.x, mask)
        if self.training:
            self._remember(self.ranks(found.detach(), batch.x, mask))
        return {self.config.head: score}

    @torch.no_grad()
    def _remember(self, z: Tensor) -> None:
        """Let the correlations follow those of the ranks of neighbouring steps, and of channels."""
        weight = self.follow_agreement(z)
        now: Tensor | float = 0.0
        if z.shape[2] > 1:
            pairs = (z[..., 1:] * z[..., :-1] != 0).sum().clamp_min(1)
            now = (z[..., 1:] * z[..., :-1]).sum() / pairs
            now = now / (z.square().sum() / (z != 0).sum().clamp_min(1)).clamp_min(1e-6)
        now = torch.as_tensor(now, dtype=torch.float32, device=z.device)
        self.correlation.lerp_(now.clamp(0.0, 0.999), weight)

    def graphs(self) -> dict[str, Graph]:
        return {"forecaster": Graph("forecaster", View(self, "parameters_of"), self.ports(), ("parameters",))}

    def sampler(self) -> Sampler:
        paths = Paths(
            shape=self.spec.shape,
            graph="forecaster",
            head=self.head.drawn,
            conditions=tuple(self.conditions),
            correlation=round(float(self.correlation), 4),
            factor=self.factor,
        )
        return paths.override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`sample` and `forecast` are the same: one path of the future of a past that is given."""
        found = super().programs()
        return {**found, "forecast": found["sample"]}
