"""The steps from here to the end, and what happens between them: log lines, validation, checkpoints,
stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from niwaki.contract import Trainable
from niwaki.store import append_jsonl
from niwaki.training.checkpoint import Checkpoint, differences, latest, model_shapes, save_checkpoint
from niwaki.training.config import TrainConfig
from niwaki.training.ema import Ema
from niwaki.training.interrupts import Interrupted, Stop
from niwaki.training.metrics import Sums, not_finite
from niwaki.training.nonfinite import NotFinite, Searcher, all_finite
from niwaki.training.optimizers import optimizer_tensors, restore_optimizer
from niwaki.training.schedule import lr_factor
from niwaki.training.stages import Stage, begin_stage, frozen_hashes, locate, set_modes
from niwaki.training.step import Batches, Counters, Stepper
from niwaki.training.weights import init_from
from niwaki_runtime.errors import CallError, NiwakiError, nearest

__all__ = ["Loop"]

_FREE = {"log_every", "checkpoint_every", "validate_every", "keep"}
"""Settings that may change between a run and its resumption: they do not touch the weights."""


class Loop:
    """A training under way.

    counters: what every step follows from
    seconds:  time in steps, earlier sessions included; `session` is that of this one
    last:     the newest metrics
    frozen:   SHA-256 of each frozen part, by `stage/name`
    """

    stage: Stage
    stepper: Stepper

    def __init__(
        self,
        fabric: Any,
        model: Trainable,
        config: TrainConfig,
        batches: Batches,
        *,
        seed: int,
        directory: Path | None,
        progress: Callable[[int, int, dict[str, float]], None] | None,
        validate: Callable[[Trainable, int], dict[str, float]] | None,
    ) -> None:
        self.fabric, self.model, self.config, self.batches, self.seed = fabric, model, config, batches, seed
        self.directory = None if directory is None else Path(directory)
        self.progress, self.validate = progress, validate
        self.total = config.total_steps
        self.counters = Counters()
        self.sums = Sums(fabric.device)
        self.seconds = self.session = 0.0
        self.last: dict[str, float] = {}
        self.frozen: dict[str, str] = {}
        if fabric.world_size > 1:  # every process starts from the weights of the first
            for tensor in model.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
        self.ema = Ema(model) if config.ema else None
        self.good: Checkpoint | None = None  # what a directory would hold, where there is none
        self._shown = 0.0

    # ── beginning ─────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, checkpoint: Checkpoint | None) -> None:
        """Start anew, or from a checkpoint. Raises CallError where it was written by another config or
        model."""
        if checkpoint is None:
            self._enter()
            self._keep()
            return
        self._check(checkpoint)
        self.restore(checkpoint)
        self.seconds = checkpoint.record["seconds"]
        self.last = checkpoint.record["last"]

    def restore(self, checkpoint: Checkpoint) -> None:
        """Everything as it was when the checkpoint was written."""
        record = checkpoint.record
        self.counters = Counters(record["step"], record["batches"])
        self.frozen = dict(record["frozen"])
        self.model.load_state_dict(checkpoint.part("model"))
        if self.ema is not None:
            for name, value in checkpoint.part("ema").items():
                self.ema.values[name].copy_(value)
        self.sums.restore(checkpoint.part("sums"), record["counts"])
        self._enter()
        if self.counters.step > self.stage.start:  # at a stage's beginning its optimizers are new
            for name, opt in self.stage.optimizers.items():
                restore_optimizer(opt, self.stage.trained[name], checkpoint.part(f"optimizer/{name}"))

    def _enter(self) -> None:
        """Set up the stage of the present step."""
        index, start = locate(self.config, self.counters.step)
        fresh = self.counters.step == start
        stage = begin_stage(self.model, self.config, index, start)
        trained = stage.all_trained
        if fresh and stage.config.init_from:
            set_here = init_from(self.model, Path(stage.config.init_from), stage.config.init_only)
            if self.ema is not None:
                self.ema.restart([n for n in set_here if n in self.ema.values])
        if self.ema is not None:
            if fresh and index:
                # What earlier stages trained is used from now on as it will be used in the end: averaged.
                self.ema.assign([n for n in self.ema.values if n not in trained])
            self.ema.follow(trained)
        stage.frozen = frozen_hashes(self.model, stage.config.freeze)
        self.frozen |= {f"{stage.config.name}/{n}": h for n, h in stage.frozen.items()}
        if self.config.compile:
            _compile(self.model, stage)
        self.stage = stage
        self.stepper = Stepper(
            self.fabric,
            self.model,
            stage,
            self.batches,
            self.config,
            seed=self.seed,
            sums=self.sums,
            ema=self.ema,
        )

    def _check(self, checkpoint: Checkpoint) -> None:
        """Exact resuming means: the same config, the same model, the same seed."""
        where, record = checkpoint.path, checkpoint.record
        now = self._identity()
        then = record["identity"]
        for what, key in (
            ("the model", "model"),
            ("the training settings", "config"),
            ("the training", "run"),
        ):
            if difference := differences(then[key], now[key]):
                raise CallError(
                    f"{where} cannot be resumed because {what} changed: {difference}; "
                    "change it back or start a new directory"
                )

    def _identity(self) -> dict[str, Any]:
        config = self.config.model_dump(mode="json")
        return {
            "model": model_shapes(self.model),
            "config": {k: v for k, v in config.items() if k not in _FREE},
            "run": {"seed": self.seed, "class": type(self.model).__name__},
        }

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────

    def run(self, stop: Stop) -> None:
        """Train to the end. Raises NotFinite or Interrupted."""
        config, counters = self.config, self.counters
        began = time.perf_counter()
        while counters.step < self.total:
            self.stepper.run(counters)
            step = counters.step
            stage_ends = step == self.stage.start + self.stage.config.steps
            logs = step % config.log_every == 0 or stage_ends
            saves = self.directory is not None and (
                stage_ends or (config.checkpoint_every and step % config.checkpoint_every == 0)
            )
            every = config.validate_every or config.checkpoint_every
            validates = self.validate is not None and (stage_ends or (every and step % every == 0))
            stops = self._agree(stop.asked, logs)
            if step == self.stage.start + 1:
                self._check_weights()
            if logs or saves or stops or validates:
                means = self._read()
                now = time.perf_counter()
                self.seconds += now - began
                self.session += now - began
                if logs:
                    self._log(means)
                if validates:
                    self._validate()
                if stage_ends and step < self.total:
                    if self.directory is None:
                        self._enter()
                        self._keep()
                    else:
                        self._keep()
                        self._enter()
                elif saves or stops:
                    self._keep()
                began = time.perf_counter()
            self._show(always=logs)
            if stops and step < self.total:
                kept = (
                    f"resume it from {self.directory}"
                    if self.directory
                    else "nothing was saved: no directory was given"
                )
                raise Interrupted(
                    f"training was stopped after step {step} of {self.total}; {kept}", step, self.total
                )

    def _agree(self, asked: bool, now: bool) -> bool:
        """Whether to stop: several processes decide together, when they meet anyway."""
        if self.fabric.world_size == 1:
            return asked
        if not now:
            return False
        votes = torch.tensor(float(asked), device=self.fabric.device)
        return bool(self.fabric.all_reduce(votes, reduce_op="sum") > 0)

    def _read(self) -> dict[str, float]:
        """The means since the last log line. Raises NotFinite where one is not finite."""
        means = self.sums.read()
        if self.fabric.world_size > 1:
            values = torch.tensor(list(means.values()), dtype=torch.float64, device=self.fabric.device)
            means = dict(zip(means, self.fabric.all_reduce(values, reduce_op="mean").tolist(), strict=True))
        if bad := not_finite(means):
            self._search(f"the metric '{bad[0]}'")
        return means

    def _log(self, means: dict[str, float]) -> None:
        step, stage = self.counters.step, self.stage
        factor = lr_factor(
            step - 1 - stage.start, stage.config.steps, self.config.warmup, self.config.schedule
        )
        self.last = means | {f"lr/{n}": r * factor for n, r in stage.rates.items()}
        self.sums.clear()
        self._append(self.last | {"seconds": round(self.seconds, 3)})

    def _append(self, values: dict[str, float]) -> None:
        if self.directory is not None and self.fabric.is_global_zero:
            line = {"step": self.counters.step, "stage": self.stage.config.name, **values}
            append_jsonl(self.directory / "metrics.jsonl", line)

    def _validate(self) -> None:
        assert self.validate is not None
        self.model.eval()
        if self.ema is None:
            found = self.validate(self.model, self.counters.step)
        else:
            with self.ema.swapped():
                found = self.validate(self.model, self.counters.step)
        set_modes(self.model, self.stage.config.freeze)
        named = {f"validation/{n}": float(v) for n, v in found.items()}
        self.last = self.last | named
        self._append(named)

    def _show(self, always: bool) -> None:
        if self.progress and self.fabric.is_global_zero:
            now = time.monotonic()
            if always or now - self._shown > 0.2:
                self._shown = now
                self.progress(self.counters.step, self.total, self.last)

    def _check_weights(self) -> None:
        """After a stage's first step, in which every phase ran, the names of all loss terms are known."""
        if self.counters.step != 1:  # later stages: lazy phases may not have run yet
            return
        for name in self.stage.weights:
            if name not in self.stepper.terms:
                raise CallError(
                    f"loss_weights names '{name}', but no loss term has that name; "
                    f"{nearest(name, self.stepper.terms)}"
                )

    # ── keeping ───────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self) -> None:
        """Write a checkpoint (in memory, where there is no directory). Weights that are not finite are
        never kept."""
        if not all_finite(list(self.model.state_dict().values())):
            self._search("a weight")
        if self.directory is None:
            if self.counters.step == self.stage.start:
                self.good = self._snapshot()
            return
        if self.fabric.is_global_zero:
            save_checkpoint(self.directory / "checkpoints", self._snapshot(copy=False), self.config.keep)
        self.fabric.barrier()

    def _search(self, seen: str) -> None:
        """Something is not finite: replay from the last good checkpoint to name it. Always raises."""
        upto = self.counters.step
        good = self.good if self.directory is None else latest(self.directory / "checkpoints")[0]
        if good is None:
            raise NiwakiError(
                f"{seen} is not finite before the first step; the model's initial weights are broken"
            )
        kept = f"; the last good checkpoint is {good.path}" if good.path else ""
        self.restore(good)
        try:
            while self.counters.step < upto:
                self.stepper.run(self.counters, Searcher(self.model, compiled=self.config.compile))
        except NotFinite as found:
            advice = f"{kept}; a lower learning rate, train.clip or train.precision=fp32 may help"
            raise found.advise(advice) from None
        finally:
            self.restore(good)
        raise NiwakiError(
            f"{seen} was not finite after step {upto}, but running the steps from {good.step} again did not "
            f"show where: the device does not repeat its sums exactly{kept}"
        )

    def _snapshot(self, copy: bool = True) -> Checkpoint:
        tensors: dict[str, Tensor] = {f"model/{n}": t for n, t in self.model.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{n}": t for n, t in self.ema.values.items()}
        for name, opt in self.stage.optimizers.items():
            state = optimizer_tensors(opt, self.stage.trained[name])
            tensors |= {f"optimizer/{name}/{n}": t for n, t in state.items()}
        tensors |= {f"sums/{n}": t for n, t in self.sums.values.items()}
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor):
                raise NiwakiError(
                    f"the model keeps '{name}', which is not a tensor; keep training state in buffers"
                )
        record = {
            "step": self.counters.step,
            "batches": self.counters.batches,
            "stage": self.stage.config.name,
            "seconds": self.seconds,
            # Generators are seeded by (seed, step, phase, repeat): with the step, this is all of their state.
            "rng": {"kind": "counter", "seed": self.seed, "step": self.counters.step},
            "counts": dict(self.sums.counts),
            "last": dict(self.last),
            "frozen": dict(self.frozen),
            "identity": self._identity(),
        }
        if copy:
            tensors = {n: t.detach().clone() for n, t in tensors.items()}
        return Checkpoint(tensors, record)


def _compile(model: Trainable, stage: Stage) -> None:
    """Compile the networks that the stage's phases train, in place. `loss` itself stays Python: it may
    branch on the step, draw random numbers and log."""
    modules = dict(model.named_modules())
    for name in dict.fromkeys(n for active in stage.phases for n in active.phase.parameters):
        if name in modules:
            modules[name].compile()
