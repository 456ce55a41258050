"""Forecasts of series: dilated convolutions over the past say a distribution of every future step at once.

Direct multi-horizon quantiles are those of Wen et al. 2017 (arXiv:1711.11053), the linear way beside the
network is that of Zeng et al. 2023 (arXiv:2205.13504), scaling by the window that of Kim et al. 2022 (RevIN).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
    Program,
    Real,
    ValueSpec,
    View,
)
from niwaki.models.autoregressive.heads import normal_of, trained_head
from niwaki.models.registry import ModelConfig, register
from niwaki.nn.layers.dilated import DilatedBlock, depth_for
from niwaki.nn.layers.dropout import Dropout
from niwaki_runtime.samplers import Sampler
from niwaki_runtime.samplers.paths import Paths

__all__ = ["Forecaster", "ForecasterConfig"]

_ANY = Real(-math.inf, math.inf)
PAST, COVARIATES = "past", "covariates"
_FLOOR = 1e-3  # least scale of a window, in standard deviations of the training data
_BATCHES = 8  # that the data's centre and spread are taken from
_MEMORY = 0.99  # of the running correlation of neighbouring steps


class ForecasterConfig(ModelConfig):
    """
    width:      channels of the convolutions
    hidden:     width of the layer between them and the forecast
    depth:      blocks, each reaching twice as far; None: until the last step sees the whole past
    dropout:    of what a block adds, and of the hidden layer
    head:       what is said of every step: `quantiles`, trained by the pinball loss (which is the CRPS), or a
                `mixture` of logistic distributions, trained by the likelihood
    levels:     of the quantiles
    components: of the mixture
    """

    width: int = Field(32, ge=1)
    hidden: int = Field(128, ge=1)
    depth: int | None = Field(None, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    head: Literal["quantiles", "mixture"] = "quantiles"
    levels: tuple[float, ...] = (0.02, 0.05, *(round(0.1 * k, 1) for k in range(1, 10)), 0.95, 0.98)
    components: int = Field(3, ge=1)


@register("forecaster")
class Forecaster(GenerativeModel):
    """The future `(C, T)` of a series from its past `(C, P)` and, where the data have any, covariates
    `(K, P + T)` that are known beforehand.

    Each window is brought to its own mean and deviation; a constant one, which has none, to a thousandth of
    the training data's. A sample is one path; neighbouring steps of a path agree as much as the truth's ranks
    did in training.

    config: ForecasterConfig
    spec:   amounts over time `(C, T)`, a column `past`
    """

    Config = ForecasterConfig
    config: ForecasterConfig
    example_spec: ClassVar[DataSpec] = DataSpec(
        {"x": ValueSpec("series", (1, 32), "CT", _ANY), "past": ValueSpec("series", (1, 128), "CT", _ANY)}
    )
    centre: Tensor  # (C, 1), mean of the training pasts
    spread: Tensor  # (C, 1), their standard deviation
    known_centre: Tensor  # (K, 1), the same of covariates
    known_spread: Tensor
    correlation: Tensor  # (), of neighbouring steps' ranks

    def __init__(self, config: ForecasterConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        channels, self.future, past, known = _shapes(spec, self.name)
        self.channels = channels
        self.conditions = {PAST: ConditionSpec(spec[PAST])}
        if known:
            self.conditions[COVARIATES] = ConditionSpec(spec[COVARIATES])
        self.head = trained_head(config.head, config.levels, config.components)
        width, raw = config.width, channels * self.future * self.head.raw
        depth = config.depth or depth_for(past)
        self.enter = nn.Conv1d(channels + known, width, 1)
        self.blocks = nn.ModuleList(
            DilatedBlock(width, width, 2**i, dropout=config.dropout) for i in range(depth)
        )
        # Two numbers more for each channel: where the window lies, and how wide it is.
        self.mix = nn.Linear(width + 2 * channels + known * self.future, config.hidden)
        self.drop = Dropout(config.dropout)
        self.say = nn.Linear(config.hidden, raw)
        self.linear = nn.Linear(past, self.future, bias=False)
        nn.init.zeros_(self.linear.weight)  # begins as the window's mean
        for prefix, count in (("", channels), ("known_", known)):
            self.register_buffer(f"{prefix}centre", torch.zeros(count, 1))
            self.register_buffer(f"{prefix}spread", torch.ones(count, 1))
        self.register_buffer("correlation", torch.zeros(()))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("forecast", ("enter", "blocks", "mix", "say", "linear")),)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """The unit of every channel and covariate, from the first batches."""
        first = [batches(k) for k in range(_BATCHES)]
        for name, prefix in zip(self.conditions, ("", "known_"), strict=False):
            rows = torch.cat([batch[name] for batch in first]).double().transpose(0, 1).flatten(1)
            getattr(self, f"{prefix}centre").copy_(rows.mean(1, keepdim=True))
            spread = rows.std(1, keepdim=True)
            # What never changes has no unit of its own.
            getattr(self, f"{prefix}spread").copy_(torch.where(spread > 0, spread, 1.0))

    def scale(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of every window `(n, C, 1)`; of a constant one the floor, never 0."""
        mean = past.mean(2, keepdim=True)
        # By the norm: of √(mean of squares + constant) openvino 2026.4 gives √constant.
        variance = torch.linalg.vector_norm(past - mean, dim=2, keepdim=True).square() / past.shape[2]
        return mean, torch.sqrt(variance + (_FLOOR * self.spread).square())

    def parameters_of(self, past: Tensor, covariates: Tensor | None = None) -> Tensor:
        """What is said of every step: `(n, C, T, parameters)`, in the unit of the data."""
        mean, deviation = self.scale(past)
        x = (past - mean) / deviation
        where = torch.cat([(mean - self.centre) / self.spread, torch.log(deviation / self.spread)], 1)
        entering, known = x, [where.flatten(1)]
        if covariates is not None:
            covariates = (covariates - self.known_centre) / self.known_spread
            entering = torch.cat([x, covariates[..., : past.shape[2]]], 1)
            known.append(covariates[..., past.shape[2] :].flatten(1))
        h = self.enter(entering)
        for block in self.blocks:
            h = block(h)
        h = torch.relu(self.mix(torch.cat([h[..., -1], *known], 1)))
        raw = self.say(self.drop(h)).unflatten(1, (self.channels, self.future, self.head.raw))
        middle = mean + deviation * self.linear(x)
        return self.head.parameters(raw, middle, deviation.expand_as(middle))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """A proper score of every step, in units of the channel's spread."""
        missing = [name for name in self.conditions if name not in batch]
        if missing:
            raise CallError(f"'{self.name}' needs the column '{missing[0]}', which the batch does not have")
        with torch.autocast(batch.x.device.type, enabled=False):  # bf16 loses differences of large values
            found = self.parameters_of(*(batch[name] for name in self.conditions))
            score = self.head.loss(found, batch.x, self.spread)
        if self.training:
            self._remember(found.detach(), batch.x)
        return {self.config.head: score.mean()}

    @torch.no_grad()
    def _remember(self, found: Tensor, truth: Tensor) -> None:
        """Let the correlation follow that of the ranks of neighbouring steps, z = Φ⁻¹(F(truth))."""
        z = normal_of(self.head.probability(found, truth))
        z = z - z.mean((0, 2), keepdim=True)
        now = (z[..., 1:] * z[..., :-1]).mean() / z.square().mean().clamp_min(1e-6) if z.shape[2] > 1 else 0.0
        self.correlation.lerp_(torch.as_tensor(now, dtype=torch.float32).clamp(0.0, 0.999), 1.0 - _MEMORY)

    def graphs(self) -> dict[str, Graph]:
        ports = tuple(Port(name, (1, *c.shape)) for name, c in self.conditions.items())
        return {"forecaster": Graph("forecaster", View(self, "parameters_of"), ports, ("parameters",))}

    def sampler(self) -> Sampler:
        paths = Paths(
            shape=self.spec.shape,
            graph="forecaster",
            head=self.head.drawn,
            conditions=tuple(self.conditions),
            correlation=round(float(self.correlation), 4),
        )
        return paths.override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`sample` and `forecast` are the same: one path of the future of a past that is given."""
        found = super().programs()
        return {**found, "forecast": found["sample"]}


def _shapes(spec: DataSpec, model: str) -> tuple[int, int, int, int]:
    """Channels, future steps, past steps and covariates. Raises CallError for other data."""
    if spec.axes != "CT" or spec.is_tokens or PAST not in spec:
        raise CallError(
            f"'{model}' forecasts amounts over time (C, T) from a column '{PAST}'; this data set holds "
            f"{spec.modality} of shape {spec.shape} with the columns {', '.join(spec)}"
        )
    (channels, future), past = spec.shape, spec[PAST]
    if past.axes != "CT" or past.shape[0] != channels:
        raise CallError(f"the column '{PAST}' must hold the same {channels} channels, not {past.shape}")
    if COVARIATES not in spec:
        return channels, future, past.shape[1], 0
    known, steps = spec[COVARIATES].shape
    if steps != past.shape[1] + future:
        raise CallError(
            f"the column '{COVARIATES}' must cover the past and the future, {past.shape[1] + future} steps, "
            f"not {steps}"
        )
    return channels, future, past.shape[1], known
