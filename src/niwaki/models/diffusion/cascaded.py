"""Cascaded diffusion (Ho, Saharia, Chan, Fleet, Norouzi & Salimans 2022): a model of small pictures, and one
that makes them large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Program,
    Real,
    ValueSpec,
)
from niwaki.models.diffusion.upsampler import LOW, Upsampler, UpsamplerConfig
from niwaki.models.diffusion.weak import WEAK
from niwaki.models.registry import build, register
from niwaki_runtime.samplers import Cascade, Diffusion, NoiseConditioned

__all__ = ["CascadedDiffusion", "CascadedDiffusionConfig"]

_BASE = "base"
_KNOWN = "known"


class CascadedDiffusionConfig(UpsamplerConfig):
    """
    base: name and settings of the diffusion model of small pictures, whose sides are those of the samples
          divided by `factor`
    other settings: those of the model that enlarges them, as in `DdpmConfig` and `UpsamplerConfig`;
          `sampling` is for both, as far as they have such a field
    """

    base: dict[str, Any] = Field({"name": "ddpm"})
    usual: ClassVar[dict[str, Any]] = {"solver": "ddim", "steps": 20}


@register("cascaded-diffusion")
class CascadedDiffusion(GenerativeModel):
    """Two denoisers, trained side by side on the same batches, each with an optimizer of its own.

    config: CascadedDiffusionConfig
    spec:   images `(C, H, W)` in −1 … 1, of at least 4·factor pixels a side
    """

    Config = CascadedDiffusionConfig
    example_spec: ClassVar[DataSpec] = DataSpec.of("image", (1, 16, 16), classes=10)
    config: CascadedDiffusionConfig

    def __init__(self, config: CascadedDiffusionConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.upsampler = Upsampler(config.model_copy(update={"sampling": {}}), spec)
        x = spec.x
        self.small = ValueSpec(x.modality, self.upsampler.small, x.axes, Real(x.low, x.high))
        self.base = _base(config, replace(spec, columns={**spec.columns, "x": self.small}))
        self.conditions = {**self.base.conditions, **self.upsampler.conditions}

    def phases(self) -> tuple[Phase, ...]:
        """Those of either model; both see the same batch."""
        both = ((_BASE, self.base), ("upsampler", self.upsampler))
        return tuple(
            replace(
                phase,
                name=_joined(part, phase.name),
                parameters=tuple(f"{part}.{name}" for name in phase.parameters),
                optimizer=_joined(part, phase.optimizer_name),
                fresh_batch=part == _BASE,
            )
            for part, model in both
            for phase in model.phases()
        )

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        self.base.begin_stage(ctx, lambda k: self._shrunk(batches(k)))
        self.upsampler.begin_stage(ctx, batches)

    def after_step(self, ctx: Context) -> None:
        self.base.after_step(ctx)
        self.upsampler.after_step(ctx)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        part, _, name = phase.partition("_")
        if part == _BASE:
            return self.base.loss(name, self._shrunk(batch), ctx)
        return self.upsampler.loss(name, batch, ctx)

    def _shrunk(self, batch: Batch) -> Batch:
        return batch.replaced(x=self.upsampler.shrunk(batch.x))

    def graphs(self) -> dict[str, Graph]:
        """Those of the base under names of their own. No rule of distillation knows the roles of the
        denoisers: what they are given, the model's own loss makes of a batch."""
        base, enlarging = self.base.graphs(), self.upsampler.graphs()
        for name in {"denoiser", WEAK} & set(base):
            base[name] = replace(base[name], role="base")
        enlarging["denoiser"] = replace(enlarging["denoiser"], role="upsampler")
        return {**{_joined(_BASE, name): graph for name, graph in base.items()}, **enlarging}

    def sampler(self) -> Cascade:
        legs = self._base_sampler(), self.upsampler.enlarging()
        return Cascade(legs, (LOW,)).override(**self.config.sampling)

    def _base_sampler(self) -> Diffusion:
        plain = self.base.sampler()
        assert isinstance(plain, Diffusion)
        return replace(
            plain,
            graph=_joined(_BASE, plain.graph),
            guide=plain.guide and _joined(_BASE, plain.guide),
            encoders={name: _joined(_BASE, graph) for name, graph in plain.encoders.items()},
        )

    def programs(self) -> dict[str, Program]:
        """`sample`; `small` makes the small pictures alone, of which `sample` makes large ones at the same
        seed; `upscale` enlarges those that `known` has, each pixel repeated."""
        x, (small, enlarging) = self.spec.x, self.sampler().legs
        assert isinstance(enlarging, NoiseConditioned)
        known = {_KNOWN: ConditionSpec(x), **self.upsampler.conditions}
        return {
            **super().programs(),
            "small": Program(small, self.base.conditions, self.small),
            "upscale": Program(replace(enlarging, known=_KNOWN), known, x),
        }


def _base(config: CascadedDiffusionConfig, spec: DataSpec) -> Any:
    """Raises CallError for a base that is no diffusion model of pixels."""
    rest = {"conditioning": config.conditioning.model_dump(), **config.base}
    name = str(rest.pop("name", ""))
    model = build(name, rest, spec)
    if not isinstance(model.sampler(), Diffusion):
        raise CallError(f"model.base must sample by one diffusion, and '{name}' does not; take ddpm or edm")
    return model


def _joined(part: str, name: str) -> str:
    return f"{part}_{name}"
