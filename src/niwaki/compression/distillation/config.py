"""What a recipe says about training on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from niwaki.compression.step_config import Step
from niwaki.training import TrainConfig
from niwaki.training.settings import over

__all__ = ["DistillConfig", "FinetuneConfig", "SamplingConfig"]


FLAT = ("steps", "batch", "lr", "betas", "warmup", "clip", "ema", "precision", "device")
"""Settings of `train` that may stand beside it, as recipes wrote them before there was `train`."""

_TRAIN = {"steps": 500, "batch": 128, "lr": 2e-3, "betas": (0.9, 0.99), "warmup": 20, "ema": 0.99}


class FinetuneConfig(Step):
    """Train on, taught by the uncompressed model at equal noise and equal condition.

    train:            how, as in training (`niwaki.training.TrainConfig`, without stages); its rate is that of
                      what is taught by the teacher, and may be high, for the distance is a tame loss
    steps, batch, lr, betas, warmup, clip, ema, precision, device: short for `train.steps` and so on
    own_lr:           of what only the model's own loss trains (a critic)
    outputs:          weight of the distance between the student's and the teacher's outputs
    distance:         `l1`, `l2`, or `l1l2` for their sum
    spread:           weight of the difference in the distances between samples, for graphs that make samples;
                      it rises over the first half
    task_loss_weight: of the model's own loss (adversarial for a GAN: it keeps the diversity); `own` in older
                      recipes and records
    features:         weight of the distance between what happens inside the two networks, over `layers`
                      layers
    adversarial:      weight of a new critic that tells the student's samples from the teacher's, for models
                      that bring none; it learns at `own_lr`
    temperature:      of soft targets, for models of tokens
    teachers:         directories of further saved models (`model.json`), averaged with the uncompressed one
    """

    kind: Literal["finetune"] = "finetune"
    train: TrainConfig = Field(default_factory=lambda: TrainConfig.model_validate(_TRAIN))
    own_lr: float = Field(default=2e-4, gt=0)
    outputs: float = Field(default=10.0, ge=0)
    distance: Literal["l1", "l2", "l1l2"] = "l1l2"
    spread: float = Field(default=10.0, ge=0)
    task_loss_weight: float = Field(default=0.1, ge=0)
    features: float = Field(default=0.0, ge=0)
    layers: int = Field(default=4, ge=1)
    adversarial: float = Field(default=0.0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    teachers: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: Any) -> Any:
        """What stands beside `train` goes into it, and `own` is `task_loss_weight`. What is written last
        counts: an override follows what it overrides."""
        if not isinstance(values, Mapping):
            return values
        whole = values.get("train")  # an object leaves nothing out; a mapping changes what is usual here
        base = whole if isinstance(whole, TrainConfig) else TrainConfig.model_validate(_TRAIN)
        train = base.model_dump()
        rest: dict[str, Any] = {}
        for key, value in values.items():
            if value is base:
                continue
            if key == "train" and isinstance(value, Mapping):
                train = over(train, value)
            elif key in FLAT:
                train = over(train, {key: value})
            else:
                rest["task_loss_weight" if key == "own" else key] = value
        return {"train": train, **rest}

    @model_validator(mode="after")
    def _single(self) -> Self:
        if self.train.stages:
            raise ValueError("train: fine-tuning is one stage; write several steps instead of 'stages'")
        if self.train.devices > 1:
            raise ValueError("train.devices: a step of a plan trains on one device; leave it out")
        if not self.lr > 0:
            raise ValueError(f"lr must be greater than 0, not {self.lr}")
        return self

    @model_serializer(mode="wrap")
    def _flat(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As recipes are written: `train` holds only what is neither short nor as always."""
        values = dump(self)
        train, usual = values.pop("train", {}), TrainConfig.model_validate({}).model_dump()
        own = self.train.model_dump()
        more = {k: v for k, v in train.items() if k not in FLAT and own[k] != usual[k]}
        return {**values, **{k: train[k] for k in FLAT if k in train}, **({"train": more} if more else {})}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; settings of `train` may be given in short."""
        update = dict(update or {})
        if flat := {k: update.pop(k) for k in FLAT if k in update}:
            train: TrainConfig = update.get("train", self.train)
            update["train"] = TrainConfig.model_validate(over(train.model_dump(), flat))
        return super().model_copy(update=update, deep=deep)

    @property
    def steps(self) -> int:
        return self.train.steps

    @property
    def batch(self) -> int:
        return self.train.batch

    @property
    def lr(self) -> float:
        """Learning rate of what is taught by the teacher."""
        return self.train.optimizer_config().lr

    def refusal(self, earlier: Sequence[Step]) -> str:
        if any(step.kind == "quantize" and getattr(step, "by", "nncf") == "nncf" for step in earlier):
            return (
                "needs weights to change, but 'quantize' has made them integers in the exported graph; "
                "put 'quantize' last, or let it work on the torch model with 'backend: niwaki'"
            )
        if any(step.kind == "share" for step in earlier):
            return "would pull apart the weights that 'share' made equal; put 'share' after it"
        return ""


class DistillConfig(FinetuneConfig):
    """A student of another kind: smaller, or with fewer network evaluations per sample.

    student:     changes of the model's own config (`{width: 32}`): a fresh, smaller model of the same family
                 is taught from nothing
    evaluations: sampling steps of a diffusion model afterwards
    method:      `progressive` halves the steps until they are few enough (Salimans & Ho 2022), `steps` being
                 the training of all halvings; `consistency` learns to jump to the end from anywhere (Song et
                 al. 2023), `easy_consistency` the same from real samples, between times that come closer
                 (Geng et al. 2024); `distribution_matching` compares what student and teacher find likely
                 (Yin et al. 2024), with `adversarial` also with real samples; `reflow` trains on noise and
                 the samples that the teacher makes of it, which makes paths straight (Liu, Gong & Liu 2023)
    pairs:       of noise and sample that `reflow` makes beforehand, each at the cost of a sample
    other settings: as in `finetune`
    """

    kind: Literal["distill"] = "distill"  # type: ignore[assignment]
    student: dict[str, Any] = Field(default_factory=dict)
    evaluations: int = Field(default=0, ge=0)
    method: Literal["progressive", "consistency", "easy_consistency", "distribution_matching", "reflow"] = (
        "progressive"
    )
    pairs: int = Field(default=2048, ge=1, exclude_if=lambda value: value == 2048)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if bool(self.student) == bool(self.evaluations):
            raise ValueError(
                "distill needs either 'student' (a smaller model of the same family) or 'evaluations' (fewer "
                "steps of a diffusion model); for both, write two steps"
            )
        return self

    def refusal(self, earlier: Sequence[Step]) -> str:
        if self.student and any(step.kind in ("prune", "share", "finetune") for step in earlier):
            return "starts a fresh student, which throws away what the steps before it made; put it first"
        return super().refusal(earlier)


class SamplingConfig(Step):
    """Sample the same network otherwise, without training: fewer steps, a better solver, another temperature.

    evaluations: calls of the network in a diffusion model's sampling, without guidance's second ones; 0 keeps
                 them. Heun's solver makes 2·steps − 1
    solver:      `ddim`, `dpmpp_2m` …; none keeps it
    spacing:     which timesteps are visited; none keeps it
    temperature: standard deviation of the noise of a generator or decoder; `match` finds the one at which
                 samples lie as far from each other as the uncompressed model's, or the truncation where
                 styles are made of the noise (`niwaki.compression.distillation.temperature`)
    """

    kind: Literal["sampling"] = "sampling"
    evaluations: int = Field(default=0, ge=0)
    solver: str | None = None
    spacing: str | None = None
    temperature: Annotated[float, Field(gt=0)] | Literal["match"] | None = None

    @property
    def needs_extractor(self) -> bool:
        return self.temperature == "match"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.evaluations or self.solver or self.spacing or self.temperature):
            raise ValueError("sampling needs 'evaluations', 'solver', 'spacing' or 'temperature'")
        return self

    def refusal(self, earlier: Sequence[Step]) -> str:
        if any(step.kind == "quantize" for step in earlier):
            return "comes after 'quantize', whose ranges follow the old sampling; put it before 'quantize'"
        return ""
