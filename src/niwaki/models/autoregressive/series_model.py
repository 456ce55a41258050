"""What models of series share: the columns that they are given, units, the scale of a window, and what they
learn of how steps and channels agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    DataSpec,
    GenerativeModel,
    Port,
)
from niwaki.models.autoregressive.heads import normal_of, trained_head
from niwaki.models.registry import ModelConfig

__all__ = ["COVARIATES", "PAST", "PAST_MASK", "STATIC", "X_MASK", "SeriesModel", "SeriesModelConfig"]

PAST, PAST_MASK, COVARIATES, STATIC = "past", "past_mask", "covariates", "static"
"""Columns that a model is given, in the order of its graphs' inputs."""
X_MASK = "x_mask"
"""1 where the truth was measured: what a loss learns from."""
_FLOOR = 1e-3  # least scale of a window, in standard deviations of the training data
_BATCHES = 8  # that the data's centre and spread are taken from
_MEMORY = 0.99  # of the running correlations


class SeriesModelConfig(ModelConfig):
    """
    head:       what is said of every step: `quantiles`, trained by the pinball loss (which is the CRPS), a
                `gaussian` or a `mixture` of logistic distributions, trained by the likelihood
    levels:     of the quantiles
    components: of the mixture
    """

    head: Literal["quantiles", "gaussian", "mixture"] = "quantiles"
    levels: tuple[float, ...] = (0.02, 0.05, *(round(0.1 * k, 1) for k in range(1, 10)), 0.95, 0.98)
    components: int = Field(3, ge=1)


