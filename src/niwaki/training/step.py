"""One training step: every phase that is due, its repeats and micro-batches, then the average. No host
synchronisation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, Phase, Trainable
from niwaki.training.hardware import channels_last, seed_generators
from niwaki.training.schedule import ema_decay, lr_factor, seed_of
from niwaki.training.stages import ActivePhase, Stage
from niwaki.training.state import Counters, State

__all__ = ["Batches", "Stepper", "Watch"]


class Batches(Protocol):
    """Where batches come from: the k-th is a pure function of k, so a resumed run sees the same ones."""

    def batch(self, k: int) -> Batch: ...


class Watch(Protocol):
    """Looks at every value of a step; used only to find out where a value that is not finite came from."""

    def forward(self, phase: str, step: int) -> AbstractContextManager[None]: ...

    def batch(self, batch: Batch, phase: str, step: int) -> None: ...

    def terms(self, terms: dict[str, Tensor], phase: str, step: int) -> None: ...

    def gradients(self, parameters: dict[str, nn.Parameter], phase: str, step: int) -> None: ...

    def weights(self, parameters: dict[str, nn.Parameter], phase: str, step: int) -> None: ...


class _Call:
    """The arguments of `loss`, opaque to Fabric: it would copy the dataclasses (losing what `ctx.log`
    records) and round the batch to bf16 before the loss sees it."""

    __slots__ = ("batch", "ctx", "phase")

    def __init__(self, phase: str, batch: Batch, ctx: Context) -> None:
        self.phase, self.batch, self.ctx = phase, batch, ctx


class _Loss(nn.Module):
    """`loss` as the forward of a module: what Fabric wraps, so that autocast and DDP see every call.

    (`mark_forward_method("loss")` would do so only under DDP: on one device Fabric hands out the bare
    method, without autocast.)
    """

    def __init__(self, model: Trainable) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: _Call) -> dict[str, Tensor]:
        return self.model.loss(call.phase, call.batch, call.ctx)


class Stepper:
    """Runs the steps of one stage. Loss terms, logged values and gradient norms are summed as `phase/name`.

    terms: names of the loss terms seen so far
    """

    def __init__(self, fabric: Any, state: State, stage: Stage, batches: Batches) -> None:
        self.fabric, self.model, self.config, self.seed = fabric, state.model, state.config, state.seed
        self.sums, self.ema = state.sums, state.ema
        self.stage, self.batches, self.channels_last = stage, batches, state.channels_last
        self.device: torch.device = fabric.device
        self.wrapped = fabric.setup_module(_Loss(self.model), move_to_device=False)
        self.optimizers = {name: fabric.setup_optimizers(opt) for name, opt in stage.optimizers.items()}
        self.rng = torch.Generator(self.device)
        self.terms: set[str] = set()
        self._last: Batch | None = None
        self._shared: list[dict[str, Tensor]] = []
        self._on: set[str] = set(stage.all_trained)

    def run(self, counters: Counters, watch: Watch | None = None) -> None:
        """One step; advances the counters. `watch` looks at every value and may raise."""
        step, stage = counters.step, self.stage
        within = step - stage.start
        factor = lr_factor(within, stage.config.steps, self.config.warmup, self.config.schedule)
        for name, opt in stage.optimizers.items():
            for group in opt.param_groups:
                group["lr"] = stage.rates[name] * factor
        # Whatever the model draws from torch's global generators (dropout) follows from the step too.
        rank = self.fabric.global_rank
        seed_generators(seed_of(self.seed, "global", step, rank), self.device)
        ctx = Context(step, within / stage.config.steps, stage.config.name, stage.weights, self.rng)
        self._last, self._shared = None, [{} for _ in range(self.config.accumulate)]
        for active in stage.due(step):
            for repeat in range(active.phase.repeats):
                self._phase(active, repeat, counters, ctx, watch)
        if self.ema is not None:
            self.ema.update(ema_decay(self.config.ema, within))
        with torch.no_grad():
            self.rng.manual_seed(seed_of(self.seed, "after", step, rank))
            self.model.after_step(ctx)
        self._record("step", ctx)
        counters.step += 1

    def _phase(
        self, active: ActivePhase, repeat: int, counters: Counters, ctx: Context, watch: Watch | None
    ) -> None:
        phase, config, fabric = active.phase, self.config, self.fabric
        if phase.fresh_batch or self._last is None:
            self._last = self._next(counters)
            for shared in self._shared:
                shared.clear()  # it was about another batch
        self._train_only(active)
        optimizer = self.optimizers[phase.optimizer_name]
        parts = _split(self._last, config.accumulate)
        for micro, part in enumerate(parts):
            self.rng.manual_seed(seed_of(self.seed, phase.name, ctx.step, repeat, micro, fabric.global_rank))
            ctx.shared = self._shared[micro]
            if watch:
                watch.batch(part, phase.name, ctx.step)
            looking = watch.forward(phase.name, ctx.step) if watch else nullcontext()
            with self._unsynced(micro + 1 < len(parts)):
                with looking, _eager(config.compile and phase.double_backward):
                    terms = self.wrapped(_Call(phase.name, part, ctx))
                if watch:
                    watch.terms(terms, phase.name, ctx.step)
                total = self._total(phase, terms)
                # The batch's loss is a mean: that of k equal parts is the mean of theirs.
                fabric.backward(total if len(parts) == 1 else total / len(parts), model=self.wrapped)
            named = {f"{phase.name}/{n}": t for n, t in terms.items()}
            if len(terms) > 1 or ctx.weights:
                named[f"{phase.name}/total"] = total
            self.sums.add(named, 1 / len(parts))
            self._record(phase.name, ctx, 1 / len(parts))
        if watch:
            watch.gradients(active.parameters, phase.name, ctx.step)
        if config.clip:
            norm = fabric.clip_gradients(
                self.wrapped, optimizer, max_norm=config.clip, error_if_nonfinite=False
            )
            self.sums.add({f"{phase.name}/gradient_norm": norm})
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if watch:
            watch.weights(active.parameters, phase.name, ctx.step)

    def _unsynced(self, on: bool) -> AbstractContextManager[Any]:
        """Gradients of all but the last micro-batch stay on their own process."""
        return (
            self.fabric.no_backward_sync(self.wrapped) if on and self.fabric.world_size > 1 else nullcontext()
        )

    def _next(self, counters: Counters) -> Batch:
        batch = self.batches.batch(counters.batches)
        counters.batches += 1
        last = self.channels_last

        def place(t: Tensor) -> Tensor:
            t = t.to(self.device, non_blocking=True)
            return channels_last(t) if last and t.dim() == 4 else t

        return batch.map(place)

    def _train_only(self, active: ActivePhase) -> None:
        """Only this phase's parameters require gradients: the others are neither moved nor paid for."""
        wanted = active.parameters.keys()
        if self._on == wanted:
            return
        for name, parameter in self.stage.all_trained.items():
            if (name in wanted) != (name in self._on):
                parameter.requires_grad_(name in wanted)
        self._on = set(wanted)

    def _total(self, phase: Phase, terms: dict[str, Tensor]) -> Tensor:
        """Σ weight·term."""
        self.terms.update(terms)
        for name, term in terms.items():
            if term.dim():
                raise CallError(
                    f"loss term '{name}' of phase '{phase.name}' must be a scalar, not {tuple(term.shape)}"
                )
        weighted = [t if (w := self.stage.weights.get(n, 1.0)) == 1.0 else t * w for n, t in terms.items()]
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


def _eager(on: bool) -> AbstractContextManager[Any]:
    """Compiled networks run uncompiled inside: what torch.compile makes cannot be differentiated twice."""
    return torch.compiler.set_stance("force_eager") if on else nullcontext()
