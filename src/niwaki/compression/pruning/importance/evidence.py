"""What criteria that look at data are given: gradients of the model's loss, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from niwaki.compression.forward import losses
from niwaki.compression.seeds import CALIBRATION
from niwaki.core.contract import Batch, CallError, Context, GenerativeModel, NiwakiError
from niwaki.data import Feeder
from niwaki.deployment.parity import record_calls
from niwaki.training.stages import under

__all__ = ["Evidence"]

_CALLS = 4  # network evaluations of a sampling run that a gradient is taken at

Loss = Callable[[GenerativeModel, Batch], Tensor]


class Evidence:
    """Batches of the training split (without one, of the model's own samples) and a loss of them.

    split:     a `niwaki.data.Split`, or None
    batch:     samples per batch
    batches:   how many
    seed:      of the batches, of what the loss draws, and of random scores
    condition: what own samples are asked for; None is the classes in turn
    loss:      (model, batch) → scalar, instead of the model's own
    moved:     what `movement` has collected: name → Σ −w·∂L/∂w
    """

    def __init__(
        self,
        split: Any = None,
        *,
        batch: int = 64,
        batches: int = 8,
        seed: int = 0,
        condition: Any = None,
        loss: Loss | None = None,
        moved: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.split, self.batch, self.count, self.seed = split, batch, batches, seed
        self.condition, self.loss, self.moved = condition, loss, moved

    def batches(self, model: GenerativeModel) -> Iterator[Batch]:
        """Raises CallError where there is no split, and samples are not all that the model's loss needs."""
        device = next(model.parameters()).device
        if self.split is not None:
            feed = Feeder(self.split, min(self.batch, len(self.split)), seed=self.seed)
            for k in range(self.count):
                yield feed.batch(k).map(lambda t: t.to(device))
            return
        others = sorted(set(model.conditions) - {"class"})
        if others:
            raise CallError(f"gradients of this model's loss need data: samples alone lack '{others[0]}'")
        for k in range(self.count):
            at = k * self.batch
            x = model.sample(self.batch, seed=CALIBRATION + self.seed, condition=self.condition, start=at)
            classes = model.spec.classes
            y = (torch.arange(at, at + self.batch) % classes).to(device) if classes else None
            yield Batch({"x": x, "class": y})

    def gradients(self, model: GenerativeModel) -> Iterator[dict[str, Tensor]]:
        """∂L/∂w of every parameter that L depends on, by name: once per batch. The model is in eval mode.

        L is the model's own loss, summed over the phases that train what sampling uses. A model without one
        (an adapted module) is asked how its outputs move: L = Σ r·f(x), r ~ N(0, 1), at inputs of real
        sampling. Then E[(w·∂L/∂w)²] = w² E‖∂f/∂w‖², twice what removing w adds to ½‖Δf‖² to second order.
        """
        parameters = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
        required = {n: p.requires_grad for n, p in parameters.items()}
        was_training = model.training
        model.eval()
        for p in parameters.values():
            p.requires_grad_(True)
        try:
            for loss in self._losses(model):
                with torch.enable_grad():
                    values = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
                yield {n: g.detach() for n, g in zip(parameters, values, strict=True) if g is not None}
        finally:
            model.train(was_training)
            for n, p in parameters.items():
                p.requires_grad_(required[n])

    def _losses(self, model: GenerativeModel) -> Iterator[Callable[[], Tensor]]:
        if self.loss is not None:
            for batch in self.batches(model):
                yield lambda batch=batch: self.loss(model, batch)  # type: ignore[misc]
        elif _has_own(model):
            for k, batch in enumerate(self.batches(model)):
                yield lambda batch=batch, k=k: self._own(model, batch, k)  # type: ignore[misc]
        else:
            yield from self._projections(model)

    def _own(self, model: GenerativeModel, batch: Batch, k: int) -> Tensor:
        used = {id(p) for g in model.shipped_graphs().values() for p in g.module.parameters()}
        total: list[Tensor] = []
        for phase in model.phases():
            own = [p for n, p in model.named_parameters() if under(n, phase.parameters)]
            if not any(id(p) in used for p in own):
                continue  # a critic
            rng = torch.Generator(batch.x.device).manual_seed(self.seed * self.count + k)
            ctx = Context(0, 0.5, (phase.stages or ("train",))[0], {}, rng)
            total += [v.float() for v in model.loss(phase.name, batch, ctx).values()]
        if not total:
            raise CallError(
                "no phase of this model trains what sampling uses, so it has no gradient to rank by"
            )
        return torch.stack(total).sum()

    def _projections(self, model: GenerativeModel) -> Iterator[Callable[[], Tensor]]:
        device = next(model.parameters()).device
        seed = CALIBRATION + self.seed
        _, recorded = record_calls(model, self.batch, seed=seed, condition=self.condition)
        rng = torch.Generator().manual_seed(self.seed)
        for recorder in recorded.values():
            every = max(1, len(recorder.calls) // _CALLS)
            asked = [inputs for inputs, _ in recorder.calls[every // 2 :: every][:_CALLS]]
            for k in range(max(self.count, len(asked))):
                inputs = [torch.from_numpy(v).to(device) for v in asked[k % len(asked)]]

                def loss(graph: Any = recorder.graph, inputs: list[Tensor] = inputs) -> Tensor:
                    out = graph(*inputs)
                    parts = [p for p in (out if isinstance(out, tuple | list) else (out,)) if p.requires_grad]
                    return torch.stack(
                        [(torch.randn(p.shape, generator=rng).to(p) * p).sum().float() for p in parts]
                    ).sum()

                yield loss


def _has_own(model: GenerativeModel) -> bool:
    """A model that refuses to be trained says so with a CallError of its own."""
    try:
        losses(model)
    except CallError:
        return False
    except (NiwakiError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        # It has one, which needs more than an example batch.
        return True
    return True
