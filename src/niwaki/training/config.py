"""What a recipe says about training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from niwaki_runtime.errors import CallError

__all__ = ["StageConfig", "TrainConfig"]


class StageConfig(BaseModel):
    """One of several trainings that follow each other (a codec, then a prior over its codes).

    name:         what phases call it (`Phase.stage`)
    steps:        its length
    lr:           overrides the learning rate of the whole training: one number, or by optimizer name
    freeze:       names of modules (or parameters) that stay as they are, in evaluation mode
    init_from:    a model directory, a checkpoint, a directory of checkpoints or a run directory to take
                  weights from
    init_only:    take only the weights under these names; all of them must be there. Empty takes all that
                  is stored
    loss_weights: weights by loss term, over those of the whole training
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    steps: int = Field(gt=0)
    lr: float | dict[str, float] | None = None
    freeze: tuple[str, ...] = ()
    init_from: str | None = None
    init_only: tuple[str, ...] = ()
    loss_weights: dict[str, float] = {}


class TrainConfig(BaseModel):
    """How a model is trained.

    steps:            training steps; with `stages`, their sum counts instead
    batch:            samples in one optimizer step, over all devices and micro-batches together
    accumulate:       micro-batches that one batch is cut into; the gradient is that of the whole batch
    optimizer:        a registered optimizer (`adam`, `adamw`, `sgd`)
    lr:               learning rate, one or by optimizer name (`Phase.optimizer`, else the phase's name)
    betas:            decay of the first and second moment; the first is the momentum of `sgd`
    weight_decay:     of parameters with two dimensions or more (biases and norms are never decayed)
    warmup:           steps of linear warm-up at the start of every stage
    schedule:         `cosine` falls to 0 at the end of the stage, `constant` stays
    clip:             largest norm of the gradient of a phase; 0 does not clip
    ema:              decay of the averaged weights, ramped up at the start of a stage; 0 keeps none
    precision:        `auto` is bf16 autocast where the hardware multiplies in bf16, float32 elsewhere
    channels_last:    keep images and convolution weights with the channels innermost; `auto` does so unless
                      the model has group norms and trains on a CPU
    device:           `auto`, `cpu`, `cuda`, `cuda:1` …
    devices:          processes, one device each; the batch is divided among them
    strategy:         how several devices work together: `ddp` keeps whole copies, `auto` is `ddp`
    compile:          compile the networks with torch.compile (phases that differentiate twice run uncompiled)
    deterministic:    choose kernels that give the same bits again on CUDA; exact resuming there needs it
    log_every:        steps between lines of metrics.jsonl; only then are values read from the device
    checkpoint_every: steps between checkpoints; 0 writes only the first and the last
    validate_every:   steps between validations; 0 validates when a checkpoint is written
    keep:             checkpoints kept, the newest ones
    stages:           trainings that follow each other; empty is a single one
    loss_weights:     weights by loss term; 1 where a term is not named
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(1000, gt=0)
    batch: int = Field(64, gt=0)
    accumulate: int = Field(1, gt=0)
    optimizer: str = "adam"
    lr: float | dict[str, float] = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    warmup: int = Field(0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float = Field(0.0, ge=0)
    ema: float = Field(0.999, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    device: str = "auto"
    devices: int = Field(1, gt=0)
    strategy: Literal["auto", "ddp"] = "auto"
    compile: bool = False
    deterministic: bool = True
    log_every: int = Field(50, gt=0)
    checkpoint_every: int = Field(1000, ge=0)
    validate_every: int = Field(0, ge=0)
    keep: int = Field(2, gt=0)
    stages: tuple[StageConfig, ...] = ()
    loss_weights: dict[str, float] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch % (self.devices * self.accumulate):
            raise ValueError(
                f"batch {self.batch} must be a multiple of devices × accumulate, "
                f"here {self.devices * self.accumulate}"
            )
        names = [s.name for s in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"every stage needs a name of its own, not {names}")
        for rate in self._rates():
            if not rate >= 0:
                raise ValueError(f"a learning rate must not be negative, not {rate}")
        return self

    def _rates(self) -> list[float]:
        given = [self.lr, *(s.lr for s in self.stages if s.lr is not None)]
        return [r for g in given for r in (g.values() if isinstance(g, dict) else (g,))]

    @property
    def all_stages(self) -> tuple[StageConfig, ...]:
        """The stages; a training without any is one stage called `main`."""
        return self.stages or (StageConfig(name="main", steps=self.steps),)

    @property
    def total_steps(self) -> int:
        return sum(s.steps for s in self.all_stages)

    def rate(self, stage: StageConfig, optimizer: str) -> float:
        """Peak learning rate of an optimizer in a stage. Raises CallError where it is given by name and
        this one lacks."""
        given = self.lr if stage.lr is None else stage.lr
        if not isinstance(given, dict):
            return given
        if optimizer not in given:
            raise CallError(
                f"train.lr is given by optimizer but lacks '{optimizer}'; it has {', '.join(sorted(given))}"
            )
        return given[optimizer]
