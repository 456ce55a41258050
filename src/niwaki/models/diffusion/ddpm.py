"""Denoising diffusion (Ho, Jain & Abbeel 2020) with a cosine schedule, v-prediction and guidance."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from niwaki.core.contract import (
    CallError,
    ConditionSpec,
    DataSpec,
    Graph,
    Port,
    Program,
    Real,
    ValueSpec,
)
from niwaki.models.diffusion.asked import AskedDenoiser, label_columns, text_columns
from niwaki.models.diffusion.config import DenoiserConfig, unless
from niwaki.models.diffusion.networks import Task, build_network, network_kind
from niwaki.models.registry import register
from niwaki.nn.diffusion_programs import pixel_programs
from niwaki.nn.layers.images import image_shape
from niwaki_runtime.process import Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, OdeLikelihood

__all__ = ["Ddpm", "DdpmConfig"]

CELL = 12.0**-0.5
"""Deviation of uniform noise in a cell of width 1."""


class DdpmConfig(DenoiserConfig):
    """
    prediction:  `v`, `epsilon`, `x0` or `velocity`
    schedule:    `cosine`, `linear` or `sigmoid`
    train_steps: timesteps of the forward process
    zero_terminal_snr: the last timestep is pure noise, as sampling starts from it (Lin et al. 2023); not with
                 `epsilon`
    spacing:     which timesteps are visited unless told otherwise
    learned_variance: the network also says each variance of ancestral sampling, between the two fixed ones
                 (Nichol & Dhariwal 2021); for `solver: ddpm`
    other settings: as in `DenoiserConfig`
    """

    prediction: Literal["v", "epsilon", "x0", "velocity"] = "v"
    schedule: Literal["cosine", "linear", "sigmoid"] = "cosine"
    train_steps: int = Field(1000, ge=2)
    zero_terminal_snr: bool = unless(False)
    learned_variance: bool = unless(False)
    usual: ClassVar[dict[str, Any]] = {"solver": "ddim", "steps": 30}
    spacing: Literal["trailing", "linspace", "leading"] = "trailing"

    @property
    def learns_variance(self) -> bool:
        return self.learned_variance

    def process(self) -> Process:
        return VariancePreserving(
            schedule=self.schedule,
            train_steps=self.train_steps,
            spacing=self.spacing,
            zero_terminal_snr=self.zero_terminal_snr,
        )


@register("ddpm")
class Ddpm(AskedDenoiser):
    """A network that takes noise away, called some tens of times per sample. The config says the process.

    config: DdpmConfig, or another DenoiserConfig
    spec:   images `(C, H, W)` in −1 … 1; height and width are multiples of 2^(number of widths − 1), or of
            the network's patch
    """

    Config: type[DenoiserConfig] = DdpmConfig
    config: DenoiserConfig
    takes_texts: ClassVar[bool] = True

    def __init__(self, config: DenoiserConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        channels, height, width = self.frame_shape(spec)
        if (spec.low, spec.high) != (-1.0, 1.0):
            raise CallError(f"'{self.name}' needs values in −1 … 1, not {spec.low} … {spec.high}")
        kind = network_kind(config)
        usual = label_columns(spec)
        if kind.asks_texts and self.takes_texts:
            usual = text_columns(spec) or usual
        self.prepare_conditions(usual, numbers=kind.takes_numbers)
        task = self.task(channels, height, width)
        self.denoiser = self.network(task, config)
        self.prepare_weak(lambda weak: self.network(task, weak))
        self.prepare_loss()

    def frame_shape(self, spec: DataSpec) -> tuple[int, int, int]:
        """(C, H, W) of what the network halves. Raises CallError for data that this model is not for."""
        return image_shape(spec, self.name)

    def network(self, task: Task, config: DenoiserConfig) -> nn.Module:
        """A denoiser: x_t, t and the conditions → what the config's `prediction` says.

        config: the model's own, or that of the weak denoiser
        """
        return build_network(config, task)

    def graphs(self) -> dict[str, Graph]:
        inputs = (Port("x", (1, *self.spec.shape)), Port("t", (1,)), *self.condition_ports())
        denoiser = self.denoiser_graph(self.denoiser, inputs)
        graphs = {**self.word_graphs(), "denoiser": denoiser, **self.weak_graphs(inputs)}
        return self.with_derivative(graphs)

    def sampler(self) -> Diffusion:
        c = self.config
        return Diffusion(
            shape=self.spec.shape,
            **c.usual,
            process=c.process(),
            prediction=c.prediction,
            **self.asking(),
            **self.guiding(),
            self_conditioning=c.self_conditioning,
            learned_variance=c.learns_variance,
        ).override(**c.sampling)

    def programs(self) -> dict[str, Program]:
        """`sample`, those of every diffusion of pixels, and `log_prob` where it is wanted."""
        plan = self.sampler()
        return {
            **super().programs(),
            **pixel_programs(plan, self.spec.x, self.conditions),
            **({"log_prob": self._log_prob(plan.as_ddim())} if self.config.likelihood else {}),
        }

    def _log_prob(self, plan: Diffusion) -> Program:
        """The density of samples, without conditions where training drops them. Of stored levels it is that
        of x + noise as wide as their cells: closer to them there is none but at the levels."""
        given = {k: spec for k, spec in self.conditions.items() if k not in plan.null}
        sampler, step = OdeLikelihood(plan, given=tuple(given)), self.level_step()
        if step:
            sampler = replace(sampler, floor=CELL * step)
        nats = ValueSpec("vector", (), "", Real(-math.inf, math.inf))
        return Program(sampler, {"x": ConditionSpec(self.spec.x), **given}, nats)
