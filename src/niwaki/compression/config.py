"""What a recipe says about compression: a list of small typed steps, each told apart by its `kind`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from niwaki.compression.distillation.config import DistillConfig, FinetuneConfig, SamplingConfig
from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.quantization.config import QuantizeConfig
from niwaki.compression.sensitivity.config import SensitivityConfig
from niwaki.compression.step_config import Step
from niwaki.compression.storage.config import PackConfig, ShareConfig
from niwaki.core.base_config import BaseConfig
from niwaki_runtime.errors import CallError

__all__ = [
    "CompressConfig",
    "DistillConfig",
    "FinetuneConfig",
    "PackConfig",
    "PruneConfig",
    "QuantizeConfig",
    "SamplingConfig",
    "SensitivityConfig",
    "ShareConfig",
    "StepConfig",
    "check_order",
    "recovery_of",
]


StepConfig = Annotated[
    PruneConfig | FinetuneConfig | DistillConfig | SamplingConfig | ShareConfig | QuantizeConfig | PackConfig,
    Field(discriminator="kind"),
]


class CompressConfig(BaseConfig):
    """A plan: steps in order.

    steps:   at least one; by default half of the channels go, the rest is taught by the uncompressed model, a
             generator's temperature is matched, which gives a student its distances back (models that have
             none are left as they are), and int8 comes last
    batches: batch sizes at which each step's result is timed
    rounds:  timed calls per batch size
    measure: export, package and time the result of every step; if off, only that of the last one
    sensitivity: what each layer costs when it alone is pruned or rounded, measured before the steps. No step:
             it changes no model
    """

    steps: tuple[StepConfig, ...] = Field(
        default=(PruneConfig(), FinetuneConfig(), SamplingConfig(temperature="match"), QuantizeConfig()),
        min_length=1,
    )
    batches: tuple[int, ...] = (1, 16)
    rounds: int = Field(default=15, ge=1)
    measure: bool = True
    sensitivity: SensitivityConfig | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        check_order(self.steps)
        return self


def check_order(steps: Sequence[Step]) -> None:
    """Raises CallError, with the reason, for an order that makes no sense."""
    for at, step in enumerate(steps):
        reason = step.refusal(steps[:at])
        if not reason and any(s.kind == "pack" for s in steps[:at]):
            reason = "comes after 'pack', which stores the bundle as it then is; put 'pack' last"
        if reason:
            raise CallError(f"step {at + 1} ('{step.kind}') {reason}")


def recovery_of(steps: Sequence[StepConfig], k: int) -> StepConfig | None:
    """The fine-tuning that follows a pruning step, step k, says how to train between its rounds."""
    return next((step for step in steps[k + 1 :] if step.kind == "finetune"), None)
