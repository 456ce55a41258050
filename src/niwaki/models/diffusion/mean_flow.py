"""Mean flows (Geng, Deng, Bai, Kolter & He 2025): a network says average velocities, so that one step is a
whole path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from niwaki.core.contract import Batch, Context, GenerativeModel, Graph, Port, Program
from niwaki.models.diffusion.config import DenoiserConfig, unless
from niwaki.models.diffusion.ddpm import Ddpm
from niwaki.models.diffusion.networks import Task
from niwaki.models.diffusion.unet import UNet, unet_settings
from niwaki.models.registry import register
from niwaki.nn.diffusion import columns, noised
from niwaki.nn.layers.embedding import Sinusoidal
from niwaki_runtime.process import LinearPath, Process
from niwaki_runtime.samplers import MeanFlow as MeanFlowSampler

__all__ = ["MeanFlow", "MeanFlowConfig", "TwoTimes", "average_velocity_target", "tempered"]

CLOCK = 16.0
"""The network's clocks run from 0 to this: its derivative by t is part of the loss, and with the clock of
1000 that denoisers have it would be all noise."""


class MeanFlowConfig(DenoiserConfig):
    """
    apart:      share of samples whose two times differ; for the others the loss is flow matching's
    guidance:   ω of the guidance that is built in: u is that of the guided field (1: none)
    mixing:     κ in the guided field: how much of it is the network's own conditional velocity instead of
                the sample's
    time_mean, time_std: of logit t and logit r in training
    power:      p of the weight 1 / (‖error‖² + c)^p of each sample (`tempered`); 0 is the squared error
    prediction: `velocity`, nothing else
    other settings: as in `DenoiserConfig`; each of `steps` is one call
    """

    apart: float = Field(0.5, ge=0, le=1)
    guidance: float = Field(1.0, ge=0)
    mixing: float = Field(0.0, ge=0, lt=1)
    time_mean: float = -0.4
    time_std: float = Field(1.0, gt=0)
    power: float = Field(1.0, ge=0)
    prediction: Literal["velocity"] = "velocity"
    weak: None = unless(None)  # type: ignore[assignment]
    repa: None = unless(None)  # type: ignore[assignment]
    network: dict[Literal["name"], Literal["unet"]] = unless({"name": "unet"})  # type: ignore[assignment]

    def process(self) -> Process:
        return LinearPath()


class TwoTimes(UNet):
    """x_t `(n, C, H, W)`, t and r float32 `(n,)` in 0 … 1, classes → what a `UNet` says of x_t, told how far
    t and r lie apart."""

    def __init__(self, channels: int, *, widths: tuple[int, ...], **settings: Any) -> None:
        width = widths[0]
        super().__init__(channels, widths=widths, vectors=(width,), **settings)
        self.interval = nn.Sequential(Sinusoidal(width), nn.Linear(width, width), nn.SiLU())

    def forward(self, x: Tensor, t: Tensor, r: Tensor, *conditions: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, CLOCK * t, *conditions, self.interval(CLOCK * (t - r)))


def average_velocity_target(
    u: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, t: Tensor, r: Tensor, velocity: Tensor
) -> Tensor:
    """v − (t − r) du/dt, which u itself is where it is the average velocity (Equation 6): d/dt of
    (t − r) u = ∫ v along the flow. No gradient passes.

    u:        (x, t, r) → `(n, *shape)`, in forward-mode derivatives
    velocity: dx/dt at `x`, `(n, *shape)`; t, r: `(n,)`
    """
    whole = torch.autocast(x.device.type, enabled=False)  # it would cast a value and not its tangent
    with torch.no_grad(), whole, sdpa_kernel(SDPBackend.MATH):  # other kernels have no forward mode
        way = (velocity, torch.ones_like(t), torch.zeros_like(r))
        change = torch.func.jvp(u, (x, t, r), way)[1]
        return velocity - columns(t - r, x) * change


def tempered(error: Tensor, power: float, c: float = 1e-3) -> Tensor:
    """φ with φ(0) = 0 and φ'(e) = 1 / (e + c)^p: its gradient is that of the squared error with the paper's
    weight (Equation 22), whose own value is near 1 whatever the error; this one falls with it."""
    if power == 1.0:
        return torch.log1p(error / c)
    return ((error + c) ** (1.0 - power) - c ** (1.0 - power)) / (1.0 - power)


@register("mean-flow")
class MeanFlow(Ddpm):
    """u(x_t, t, r): the velocity of the straight path averaged from r to t, learnt by its own derivative.

    u(x, t, t) is the velocity itself, so the same network could be followed step by step; u(x, 1, 0) is the
    way from noise to a sample at once.
    """

    Config = MeanFlowConfig
    takes_texts = False
    config: MeanFlowConfig

    def network(self, task: Task, config: DenoiserConfig) -> nn.Module:
        settings = unet_settings(config, task)
        return TwoTimes(task.channels, **{k: v for k, v in settings.items() if k != "vectors"})

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """E φ(‖u(x_t, t, r) − sg(v − (t − r) du/dt)‖²) (Equations 9 and 10), φ as `tempered` has it.

        The derivative is taken of those rows alone whose two times differ: the first ones, for the batch
        comes in random order. Of the others the target is v.
        """
        n, apart = len(batch), round(self.config.apart * len(batch))
        t, r = self._times(n, apart, ctx)
        eps = torch.randn(batch.x.shape, generator=ctx.rng, device=batch.x.device)
        x = noised(batch.x, eps, 1.0 - t, t)
        conditions = self.asked(batch, ctx)
        velocity = self._guided(eps - batch.x, x, t, conditions)
        target = velocity
        if apart:
            first = [c[:apart] for c in conditions]
            moved = average_velocity_target(
                lambda x, t, r: self.denoiser(x, t, r, *first).float(),
                x[:apart], t[:apart], r[:apart], velocity[:apart],
            )  # fmt: skip
            target = torch.cat([moved, velocity[apart:]])
        error = (self.denoiser(x, t, r, *conditions).float() - target).flatten(1).square().sum(1)
        ctx.log(squared_error=error.mean() / x[0].numel())
        return {"average_velocity": tempered(error, self.config.power).mean()}

    def _times(self, n: int, apart: int, ctx: Context) -> tuple[Tensor, Tensor]:
        """t ≥ r, both `(n,)`, equal behind the first `apart` rows."""
        z = torch.randn((2, n), generator=ctx.rng, device=ctx.rng.device)
        both = torch.sigmoid(self.config.time_mean + self.config.time_std * z)
        t, r = both.amax(0), both.amin(0)
        same = torch.arange(n, device=t.device) >= apart
        return torch.where(same, both[0], t), torch.where(same, both[0], r)

    @torch.no_grad()
    def _guided(self, velocity: Tensor, x: Tensor, t: Tensor, conditions: list[Tensor]) -> Tensor:
        """ω v + κ u(x, t, t | c) + (1 − ω − κ) u(x, t, t | ∅): the field that guidance would follow, whose
        average needs one call (Equations 19 and 20). Rows without a label keep v."""
        w, k = self.config.guidance, self.config.mixing
        if w == 1.0 or not self.guided:
            return velocity
        null = torch.full_like(conditions[0], self.classes)
        field = w * velocity + (1.0 - w - k) * self.denoiser(x, t, t, null).float()
        if k:
            field = field + k * self.denoiser(x, t, t, *conditions).float()
        return torch.where(columns(conditions[0] == self.classes, x), velocity, field)

    def graphs(self) -> dict[str, Graph]:
        inputs = (
            Port("x", (1, *self.spec.shape)),
            Port("t", (1,)),
            Port("r", (1,)),
            *self.condition_ports(),
        )
        return {"average_velocity": Graph("average_velocity", self.denoiser, inputs)}

    def sampler(self) -> MeanFlowSampler:  # type: ignore[override]
        found = MeanFlowSampler(shape=self.spec.shape, conditions=tuple(self.conditions))
        return found.override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        return GenerativeModel.programs(self)
