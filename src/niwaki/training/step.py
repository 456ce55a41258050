"""One training step: every phase that is due, its repeats and micro-batches, then the average. No host
synchronisation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, Phase
from niwaki.training.activations import offloading
from niwaki.training.gradients import Gauge
from niwaki.training.hardware import channels_last, seed_generators
from niwaki.training.loss_call import LossCall, LossModule
from niwaki.training.mixing import Mixed
from niwaki.training.outliers import norm_of
from niwaki.training.schedule import seed_of
from niwaki.training.stages import ActivePhase, Stage
from niwaki.training.state import Counters, State

__all__ = ["Batches", "Stepper", "Watch"]


class Batches(Protocol):
    """Where batches come from: the k-th is a pure function of k, so a resumed run sees the same ones."""

    def batch(self, k: int) -> Batch: ...


class Watch(Protocol):
    """Looks at every value of a step; used only to find out where a value that is not finite came from."""

    def forward(self, phase: str, step: int) -> AbstractContextManager[None]: ...

    def batch(self, batch: Batch, phase: str, step: int, what: str = "the data") -> None: ...

    def terms(self, terms: dict[str, Tensor], phase: str, step: int, origins: Mapping[str, str]) -> None: ...

    def gradients(self, parameters: dict[str, nn.Parameter], phase: str, step: int) -> None: ...

    def weights(self, parameters: dict[str, nn.Parameter], phase: str, step: int) -> None: ...


class Stepper:
    """Runs the steps of one stage. Loss terms, logged values and gradient norms are summed as `phase/name`.

    terms: names of the loss terms seen so far
    gauge: measures the gradients of some steps
    """

    def __init__(self, fabric: Any, state: State, stage: Stage, batches: Batches) -> None:
        self.fabric, self.model, self.config, self.seed = fabric, state.model, stage.settings, state.seed
        self.state, self.sums, self.ema, self.outliers = state, state.sums, state.ema, state.outliers
        self.tracker = state.tracker
        self.stage, self.batches, self.channels_last = stage, batches, state.channels_last
        self.device: torch.device = fabric.device
        self.alone = fabric.world_size == 1
        loss = LossModule(self.model)
        self.wrapped: Any = loss if self.alone else fabric.setup_module(loss, move_to_device=False)
        self.optimizers: dict[str, Any] = dict(stage.optimizers)
        if not self.alone:
            self.optimizers = {name: fabric.setup_optimizers(opt) for name, opt in stage.optimizers.items()}
        self.rng = torch.Generator(self.device)
        self.terms: set[str] = set()
        self.gauge = Gauge(stage)
        self._last: Batch | None = None
        self._mixed: Mixed | None = None
        self._shared: list[dict[str, Tensor]] = []
        self._other_shared: list[dict[str, Tensor]] = []
        self._on: set[str] = set(stage.all_trained)

    def run(self, counters: Counters, watch: Watch | None = None) -> None:
        """One step; advances the counters. `watch` looks at every value and may raise."""
        step, stage = counters.step, self.stage
        within = step - stage.start
        factor = self.state.rate_factor(stage, step)
        for name, opt in stage.optimizers.items():
            for group in opt.param_groups:
                group["lr"] = stage.rates[name] * factor
        # Whatever the model draws from torch's global generators (dropout) follows from the step too.
        rank = self.fabric.global_rank
        seed_generators(seed_of(self.seed, "global", step, rank), self.device)
        ctx = Context(step, within / stage.config.steps, stage.config.name, stage.weights, self.rng)
        parts = range(self.config.accumulate)
        self._last, self._shared = None, [{} for _ in parts]
        self._other_shared = [{} for _ in parts]
        for active in stage.due(step):
            for repeat in range(active.phase.repeats):
                self._run_phase(active, repeat, counters, ctx, watch)
        if self.ema is not None:
            self.ema.update(stage.average(within, stage.config.steps))
        if self.tracker is not None:
            self.tracker.update(within)
        with torch.no_grad():
            self.rng.manual_seed(seed_of(self.seed, "after", step, rank))
            self.model.after_step(ctx)
        self._record("step", ctx)
        counters.step += 1

    def _run_phase(
        self, active: ActivePhase, repeat: int, counters: Counters, ctx: Context, watch: Watch | None
    ) -> None:
        phase, config, fabric = active.phase, self.config, self.fabric
        if phase.fresh_batch or self._last is None:
            self._last = self._next(counters, ctx, phase.name, watch)
            for shared in (*self._shared, *self._other_shared):
                shared.clear()  # it was about another batch
        self._train_only(active)
        optimizer = self.optimizers[phase.optimizer_name]
        parts = _split(self._last, config.accumulate)
        mixed = _split_mixed(self._mixed, config.accumulate)
        for micro, part in enumerate(parts):
            self.rng.manual_seed(seed_of(self.seed, phase.name, ctx.step, repeat, micro, fabric.global_rank))
            ctx.shared = self._shared[micro]
            watched = watch.forward(phase.name, ctx.step) if watch else nullcontext()
            call = LossCall(phase.name, part, ctx, self.stage, mixed[micro], self._other_shared[micro])
            with self._unsynced(micro + 1 < len(parts)):
                kept = offloading(config.activation_offload, self.device)
                with watched, kept, _eager(config.compile and phase.double_backward):
                    terms = self._terms(call)
                if watch:
                    watch.terms(terms, phase.name, ctx.step, call.origins)
                total = self._total(phase, terms, call.weights)
                # The batch's loss is a mean: that of k equal parts is the mean of theirs.
                self._backward(total if len(parts) == 1 else total / len(parts))
            named = {f"{phase.name}/{n}": t for n, t in terms.items()}
            if len(terms) > 1 or ctx.weights or call.weights:
                named[f"{phase.name}/total"] = total
            # A value that is not finite stays in a sum, and one that is skipped must not end the training.
            if not config.skip or bool(torch.isfinite(total)):
                self.sums.add(named, 1 / len(parts))
                self._record(phase.name, ctx, 1 / len(parts))
            ctx.logged.clear()
        with self.gauge.around(active, ctx.step):
            if self._followed(active, optimizer, watch, ctx):
                optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if watch:
            watch.weights(active.parameters, phase.name, ctx.step)

    def _terms(self, call: LossCall) -> dict[str, Tensor]:
        """The loss, in the precision of the stage.

        On one device Fabric's wrapper would do no more than this, but walk over inputs and outputs for it,
        which small networks feel.
        """
        terms: dict[str, Tensor]
        if not self.alone:
            terms = self.wrapped(call)
            return terms
        precision = self.fabric.strategy.precision
        with precision.forward_context():
            terms = self.wrapped(call)
        if any(term.dtype != torch.float32 for term in terms.values()):
            terms = precision.convert_output(terms)
        return terms

    def _backward(self, total: Tensor) -> None:
        if self.alone:
            total.backward()  # type: ignore[no-untyped-call]
        else:
            self.fabric.backward(total, model=self.wrapped)

    def _followed(self, active: ActivePhase, optimizer: Any, watch: Watch | None, ctx: Context) -> bool:
        """Clip the gradients; whether they are to be followed. Only where some are skipped, it waits for the
        device."""
        config, name, norm = self.config, active.phase.name, None
        if watch and not config.skip:
            watch.gradients(active.parameters, name, ctx.step)
        if config.clip:
            norm = self.fabric.clip_gradients(
                self.wrapped, optimizer, max_norm=config.clip, error_if_nonfinite=False
            )
        elif config.skip:
            norm = norm_of(p.grad for p in active.parameters.values())
        skipped = False
        if config.skip and norm is not None:
            skipped = self.outliers.skips(name, float(norm), config.skip)
            self.sums.add({f"{name}/skipped": torch.tensor(float(skipped), device=self.device)})
            if watch and not skipped:
                watch.gradients(active.parameters, name, ctx.step)
        if norm is not None and not skipped:
            self.sums.add({f"{name}/gradient_norm": norm})
        return not skipped

    def _unsynced(self, on: bool) -> AbstractContextManager[Any]:
        """Gradients of all but the last micro-batch stay on their own process."""
        return (
            self.fabric.no_backward_sync(self.wrapped) if on and self.fabric.world_size > 1 else nullcontext()
        )

    def _next(self, counters: Counters, ctx: Context, phase: str, watch: Watch | None) -> Batch:
        """The next batch of the stream, as the model prepares it."""
        batch = self.place(self.batches.batch(counters.batches))
        if watch:
            watch.batch(batch, phase, ctx.step)
        self.rng.manual_seed(seed_of(self.seed, "prepare", counters.batches, self.fabric.global_rank))
        with torch.no_grad():
            prepared = self.model.prepare(batch, ctx)
        self._mixed = None
        if self.stage.mixer is not None:
            stored = prepared is batch
            self._mixed = self.stage.mixer.mix(prepared, counters.batches, ctx.progress, stored=stored)
        counters.batches += 1
        counters.samples += self.config.batch
        if self._mixed is not None:
            prepared = self._mixed.first
        if prepared is batch:
            return batch
        prepared = self.place(prepared)
        if watch:
            watch.batch(prepared, phase, ctx.step, "what `prepare` made of the data")
        return prepared

    def place(self, batch: Batch) -> Batch:
        """A batch on the training device, in the layout of the networks."""
        last = self.channels_last

        def put(t: Tensor) -> Tensor:
            t = t.to(self.device, non_blocking=True)
            return channels_last(t) if last and t.dim() == 4 else t

        return batch.map(put)

    def _train_only(self, active: ActivePhase) -> None:
        """Only this phase's parameters require gradients: the others are neither moved nor paid for."""
        wanted = active.parameters.keys()
        if self._on == wanted:
            return
        for name, parameter in self.stage.all_trained.items():
            if (name in wanted) != (name in self._on):
                parameter.requires_grad_(name in wanted)
        self._on = set(wanted)

    def _total(self, phase: Phase, terms: dict[str, Tensor], weights: Mapping[str, float]) -> Tensor:
        """Σ weight·term; `weights` are those of the user's own losses."""
        self.terms.update(terms)
        for name, term in terms.items():
            if term.dim():
                raise CallError(
                    f"loss term '{name}' of phase '{phase.name}' must be a scalar, not {tuple(term.shape)}"
                )
        of = {n: self.stage.weights.get(n, 1.0) * weights.get(n, 1.0) for n in terms}
        weighted = [t if of[n] == 1.0 else t * of[n] for n, t in terms.items()]
        if not weighted:
            raise CallError(f"phase '{phase.name}' returned no loss terms")
        total = weighted[0]
        for term in weighted[1:]:
            total = total + term
        if not total.requires_grad:
            raise CallError(
                f"the loss of phase '{phase.name}' does not depend on the parameters that it trains"
            )
        return total

    def _record(self, prefix: str, ctx: Context, share: float = 1.0) -> None:
        if ctx.logged:
            self.sums.add({f"{prefix}/{n}": v for n, v in ctx.logged.items()}, share)
            ctx.logged.clear()


def _split(batch: Batch, parts: int) -> list[Batch]:
    """A batch cut along its samples into equal parts."""
    if parts == 1:
        return [batch]
    size = len(batch) // parts
    return [batch.map(lambda t, at=at: t[at * size : (at + 1) * size]) for at in range(parts)]  # type: ignore[misc]


def _split_mixed(mixed: Mixed | None, parts: int) -> list[Mixed | None]:
    if mixed is None:
        return [None] * parts
    sides = zip(_split(mixed.first, parts), _split(mixed.second, parts), strict=True)
    return [Mixed(first, second, mixed.share) for first, second in sides]


def _eager(on: bool) -> AbstractContextManager[Any]:
    """Compiled networks run uncompiled inside: what torch.compile makes cannot be differentiated twice."""
    return torch.compiler.set_stance("force_eager") if on else nullcontext()
