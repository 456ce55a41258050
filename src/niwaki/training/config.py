"""What a recipe says about training."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from niwaki.core.base_config import BaseConfig
from niwaki.core.sentences import sentence
from niwaki.training.adapter_config import AdapterConfig
from niwaki.training.averages import build_average
from niwaki.training.curriculum import CurriculumConfig
from niwaki.training.loss_config import EarlyStopping, LossConfig
from niwaki.training.mixing_config import MixConfig
from niwaki.training.optimizers import Betas, OptimizerConfig
from niwaki.training.post_hoc import PostHocConfig
from niwaki.training.preference.config import PreferConfig
from niwaki.training.pretrain_config import PretrainConfig
from niwaki.training.schedules import build_schedule, followed
from niwaki.training.settings import DEFAULT, SHORT, choose_optimizer, over, spelled_out
from niwaki.training.stage_config import Rate, Source, StageConfig
from niwaki.training.watch_config import WatchConfig
from niwaki_runtime.errors import CallError, nearest

__all__ = ["StageConfig", "TrainConfig"]

_FIXED = {
    "steps", "device", "devices", "strategy", "deterministic",
    "log_every", "checkpoint_every", "keep", "stages", "curriculum", "prefer", "balance", "remember",
}  # fmt: skip
"""Settings of `TrainConfig` that belong to the whole training."""


class TrainConfig(BaseConfig):
    """How a model is trained.

    steps:            training steps; with `stages`, their sum counts instead
    batch:            samples in one optimizer step, over all devices and micro-batches together
    accumulate:       micro-batches that one batch is cut into; the gradient is that of the whole batch
    optimizers:       `{default: {name: adamw, lr: 2e-4}, critic: {lr: 1e-4}}`: settings by optimizer name
                      (`Phase.optimizer`, else the phase's name); an entry changes those of `default`
    optimizer:        shorthand of `optimizers.default.name`
    lr:               learning rate, one or by optimizer name
    betas:            decay of the first and second moment; the first is the momentum of `sgd`
    weight_decay:     of parameters with two dimensions or more (biases and norms are never decayed)
    warmup:           steps of linear warm-up at the start of every stage
    schedule:         by name (`cosine` falls to 0 at the end of the stage) or with settings:
                      `{name: one_cycle, rise: 0.2}`
    clip:             largest norm of the gradient of a phase; 0 does not clip
    skip:             a gradient whose norm is more than so many times the running norm of its phase, or not
                      finite, is not followed, at most ten in a row; 0 follows all
    ema:              decay of the averaged weights, ramped up at the start of a stage; 0 keeps none
    average:          another average than that, `tail` or `{name: power, length: 0.1}`
    post_hoc:         averages kept so that their length is chosen in the end: `{}`, `{lengths: [0.05, 0.2]}`
    precision:        `auto` is bf16 autocast where the hardware multiplies in bf16, float32 elsewhere, and on
                      a CPU for models of small matrices (`mlp-gan`, `realnvp` and what is based on it)
    channels_last:    keep images and convolution weights with the channels innermost; `auto` does so unless
                      the model has group norms and trains on a CPU
    device:           `auto`, `cpu`, `cuda`, `cuda:1` …
    devices:          processes, one device each; the batch is divided among them
    strategy:         how several devices work together: `ddp` keeps whole copies, `auto` is `ddp`
    activation_checkpointing: compute blocks again in the backward pass instead of keeping what is inside
                      them: true for every list of blocks, or names of modules
    activation_offload: keep what the backward pass needs in main memory (for a GPU)
    compile:          compile the networks with torch.compile (phases that differentiate twice run uncompiled)
    deterministic:    choose kernels that give the same bits again on CUDA; exact resuming there needs it
    log_every:        steps between lines of metrics.jsonl; only then are values read from the device
    checkpoint_every: steps between checkpoints; 0 writes only the first and the last
    keep:             checkpoints kept, the newest ones
    validate_every:   steps between validations; 0 validates when a checkpoint is written
    validation_batches: held-out batches in a validation at most, the same each time; 0 takes none
    early_stopping:   `{patience: 5, min_delta: 0}` ends a stage that no longer gets better
    keep_best:        end with the weights of the best validation instead of the last ones
    watch:            looks for collapse in adversarial training: `{stop: true}` ends a stage that fails, null
                      looks for nothing
    stages:           trainings that follow each other; empty is a single one
    freeze:           names of modules (or parameters) that stay as they are in every stage
    init_from:        a model directory, a checkpoint, a directory of checkpoints, a run directory, a file of
                      safetensors or a folder of them (of transformers, diffusers, timm) whose weights to
                      begin with; or by prefix: `{autoencoder: runs/vae, decoder: "runs/x:dec"}`
    init_only:        of a single `init_from`: only the weights under these names. Empty takes all that is
                      stored
    balance:          a column of labels of which every value is drawn equally often: `class`
    curriculum:       easy samples first: `{by: length, start: 0.2, until: 0.5}`, or just `length`
    init_rename:      how names of stored weights begin → how they do in the model: `{"module.": ""}`
    init_partial:     take the weights that fit by name and shape, and say which do not; otherwise all must
    adapters:         `{name: lora, rank: 8, alpha: 16}`: the weights stay, and a change of each of small rank
                      is trained, which is part of them in the end
    prefer:           tune what `init_from` brings to a preference, in the place of the model's own loss:
                      `{by: dpo, reward: recognised, beta: 0.1}`
    mix:              mixed samples with mixed losses: `{mixup: 0.2}`, `{cutmix: 1.0, until: 0.8}`
    drop_path:        stochastic depth: how often the last residual block of a network leaves its branch out,
                      the blocks before it less
    pretrain:         of a stage: train the encoder that the model has without labels, `simclr`, in the place
                      of the model's own loss
    remember:         the run, recipe or data of the model of `init_from`: the evaluation shows what of it the
                      tuned model has forgotten
    losses:           further losses, `[{call: "module:function", weight: 1.0, phase: name}]`
    loss_weights:     weights by loss term; 1 where a term is not named
    """

    steps: int = Field(1000, gt=0)
    batch: int = Field(64, gt=0)
    accumulate: int = Field(1, gt=0)
    optimizers: dict[str, dict[str, Any]] = Field({})
    optimizer: str = "adam"
    lr: Rate | dict[str, Rate] = 2e-4
    betas: Betas = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    warmup: int = Field(0, ge=0)
    schedule: str | dict[str, Any] = "cosine"
    clip: float = Field(0.0, ge=0)
    skip: float = Field(0.0, ge=0)
    ema: float = Field(0.999, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    device: str = "auto"
    devices: int = Field(1, gt=0)
    strategy: Literal["auto", "ddp"] = "auto"
    activation_checkpointing: bool | tuple[str, ...] = False
    activation_offload: bool = False
    compile: bool = False
    deterministic: bool = True
    log_every: int = Field(50, gt=0)
    checkpoint_every: int = Field(1000, ge=0)
    keep: int = Field(2, gt=0)
    validate_every: int = Field(0, ge=0)
    validation_batches: int = Field(16, ge=0)
    early_stopping: EarlyStopping | None = None
    keep_best: bool = False
    watch: WatchConfig | None = WatchConfig.model_validate({})
    stages: tuple[StageConfig, ...] = ()
    freeze: tuple[str, ...] = ()
    init_from: Source = None
    init_only: tuple[str, ...] = ()
    balance: str | None = None
    curriculum: CurriculumConfig | None = None
    average: str | dict[str, Any] | None = None
    post_hoc: PostHocConfig | None = None
    init_rename: dict[str, str] = Field({})
    init_partial: bool = False
    adapters: AdapterConfig | None = None
    prefer: PreferConfig | None = None
    mix: MixConfig | None = None
    drop_path: float = Field(0.0, ge=0, lt=1)
    pretrain: PretrainConfig | None = None
    remember: str | dict[str, Any] | None = None
    losses: tuple[LossConfig, ...] = ()
    loss_weights: dict[str, float] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _short(cls, values: Any) -> Any:
        return spelled_out(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch % (self.devices * self.accumulate):
            raise ValueError(
                f"batch {self.batch} must be a multiple of devices × accumulate, "
                f"here {self.devices * self.accumulate}"
            )
        if self.balance is not None and self.curriculum is not None:
            raise ValueError("'balance' and 'curriculum' each say which samples are drawn; leave one out")
        if self.remember is not None and not (self.init_from or any(s.init_from for s in self.stages)):
            raise ValueError("'remember' is about what a model that is trained on forgets; give 'init_from'")
        schedule = build_schedule(self.schedule)
        if followed(schedule) and not (self.validate_every or self.checkpoint_every):
            raise ValueError(
                f"the schedule goes by '{followed(schedule)}' of validations; set 'validate_every'"
            )
        build_average(self.average, self.ema)
        for rate in self.lr.values() if isinstance(self.lr, dict) else (self.lr,):
            if not rate >= 0:
                raise ValueError(f"a learning rate must not be negative, not {rate}")
        for name in (DEFAULT, *self.optimizers):
            self._choose(name, self.lr if not isinstance(self.lr, dict) else {DEFAULT: 0.0, **self.lr})
        for key, short in SHORT.items():
            said, usual = getattr(self, short), type(self).model_fields[short].default
            entry = self.optimizers.get(DEFAULT, {})
            long = tuple(entry[key]) if isinstance(entry.get(key), list) else entry.get(key)
            if key in entry and not isinstance(said, dict) and said not in (usual, long):
                raise ValueError(
                    f"'{short}' is {said} and optimizers.{DEFAULT}.{key} is {long}; leave one of them out"
                )
        names = [s.name for s in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"every stage needs a name of its own, not {names}")
        for stage in self.stages:
            self.of_stage(stage)
        return self

    def _choose(self, name: str, lr: float | dict[str, float]) -> OptimizerConfig:
        usual = self.betas == type(self).model_fields["betas"].default
        return choose_optimizer(
            name,
            self.optimizers,
            kind=self.optimizer,
            lr=lr,
            betas=None if usual else self.betas,
            weight_decay=self.weight_decay,
        )

    def optimizer_config(self, name: str = DEFAULT) -> OptimizerConfig:
        """The settings of an optimizer by its name. Raises CallError where rates are given by name and this
        one lacks."""
        return self._choose(name, self.lr)

    @property
    def all_stages(self) -> tuple[StageConfig, ...]:
        """The stages; a training without any is one stage called `main`."""
        return self.stages or (StageConfig(name="main", steps=self.steps),)

    @property
    def total_steps(self) -> int:
        return sum(s.steps for s in self.all_stages)

    def of_stage(self, stage: StageConfig) -> TrainConfig:
        """The settings that hold within a stage, as those of a training without stages.

        Raises CallError for a setting that belongs to the whole training or does not exist, ValueError for a
        value that cannot be.
        """
        for key in stage.given:
            if key in _FIXED:
                raise CallError(
                    f"the stage '{stage.name}' gives '{key}', which holds for the whole training; "
                    "set it beside 'stages'"
                )
            if key not in TrainConfig.model_fields:
                hint = nearest(key, TrainConfig.model_fields.keys() - _FIXED)
                raise CallError(f"the stage '{stage.name}' has no setting '{key}'; {hint}")
        values = over(self.model_dump(), stage.given)
        freeze = tuple(dict.fromkeys((*self.freeze, *stage.freeze)))
        values |= {"stages": (), "steps": stage.steps, "freeze": freeze, "init_from": None, "init_only": ()}
        values |= {"init_rename": {}, "init_partial": False, "remember": None}
        try:
            return TrainConfig.model_validate(values)
        except ValidationError as error:
            raise ValueError(f"the stage '{stage.name}': {sentence(error, TrainConfig)}") from None

    def rate(self, stage: StageConfig, optimizer: str) -> float:
        """Peak learning rate of an optimizer in a stage."""
        return self.of_stage(stage).optimizer_config(optimizer).lr
