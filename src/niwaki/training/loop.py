"""The steps from here to the end, and what happens between them: log lines, validation, checkpoints,
stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from niwaki.core.contract import Trainable
from niwaki.core.store import append_jsonl
from niwaki.training.checkpoint import Checkpoint, latest, save_checkpoint
from niwaki.training.ema import Ema
from niwaki.training.hardware import compile_networks
from niwaki.training.interrupts import Interrupted, Stop
from niwaki.training.metrics import not_finite
from niwaki.training.nonfinite import NotFinite, Searcher, all_finite
from niwaki.training.schedule import lr_factor
from niwaki.training.stages import Stage, begin_stage, frozen_hashes, locate, set_modes
from niwaki.training.state import State
from niwaki.training.step import Batches, Stepper
from niwaki.training.weights import init_from
from niwaki_runtime.errors import CallError, NiwakiError, nearest

__all__ = ["Loop"]

Progress = Callable[[int, int, dict[str, float]], None]
Validate = Callable[[Trainable, int], dict[str, float]]


class Loop:
    """A training under way.

    state:   what it is at this moment
    session: seconds spent in steps by this process
    notes:   what may be different from an uninterrupted training
    """

    stage: Stage
    stepper: Stepper

    def __init__(
        self,
        fabric: Any,
        state: State,
        batches: Batches,
        *,
        directory: Path | None,
        progress: Progress | None,
        validate: Validate | None,
    ) -> None:
        self.fabric, self.state, self.batches, self.directory = fabric, state, batches, directory
        self.progress, self.validate = progress, validate
        self.model, self.config = state.model, state.config
        self.session = 0.0
        self.notes: list[str] = []
        self._in_memory: Checkpoint | None = None  # the last good state, where there is no directory for it
        self._shown = 0.0

    # ── beginning

    def begin(self, checkpoint: Checkpoint | None) -> None:
        """Start anew, or from a checkpoint. Raises CallError where another config or model wrote it."""
        if self.fabric.world_size > 1:  # every process starts from the weights of the first
            for tensor in self.model.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
        self.state.ema = Ema(self.model) if self.config.ema else None
        if checkpoint is None:
            self._enter()
            self._keep()
        else:
            self.notes += self.state.check(checkpoint)
            self._return_to(checkpoint)

    def _return_to(self, checkpoint: Checkpoint) -> None:
        self.state.give_back(checkpoint)
        self._enter()
        if self.state.counters.step > self.stage.start:  # at a stage's beginning its optimizers are new
            self.state.give_back_optimizers(checkpoint, self.stage)

    def _enter(self) -> None:
        """Set up the stage of the present step."""
        state, ema = self.state, self.state.ema
        index, start = locate(self.config, state.counters.step)
        fresh = state.counters.step == start
        stage = begin_stage(self.model, self.config, index, start)
        trained = stage.all_trained
        if fresh and stage.config.init_from:
            taken = init_from(self.model, Path(stage.config.init_from), stage.config.init_only)
            if ema is not None:
                ema.restart(n for n in taken if n in ema.values)
        if ema is not None:
            if fresh and index:
                # What earlier stages trained is used from now on as it will be used in the end: averaged.
                ema.assign(n for n in ema.values if n not in trained)
            ema.follow(trained)
        hashes = frozen_hashes(self.model, stage.config.freeze)
        state.frozen |= {f"{stage.config.name}/{n}": h for n, h in hashes.items()}
        if self.config.compile:
            compile_networks(self.model, [n for p in stage.phases for n in p.phase.parameters])
        self.stage = stage
        self.stepper = Stepper(self.fabric, state, stage, self.batches)

    # ── running

    def run(self, stop: Stop) -> None:
        """Train to the end. Raises NotFinite or Interrupted."""
        config, counters = self.config, self.state.counters
        total = config.total_steps
        began = time.perf_counter()
        while counters.step < total:
            self.stepper.run(counters)
            step = counters.step
            stage_ends = step == self.stage.start + self.stage.config.steps
            logs = step % config.log_every == 0 or stage_ends
            saves = stage_ends or _due(step, config.checkpoint_every)
            validates = stage_ends or _due(step, config.validate_every or config.checkpoint_every)
            stops = self._agree(stop.asked, logs) and step < total
            if step == 1:
                self._check_weights()
            if logs or saves or validates or stops:
                means = self._read()
                now = time.perf_counter()
                self.state.seconds += now - began
                self.session += now - began
                if logs:
                    self._log(means)
                if validates and self.validate:
                    self._validate(self.validate)
                if saves or stops:
                    self._keep()
                if stage_ends and step < total:
                    self._enter()
                    if self.directory is None:
                        self._keep()
                began = time.perf_counter()
            self._show(logs, total)
            if stops:
                raise Interrupted(step, total, self.directory)

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
        means = self.state.sums.read()
        if self.fabric.world_size > 1:
            values = torch.tensor([means[n] for n in sorted(means)], device=self.fabric.device)
            mean = self.fabric.all_reduce(values, reduce_op="mean").tolist()
            means = dict(zip(sorted(means), mean, strict=True))
        if bad := not_finite(means):
            self._search(f"the metric '{bad[0]}'")
        return means

    def _log(self, means: dict[str, float]) -> None:
        step, stage = self.state.counters.step, self.stage
        within = step - 1 - stage.start
        factor = lr_factor(within, stage.config.steps, self.config.warmup, self.config.schedule)
        self.state.last = means | {f"lr/{n}": r * factor for n, r in stage.rates.items()}
        self.state.sums.clear()
        self._append(self.state.last | {"seconds": round(self.state.seconds, 3)})

    def _append(self, values: dict[str, float]) -> None:
        if self.directory is not None and self.fabric.is_global_zero:
            line = {"step": self.state.counters.step, "stage": self.stage.config.name, **values}
            append_jsonl(self.directory / "metrics.jsonl", line)

    def _validate(self, validate: Validate) -> None:
        step, ema = self.state.counters.step, self.state.ema
        self.model.eval()
        if ema is None:
            found = validate(self.model, step)
        else:
            with ema.swapped():
                found = validate(self.model, step)
        set_modes(self.model, self.stage.config.freeze)
        named = {f"validation/{n}": float(v) for n, v in found.items()}
        self.state.last = self.state.last | named
        self._append(named)

    def _show(self, always: bool, total: int) -> None:
        """Progress a few times a second: drawing it may cost more than a small step."""
        now = time.monotonic()
        if self.progress and self.fabric.is_global_zero and (always or now - self._shown > 0.2):
            self._shown = now
            self.progress(self.state.counters.step, total, self.state.last)

    def _check_weights(self) -> None:
        """In the very first step every phase of the first stage runs: the names of its loss terms are known
        now."""
        if len(self.config.all_stages) > 1:
            return
        for name in self.stage.weights:
            if name not in self.stepper.terms:
                hint = nearest(name, self.stepper.terms)
                raise CallError(f"loss_weights names '{name}', but no loss term has that name; {hint}")

    # ── keeping

    def _keep(self) -> None:
        """Write a checkpoint, or remember it. Weights that are not finite are never kept."""
        if not all_finite(list(self.model.state_dict().values())):
            self._search("a weight")
        if self.directory is None:
            # In memory, one state per stage has to do: it is needed only to search for a NaN.
            if self.state.counters.step == self.stage.start:
                self._in_memory = self.state.take(self.stage, copy=True)
            return
        if self.fabric.is_global_zero:
            checkpoint = self.state.take(self.stage, copy=False)
            save_checkpoint(self.directory / "checkpoints", checkpoint, self.config.keep)
        self.fabric.barrier()

    def _search(self, seen: str) -> None:
        """Something is not finite: replay from the last good checkpoint to name it. Always raises."""
        counters = self.state.counters
        upto = counters.step
        good = self._in_memory if self.directory is None else latest(self.directory / "checkpoints")[0]
        if good is None:
            raise NiwakiError(f"{seen} is not finite before the first step: the initial weights are broken")
        kept = f"; the last good checkpoint is {good.path}" if good.path else ""
        self._return_to(good)
        try:
            while counters.step < upto:
                self.stepper.run(counters, Searcher(self.model, compiled=self.config.compile))
        except NotFinite as found:
            advice = f"{kept}; a lower learning rate, train.clip or train.precision=fp32 may help"
            raise found.advise(advice) from None
        finally:
            self._return_to(good)
        raise NiwakiError(
            f"{seen} was not finite after step {upto}, but running the steps from {good.step} again did not "
            f"show where: the device does not repeat its sums exactly{kept}"
        )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