class SeriesModel(GenerativeModel):
    """Series `(C, T)`, after a `past` `(C, P)` where the data have one.

    Attributes:
        channels, future, past: C, T and P; 0 steps of past where there is none
        known, fixed: covariates K and static numbers S
        centre, spread: mean and standard deviation of every channel `(C, 1)`; the same of what is known
        agreement: correlation of the channels' ranks `(C, C)`, as far as nothing else explains it
    """

    config: SeriesModelConfig
    centre: Tensor
    spread: Tensor
    known_centre: Tensor
    known_spread: Tensor
    fixed_centre: Tensor
    fixed_spread: Tensor
    agreement: Tensor
    batches_seen: Tensor

    def begin(self, config: SeriesModelConfig, spec: DataSpec) -> None:
        """Read the spec, and make what is not a network. Raises CallError for other data."""
        self.config, self.spec = config, spec
        self.channels, self.future = spec.shape
        self.past, self.known, self.fixed = _shapes(spec)
        self.masked = PAST_MASK in spec
        given = [name for name in (PAST, PAST_MASK, COVARIATES, STATIC) if name in spec]
        self.conditions = {name: ConditionSpec(spec[name]) for name in given}
        self.head = trained_head(config.head, config.levels, config.components)
        for prefix, count in (("", self.channels), ("known_", self.known), ("fixed_", self.fixed)):
            # Static numbers are younger than saved models, which have no place for none of them.
            kept = count > 0 or prefix != "fixed_"
            self.register_buffer(f"{prefix}centre", torch.zeros(count, 1), persistent=kept)
            self.register_buffer(f"{prefix}spread", torch.ones(count, 1), persistent=kept)
        self.register_buffer("agreement", torch.eye(self.channels))
        self.register_buffer("batches_seen", torch.zeros(()))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # Models that were saved before channels were drawn together drew each by itself.
        state_dict.setdefault(f"{prefix}agreement", torch.eye(self.channels))
        state_dict.setdefault(f"{prefix}batches_seen", torch.tensor(1 / (1 - _MEMORY)))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def begin_stage(self, ctx: object, batches: Callable[[int], Batch]) -> None:
        """The unit of every channel and covariate, from what was measured of the first batches."""
        first = [batches(k) for k in range(_BATCHES)]
        source = PAST if self.past else "x"
        mask = PAST_MASK if self.past else X_MASK
        for name, weight, prefix in (
            (source, mask, ""),
            (COVARIATES, "", "known_"),
            (STATIC, "", "fixed_"),
        ):
            if name not in first[0]:
                continue
            rows = torch.cat([_rows(batch[name]) for batch in first], 1)
            known = torch.ones_like(rows)
            if weight in first[0]:
                known = torch.cat([_rows(batch[weight]) for batch in first], 1)
            count = known.sum(1, keepdim=True).clamp_min(2)
            centre = (rows * known).sum(1, keepdim=True) / count
            spread = (((rows - centre) * known).square().sum(1, keepdim=True) / (count - 1)).sqrt()
            getattr(self, f"{prefix}centre").copy_(centre)
            # What never changes has no unit of its own.
            getattr(self, f"{prefix}spread").copy_(torch.where(spread > 0, spread, 1.0))

    def given(self, batch: Batch) -> list[Tensor]:
        """The conditions of a batch, in the order of the graphs' inputs. Raises CallError for a missing
        one."""
        missing = [name for name in self.conditions if name not in batch]
        if missing:
            raise CallError(f"'{self.name}' needs the column '{missing[0]}', which the batch does not have")
        return [batch[name] for name in self.conditions]

    def named(self, given: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Conditions in the order of the graphs' inputs, by name; covariates and static ones in their unit,
        static ones as `(n, S)`."""
        found = dict(zip(self.conditions, given, strict=True))
        if COVARIATES in found:
            found[COVARIATES] = (found[COVARIATES] - self.known_centre) / self.known_spread
        if STATIC in found:
            found[STATIC] = (found[STATIC] - self.fixed_centre[:, 0]) / self.fixed_spread[:, 0]
        return found

    def scale(self, past: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and deviation of every window `(n, C, 1)`, of what was measured; of a constant one the floor,
        never 0."""
        if mask is None:
            mean, count = past.mean(2, keepdim=True), float(past.shape[2])
            off = past - mean
        else:
            measured = mask.sum(2, keepdim=True).clamp_min(1.0)
            mean = (past * mask).sum(2, keepdim=True) / measured
            off, count = (past - mean) * mask, measured  # type: ignore[assignment]
        # By the norm: of √(mean of squares + constant) openvino 2026.4 gives √constant.
        variance = torch.linalg.vector_norm(off, dim=2, keepdim=True).square() / count
        return mean, torch.sqrt(variance + (_FLOOR * self.spread).square())

    def window(self, named: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The past in the window's own unit `(n, C, P)`, 0 where nothing was measured; mean and deviation
        `(n, C, 1)`; and where the window lies and how wide it is, in the data's unit `(n, 2C)`."""
        past, mask = named[PAST], named.get(PAST_MASK)
        mean, deviation = self.scale(past, mask)
        x = (past - mean) / deviation
        where = torch.cat([(mean - self.centre) / self.spread, torch.log(deviation / self.spread)], 1)
        return x if mask is None else x * mask, mean, deviation, where.flatten(1)

    def score(self, found: Tensor, truth: Tensor, mask: Tensor | None) -> Tensor:
        """The mean of the head's score, of what was measured, in units of the channel's spread."""
        score = self.head.loss(found, truth, self.spread)
        return score.mean() if mask is None else (score * mask).sum() / mask.sum().clamp_min(1.0)

    @torch.no_grad()
    def ranks(self, found: Tensor, truth: Tensor, mask: Tensor | None) -> Tensor:
        """z = Φ⁻¹(F(truth)), centred `(n, C, T)`: standard normal where the model is right; 0 where nothing
        was measured."""
        z = normal_of(self.head.probability(found, truth))
        known = torch.ones_like(z) if mask is None else mask
        z = z - (z * known).sum((0, 2), keepdim=True) / known.sum((0, 2), keepdim=True).clamp_min(1.0)
        return z * known

    @torch.no_grad()
    def follow_agreement(self, z: Tensor) -> Tensor:
        """Let `agreement` follow the correlation of the channels in ranks `(n, C, T)`. Back comes the weight
        of this batch: of the mean of all batches at first, then of a running one."""
        self.batches_seen += 1
        weight = (1.0 / self.batches_seen).clamp_min(1.0 - _MEMORY)
        rows = z.transpose(0, 1).flatten(1)
        power = rows.square().sum(1).clamp_min(1e-6).sqrt()
        self.agreement.lerp_((rows @ rows.T) / (power[:, None] * power[None]), weight)
        return weight

    @property
    def factor(self) -> tuple[tuple[float, ...], ...]:
        """L of L Lᵀ = agreement, which a sampler mixes the noise of channels by; () of a single channel."""
        if self.channels == 1:
            return ()
        held = 0.999 * self.agreement.double().cpu() + 0.001 * torch.eye(self.channels)
        unit = held.diagonal().sqrt()
        rows = torch.linalg.cholesky(held / (unit[:, None] * unit[None]))
        return tuple(tuple(round(float(v), 4) for v in row) for row in rows)

    def ports(self) -> tuple[Port, ...]:
        """Of the conditions."""
        return tuple(Port(name, (1, *c.shape)) for name, c in self.conditions.items())

    def refuse_tokens(self, spec: DataSpec, *, past: bool) -> None:
        """Raises CallError for data that are no amounts over time, or have no past where one is needed."""
        if spec.axes != "CT" or spec.is_tokens or (past and PAST not in spec):
            needed = f" from a column '{PAST}'" if past else ""
            verb = "forecasts" if past else "makes"
            raise CallError(
                f"'{self.name}' {verb} amounts over time (C, T){needed}; this data set holds "
                f"{spec.modality} of shape {spec.shape} with the columns {', '.join(spec)}"
            )


def _rows(values: Tensor) -> Tensor:
    """`(n, C, T)` or `(n, S)` as float64 rows of every channel."""
    return values.double().transpose(0, 1).flatten(1)


def _shapes(spec: DataSpec) -> tuple[int, int, int]:
    """Past steps, covariates and static numbers. Raises CallError where they do not fit the samples."""
    (channels, future), past = spec.shape, 0
    if PAST in spec:
        before = spec[PAST]
        if before.axes != "CT" or before.shape[0] != channels:
            raise CallError(f"the column '{PAST}' must hold the same {channels} channels, not {before.shape}")
        past = before.shape[1]
    if PAST_MASK in spec and (PAST not in spec or spec[PAST_MASK].shape != spec[PAST].shape):
        raise CallError(
            f"the column '{PAST_MASK}' must have the shape of '{PAST}', not {spec[PAST_MASK].shape}"
        )
    fixed = math.prod(spec[STATIC].shape) if STATIC in spec else 0
    if COVARIATES not in spec:
        return past, 0, fixed
    known, steps = spec[COVARIATES].shape
    if steps != past + future:
        raise CallError(
            f"the column '{COVARIATES}' must cover the past and the future, {past + future} steps, "
            f"not {steps}"
        )
    return past, known, fixed
