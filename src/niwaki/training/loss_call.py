"""A call of a training's loss, as the forward of a module."""

from __future__ import annotations

from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, Trainable
from niwaki.training.stages import Stage

__all__ = ["LossCall", "LossModule"]


class LossCall:
    """The arguments of `loss`, opaque to Fabric: it would copy the dataclasses (losing what `ctx.log`
    records) and round the batch to bf16 before the loss sees it.

    losses:  the user's own, added to the model's
    weights: filled with the weights of their terms, `origins` with the functions that they come from
    """

    __slots__ = ("batch", "ctx", "losses", "objective", "origins", "phase", "weights")

    def __init__(self, phase: str, batch: Batch, ctx: Context, stage: Stage) -> None:
        self.phase, self.batch, self.ctx = phase, batch, ctx
        self.losses, self.objective = stage.losses.get(phase, ()), stage.objective
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
        terms = (
            self.model.loss(call.phase, call.batch, call.ctx)
            if call.objective is None
            else call.objective.loss(self.model, call.phase, call.batch, call.ctx)
        )
        for loss in call.losses:
            for name, term in loss.terms(self.model, call.batch, call.ctx).items():
                if name in terms:
                    origin = call.origins.get(name, "the model")
                    raise CallError(
                        f"the loss {loss.call} returns the term '{name}', as {origin} does; rename it"
                    )
                terms = {**terms, name: term}
                call.weights[name], call.origins[name] = loss.weight, loss.call
        return terms
