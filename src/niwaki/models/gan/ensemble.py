"""Several generators as one model: each sample is made by one of them, and what one of them misses another
one makes (Wang, Zhang & van de Weijer 2016, "Ensembles of generative adversarial networks")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, DataSpec, GenerativeModel, Graph, Phase
from niwaki.models.gan.adversarial import AdversarialModel
from niwaki.models.registry import ModelConfig, config_of, register, registered
from niwaki_runtime.samplers import Mixture, Sampler

__all__ = ["GanEnsemble", "GanEnsembleConfig"]


class GanEnsembleConfig(ModelConfig):
    """
    member:   name of the adversarial model, or preset, that every member is
    members:  how many there are
    settings: of each, as in its own recipe
    """

    member: str = "dcgan"
    members: int = Field(3, ge=1)
    settings: dict[str, Any] = Field({})


@register("gan-ensemble")
class GanEnsemble(GenerativeModel):
    """Members that begin with other weights and see other batches. Each has its graph, `generator_0` …; the
    sampler chooses one for each sample, by noise.

    Members may come from trainings of their own: `train.init_from: {members.0: runs/a, members.1: runs/b}`.

    config: GanEnsembleConfig
    spec:   as the members want it
    """

    Config = GanEnsembleConfig
    config: GanEnsembleConfig

    def __init__(self, config: GanEnsembleConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        kind = registered(config.member)
        if not issubclass(kind, AdversarialModel):
            raise CallError(
                f"model.member of '{self.name}' must be an adversarial model, and '{config.member}' is none"
            )
        given = {"conditioning": config.conditioning.model_dump(), **config.settings}
        settings: Any = config_of(config.member, given)
        self.members = nn.ModuleList(kind(settings, spec) for _ in range(config.members))
        self.conditions = self._member(0).conditions

    def _member(self, k: int) -> AdversarialModel:
        found = self.members[k]
        assert isinstance(found, AdversarialModel)
        return found

    def phases(self) -> tuple[Phase, ...]:
        """Those of each member, one after another; the first of each draws a batch of its own."""
        out = []
        for k in range(len(self.members)):
            for i, phase in enumerate(self._member(k).phases()):
                out.append(
                    replace(
                        phase,
                        name=f"{phase.name}_{k}",
                        parameters=tuple(f"members.{k}.{name}" for name in phase.parameters),
                        optimizer=f"{phase.optimizer_name}_{k}",
                        fresh_batch=phase.fresh_batch or i == 0,
                    )
                )
        return tuple(out)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        name, _, k = phase.rpartition("_")
        return self._member(int(k)).loss(name, batch, ctx)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        for member in self.members:
            member.begin_stage(ctx, batches)  # type: ignore[operator]

    def after_step(self, ctx: Context) -> None:
        for member in self.members:
            member.after_step(ctx)  # type: ignore[operator]

    def realness(self, batch: Batch) -> Tensor:
        """What the members' discriminators say on average."""
        each = [self._member(k).realness(batch) for k in range(len(self.members))]
        return torch.stack(each).mean(0)

    def graphs(self) -> dict[str, Graph]:
        return {f"generator_{k}": self._member(k).graphs()["generator"] for k in range(len(self.members))}

    def sampler(self) -> Sampler:
        """Every member's own, told which graph is its."""
        members = tuple(
            self._member(k).sampler().override(graph=f"generator_{k}") for k in range(len(self.members))
        )
        return Mixture(members).override(**self.config.sampling)
