"""What a recipe says about compression: a list of small typed steps, each told apart by its `kind`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from niwaki_runtime.errors import CallError

__all__ = ["CompressConfig", "FinetuneConfig", "PruneConfig", "QuantizeConfig", "StepConfig", "check_order"]


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PruneConfig(_Step):
    """Cut whole channels out, so that every layer really becomes smaller.

    ratio:      share of the channels to take away, 0 … 1
    rounds:     cut in as many even steps, ranking anew after each
    recover:    distillation steps after each round but the last
    round_to:   widths stay multiples of this in layers wide enough (engines compute in blocks of 8 or 16)
    min_width:  no layer becomes narrower
    importance: a registered ranking of channels
    ranking:    `layer` takes the same share from every layer, `global` ranks all channels together
    exclude:    names (or beginnings of names) of modules that keep their width
    """

    kind: Literal["prune"] = "prune"
    ratio: float = Field(default=0.5, gt=0, lt=1)
    rounds: int = Field(default=1, ge=1)
    recover: int = Field(default=0, ge=0)
    round_to: int = Field(default=8, ge=1)
    min_width: int = Field(default=8, ge=1)
    importance: str = "magnitude"
    ranking: Literal["layer", "global"] = "layer"
    exclude: tuple[str, ...] = ()

    @field_validator("importance")
    @classmethod
    def _registered(cls, value: str) -> str:
        from niwaki.compression.importance import importance_of  # torch is wanted only now

        importance_of(value)
        return value


class FinetuneConfig(_Step):
    """Train on, taught by the uncompressed model at equal noise and equal condition.

    steps, batch, betas, warmup, clip, ema, precision, device: as in training
    lr:          of what is taught by the teacher; it may be high, for the distance is a tame loss
    own_lr:      of what only the model's own loss trains (a critic)
    outputs:     weight of the distance between the student's and the teacher's outputs
    distance:    `l1`, `l2`, or `l1l2` for their sum
    spread:      weight of the difference in the distances between samples, for graphs that make samples;
                 it rises over the first half
    own:         weight of the model's own loss (adversarial for a GAN: it keeps the diversity)
    """

    kind: Literal["finetune"] = "finetune"
    steps: int = Field(default=500, ge=1)
    batch: int = Field(default=128, ge=1)
    lr: float = Field(default=2e-3, gt=0)
    own_lr: float = Field(default=2e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = Field(default=20, ge=0)
    clip: float = Field(default=0.0, ge=0)
    ema: float = Field(default=0.99, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: str = "auto"
    outputs: float = Field(default=10.0, ge=0)
    distance: Literal["l1", "l2", "l1l2"] = "l1l2"
    spread: float = Field(default=10.0, ge=0)
    own: float = Field(default=0.1, ge=0)


class QuantizeConfig(_Step):
    """Static int8 on the exported graph, ranges taken from real sampling trajectories.

    bits:        8
    calibration: inputs of each graph that ranges are taken from
    seed:        of the calibration samples; disjoint from every evaluation seed by construction
    preset:      `mixed` gives activations a zero point (after SiLU, GELU), `performance` keeps them symmetric
                 (after ReLU)
    model_type:  `transformer` for attention's own patterns
    ignored:     operators to leave in float, by the names of their modules
    """

    kind: Literal["quantize"] = "quantize"
    bits: Literal[8] = 8
    calibration: int = Field(default=300, ge=8)
    seed: int = Field(default=0, ge=0, lt=2**16)
    preset: Literal["mixed", "performance"] = "mixed"
    model_type: Literal["transformer"] | None = None
    ignored: tuple[str, ...] = ()


StepConfig = Annotated[PruneConfig | FinetuneConfig | QuantizeConfig, Field(discriminator="kind")]


class CompressConfig(BaseModel):
    """A plan: steps in order.

    steps:   at least one
    batches: batch sizes at which each step's result is timed
    rounds:  timed calls per batch size
    measure: export, package and time the result of every step; if off, only that of the last one
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: tuple[StepConfig, ...] = Field(
        default=(PruneConfig(), FinetuneConfig(), QuantizeConfig()), min_length=1
    )
    batches: tuple[int, ...] = (1, 16)
    rounds: int = Field(default=15, ge=1)
    measure: bool = True

    @model_validator(mode="after")
    def _possible(self) -> Self:
        check_order(self.steps)
        return self


def check_order(steps: Sequence[_Step]) -> None:
    """Raises CallError, with the reason, for an order that makes no sense."""
    quantized = False
    for at, step in enumerate(steps):
        kind = getattr(step, "kind", "")
        if quantized and kind == "quantize":
            raise CallError(f"step {at + 1} quantizes a model that is quantized already; keep one 'quantize'")
        if quantized:
            raise CallError(
                f"step {at + 1} ('{kind}') needs weights to change, but 'quantize' has made them integers in "
                "the exported graph; put 'quantize' last"
            )
        quantized = quantized or kind == "quantize"
