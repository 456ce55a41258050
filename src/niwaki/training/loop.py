"""The steps from here to the end, and what happens between them: log lines, validation, checkpoints,
stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from niwaki.core.contract import Trainable
from niwaki.core.store import append_jsonl
from niwaki.data import Split
from niwaki.training.checkpoint import Checkpoint
from niwaki.training.course import tell_course
from niwaki.training.ema import Ema
from niwaki.training.entering import Setup, enter_stage
from niwaki.training.gradient_looks import look_at_gradients
from niwaki.training.interrupts import Interrupted, Stop
from niwaki.training.keeping import Keeper
from niwaki.training.metrics import not_finite
from niwaki.training.nonfinite import NotFinite, Searcher, all_finite
from niwaki.training.preference.watching import watch_tuning
from niwaki.training.stages import Stage, keeps_averages, set_modes
from niwaki.training.state import State
from niwaki.training.step import Stepper
from niwaki.training.validation import LOSS, check_measured, held_out_loss
from niwaki.training.watcher import Watcher
from niwaki_runtime.errors import CallError, NiwakiError, nearest

__all__ = ["Loop"]

Progress = Callable[[int, int, dict[str, float]], None]
Validate = Callable[[Trainable, int], dict[str, float]]


class Loop:
    """A training under way.

    state:   what it is at this moment
    session: seconds spent in steps by this process
    samples: trained on by this process, over all devices
    notes:   what may be different from an uninterrupted training
    """

    stage: Stage
    stepper: Stepper

    def __init__(
        self,
        setup: Setup,
        state: State,
        *,
        directory: Path | None,
        progress: Progress | None,
        validate: Validate | None,
        validation: Split | None,
        watcher: Watcher,
        note: Callable[[str], None] | None,
        on_validation: Callable[[int, dict[str, float]], None] | None = None,
    ) -> None:
        self.setup, self.state, self.directory = setup, state, directory
        self.fabric = setup.fabric
        self.progress, self.validate, self.validation = progress, validate, validation
        self.model, self.config, self.watcher, self.note = state.model, state.config, watcher, note
        self.on_validation = on_validation
        self.keeper = Keeper(self.fabric, state, directory)
        self.session, self.samples, self._shown = 0.0, 0, 0.0
        self.notes: list[str] = []

    # ── beginning

    def begin(self, checkpoint: Checkpoint | None) -> None:
        """Start anew, or from a checkpoint. Raises CallError where another config or model wrote it."""
        self.setup.synchronize(self.model)  # every process starts from the weights of the first
        self.state.ema = Ema(self.model) if keeps_averages(self.model, self.config) else None
        if checkpoint is None:
            self._enter(fresh=True)
            self._keep()
        else:
            self.notes += self.state.check(checkpoint)
            self._return_to(checkpoint)

    def _return_to(self, checkpoint: Checkpoint) -> None:
        self.state.load_state_dict(checkpoint)
        if self.state.counters.ended and not self._last_stage:
            self._next_stage()
        else:
            self._enter(fresh=False)
            self.state.load_optimizers(checkpoint, self.stage)

    @property
    def _last_stage(self) -> bool:
        return self.state.counters.stage + 1 == len(self.config.all_stages)

    @property
    def _done(self) -> bool:
        return self.state.counters.ended and self._last_stage

    def _next_stage(self) -> None:
        counters = self.state.counters
        counters.stage, counters.start, counters.ended = counters.stage + 1, counters.step, False
        self._enter(fresh=True)

    def _enter(self, *, fresh: bool) -> None:
        known = len(self.state.chosen)
        self.stage, self.stepper = enter_stage(self.setup, self.state, fresh=fresh)
        if self.note is not None:
            for chosen in self.state.chosen[known:]:
                self.note(chosen["text"])

    # ── running

    def run(self, stop: Stop) -> None:
        """Train to the end. Raises NotFinite or Interrupted."""
        config, counters = self.config, self.state.counters
        began = time.perf_counter()
        if self._done:  # nothing will be written that would drop them
            self.keeper.drop_old(self.stage)
        while not self._done:
            self.stepper.run(counters)
            self.samples += self.stage.settings.batch
            step, settings = counters.step, self.stage.settings
            counters.ended = step == self.stage.end
            logs = step % config.log_every == 0 or counters.ended
            saves = counters.ended or _due(step, config.checkpoint_every)
            validates = counters.ended or _due(step, settings.validate_every or config.checkpoint_every)
            watches = self.watcher.due(self.stage)
            stops = self._agree(stop.asked, logs) and not self._done
            if step == 1:
                self._check_weights()
            if logs or saves or validates or watches or stops:
                means = self._read()
                now = time.perf_counter()
                self.state.seconds += now - began
                self.session += now - began
                for at, figures in look_at_gradients(self.state, self.stage, self.stepper.gauge, self.note):
                    self._append(figures, at)
                if logs:
                    self._log(means)
                better = validates and self._validate()
                if watches:
                    self._watch()
                if counters.ended and not logs:  # early stopping ended the stage
                    self._log(means)
                if counters.ended:
                    tell_course(self.state, self.stage, self.note)
                if counters.ended and settings.keep_best:
                    self.keeper.restore_best(self.stage)
                if saves or stops or better or counters.ended:
                    self._keep()
                self._show(logs or counters.ended)
                if stops and not self._done:
                    raise Interrupted(step, self._total, self.directory)
                if counters.ended and not self._done:
                    self._next_stage()
                    if self.directory is None:
                        self._keep()
                began = time.perf_counter()
            else:
                self._show(False)

    @property
    def _total(self) -> int:
        """Steps in all, as far as can be known: a stage that ended early is as long as it was."""
        counters, stages = self.state.counters, self.config.all_stages
        here = counters.step if counters.ended else counters.start + stages[counters.stage].steps
        return here + sum(s.steps for s in stages[counters.stage + 1 :])

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
        factor = self.state.rate_factor(self.stage, self.state.counters.step - 1)
        self.state.last = means | {f"lr/{n}": r * factor for n, r in self.stage.rates.items()}
        self.state.sums.clear()
        self._append(self.state.last | {"seconds": round(self.state.seconds, 3)})

    def _append(self, values: dict[str, float], step: int | None = None) -> None:
        if self.directory is not None and self.fabric.is_global_zero:
            step = self.state.counters.step if step is None else step
            line = {"step": step, "stage": self.stage.config.name, **values}
            append_jsonl(self.directory / "metrics.jsonl", line)

    def _validate(self) -> bool:
        """Look at held-out data; may end the stage. Returns whether the weights are kept as the best."""
        state, settings = self.state, self.stage.settings
        measured: dict[str, float] = {}
        with state.ema.swapped() if state.ema else nullcontext():
            self.model.eval()
            if self.validation is not None and len(self.validation):
                measured |= held_out_loss(
                    self.model,
                    self.validation,
                    self.stage,
                    fabric=self.stepper.fabric,
                    seed=state.seed,
                    step=state.counters.step,
                    place=self.stepper.place,
                )
            if self.validate:
                measured |= self.validate(self.model, state.counters.step)
            measured |= watch_tuning(self.model, state, self.stage, self.note)
        set_modes(self.model, settings)
        rule, chooses = settings.early_stopping, settings.keep_best
        check_measured(measured, settings, self.stage.config.name)
        state.follow(self.stage, measured)
        if not measured:
            return False
        state.last = state.last | (named := {f"validation/{n}": float(v) for n, v in measured.items()})
        self._append(named)
        if self.on_validation:
            self.on_validation(state.counters.step, {n: float(v) for n, v in measured.items()})
        if LOSS not in measured:
            return False
        best = state.history.add(float(measured[LOSS]), state.counters.step, rule.min_delta if rule else 0.0)
        if best and chooses:
            self.keeper.save_best(self.stage)
        state.counters.ended |= state.history.exhausted(rule)
        return best and chooses

    def _watch(self) -> None:
        """Look for collapse; may end the stage, on all processes or on none."""
        found = self.watcher.look(self.stage, self.stepper.place)
        if found:
            self._append({f"watch/{name}": value for name, value in found.items()})
        self.state.counters.ended = self._agree(self.state.counters.ended, True)

    def _show(self, always: bool) -> None:
        """Progress a few times a second: drawing it may cost more than a small step."""
        now = time.monotonic()
        if self.progress and self.fabric.is_global_zero and (always or now - self._shown > 0.2):
            self._shown = now
            self.progress(self.state.counters.step, self._total, self.state.last)

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
        self.keeper.save(self.stage)

    def _search(self, what: str) -> None:
        """Something is not finite: replay from the last good checkpoint to name it. Always raises."""
        last = self.state.counters.step
        good = self.keeper.good()
        if good is None:
            raise NiwakiError(f"{what} is not finite before the first step: the initial weights are broken")
        kept = f"; the last good checkpoint is {good.path}" if good.path else ""
        measured = self.state.measured
        self._return_to(good)
        self.state.measured = measured  # validations are not made again, and rates may go by them
        try:
            while self.state.counters.step < last:
                self.stepper.run(
                    self.state.counters, Searcher(self.model, compiled=self.stage.settings.compile)
                )
        except NotFinite as origin:
            advice = f"{kept}; a lower learning rate, train.clip or train.precision=fp32 may help"
            raise origin.advise(advice) from None
        finally:
            self._return_to(good)
        raise NiwakiError(
            f"{what} was not finite after step {last}, but running the steps from {good.step} again did not "
            f"show where: the device does not repeat its sums exactly{kept}"
        )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
