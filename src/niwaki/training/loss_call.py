"""A call of a training's loss, as the forward of a module."""

from __future__ import annotations

from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, Trainable
from niwaki.training.mixing import Mixed
from niwaki.training.stages import Stage

__all__ = ["LossCall", "LossModule"]


class LossCall:
    """The arguments of `loss`, opaque to Fabric: it would copy the dataclasses (losing what `ctx.log`
    records) and round the batch to bf16 before the loss sees it.

    losses:  the user's own, added to the model's
    mixed:   what the batch is mixed of, where it is; `shared` of the second half of it
    weights: filled with the weights of their terms, `origins` with the functions that they come from
    """

    __slots__ = ("batch", "ctx", "losses", "mixed", "objective", "origins", "phase", "shared", "weights")

    def __init__(
        self,
        phase: str,
        batch: Batch,
        ctx: Context,
        stage: Stage,
        mixed: Mixed | None = None,
        shared: dict[str, Tensor] | None = None,
    ) -> None:
        self.mixed, self.shared = mixed, {} if shared is None else shared
        self.phase, self.batch, self.ctx = phase, batch, ctx
        self.losses, self.objective = stage.losses.get(phase, ()), stage.pretraining or stage.objective
        self.weights: dict[str, float] = {}
        self.origins: dict[str, str] = {}


class LossModule(nn.Module):
    """`loss` as the forward of a module: what Fabric wraps, so that autocast and DDP see every call.

    (`mark_forward_method("loss")` would do so only under DDP: on one device Fabric hands out the bare
    method, without autocast.)
    """

    def __init__(self, model: Trainable) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: LossCall) -> dict[str, Tensor]:
        mixed, ctx = call.mixed, call.ctx
        if mixed is None or mixed.first is mixed.second:
            return self._terms(call, call.batch if mixed is None else mixed.first)
        state = ctx.rng.get_state()
        first, said = self._terms(call, mixed.first), dict(ctx.logged)
        ctx.rng.set_state(state)  # both at the same noise
        shared, ctx.shared = ctx.shared, call.shared
        second = self._terms(call, mixed.second)
        ctx.shared = shared
        ctx.logged = {n: mixed.total(said[n], v) if n in said else v for n, v in ctx.logged.items()}
        return {name: mixed.total(term, second[name]) for name, term in first.items()}

    def _terms(self, call: LossCall, batch: Batch) -> dict[str, Tensor]:
        terms = (
            self.model.loss(call.phase, batch, call.ctx)
            if call.objective is None
            else call.objective.loss(self.model, call.phase, batch, call.ctx)
        )
        origins: dict[str, str] = {}
        for loss in call.losses:
            for name, term in loss.terms(self.model, batch, call.ctx).items():
                if name in terms:
                    origin = origins.get(name, "the model")
                    raise CallError(
                        f"the loss {loss.call} returns the term '{name}', as {origin} does; rename it"
                    )
                terms = {**terms, name: term}
                call.weights[name], origins[name] = loss.weight, loss.call
        call.origins.update(origins)
        return terms
