"""Training a pruned model on, taught by the uncompressed one: same noise, same condition, same outputs.

Hinton, Vinyals & Dean 2015, for generators as in Aguinaldo et al. 2019 and Li et al. 2020 ("GAN
Compression"). The rule is chosen by a graph's role: what the two networks are asked, and so compared at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.compression.config import FinetuneConfig
from niwaki.compression.forward import losses
from niwaki.contract import (
    Batch,
    CallError,
    Context,
    GenerativeModel,
    Graph,
    NiwakiError,
    Phase,
    Port,
    Trainable,
)
from niwaki_runtime.samplers import Cascade, Diffusion, OneShot, Sampler
from niwaki_runtime.samplers.schedules import alpha_bars

__all__ = ["Distilled", "asks"]

Asks = Callable[[GenerativeModel, str, Graph, Batch, Context], tuple[Tensor, ...] | None]
"""(teacher, name of the graph, graph, batch, ctx) → inputs that both are given; None where the rule does not
apply."""

_ROLES: dict[str, Asks] = {}


def asks(*roles: str) -> Callable[[Asks], Asks]:
    """Decorator: how graphs of these roles are compared."""

    def enter(function: Asks) -> Asks:
        for role in roles:
            _ROLES[role] = function
        return function

    return enter


@asks("generator", "decoder", "translator")
def on_latents(
    teacher: GenerativeModel, name: str, graph: Graph, batch: Batch, ctx: Context
) -> tuple[Tensor, ...]:
    """Fresh latents, and the batch's own classes and conditions: where the sampler will call it."""
    latent = any(
        isinstance(s, OneShot) and s.graph == name and s.latent is not None for s in _legs(teacher.sampler())
    )
    return tuple(_value(p, teacher, batch, ctx, noise=latent and i == 0) for i, p in enumerate(graph.inputs))


@asks("denoiser")
def on_noised_data(
    teacher: GenerativeModel, name: str, graph: Graph, batch: Batch, ctx: Context
) -> tuple[Tensor, ...] | None:
    """x_t = α_t x₀ + σ_t ε of real x₀ at uniform t, some labels dropped where the sampler guides."""
    sampler = next(
        (s for s in _legs(teacher.sampler()) if isinstance(s, Diffusion) and s.graph == name), None
    )
    if sampler is None or batch.x.shape[1:] != sampler.shape:
        return None
    n, device = len(batch), batch.x.device
    bars = torch.tensor(alpha_bars(sampler.schedule, sampler.train_steps), dtype=torch.float32, device=device)
    t = torch.randint(0, sampler.train_steps, (n,), generator=ctx.rng, device=device)
    bar = bars[t].reshape(-1, *[1] * (batch.x.ndim - 1))
    noise = torch.randn(batch.x.shape, generator=ctx.rng, device=device)
    inputs = [bar.sqrt() * batch.x + (1.0 - bar).sqrt() * noise, t.float()]
    graphs = teacher.graphs()
    for condition, port in zip(sampler.conditions, graph.inputs[2:], strict=True):
        if condition in sampler.encoders:
            encoder = graphs[sampler.encoders[condition]]
            value = encoder(
                _value(replace(encoder.inputs[0], name=condition), teacher, batch, ctx, noise=False)
            )
        else:
            value = _value(port, teacher, batch, ctx, noise=False)
            if condition in sampler.null:
                drop = torch.rand((n,), generator=ctx.rng, device=device) < 0.1
                value = torch.where(drop.reshape(-1, *[1] * (value.ndim - 1)), sampler.null[condition], value)
        inputs.append(value)
    return tuple(inputs)


def _legs(sampler: Sampler) -> Iterator[Sampler]:
    if isinstance(sampler, Cascade):
        for leg in sampler.legs:
            yield from _legs(leg)
    else:
        yield sampler


def _value(port: Port, model: GenerativeModel, batch: Batch, ctx: Context, *, noise: bool) -> Tensor:
    """What an input is given: the batch's own where the batch has it, else random values of its kind."""
    n, device = len(batch), batch.x.device
    shape = tuple(n if axis == port.batch_axis else s for axis, s in enumerate(port.shape))
    if port.name in batch.condition:
        return batch.condition[port.name]
    if port.high:
        if (
            len(shape) == 1
            and batch.y is not None
            and port.high in (model.spec.classes, model.spec.classes + 1)
        ):
            return batch.y
        return torch.randint(0, port.high, shape, generator=ctx.rng, device=device)
    if not noise and port.shape[1:] == model.spec.shape:
        return batch.x
    return torch.randn(shape, generator=ctx.rng, device=device)


class Distilled(Trainable):
    """A student and its frozen teacher as one thing to train. Only the student is averaged and saved.

    The phases are the student's own; those that train a graph with a known role also bring the student's
    outputs to the teacher's. A model without a loss of its own (an adapted module) is trained by the distance
    alone.
    Raises CallError where neither a rule nor a loss applies.
    """

    def __init__(self, student: GenerativeModel, teacher: GenerativeModel, config: FinetuneConfig) -> None:
        super().__init__()
        self.student, self.config = student, config
        # In a tuple, so that it is no submodule: not trained, not averaged, not in checkpoints.
        self._teacher = (teacher.eval().requires_grad_(False),)
        self._taught = {n: g.role for n, g in student.graphs().items() if g.role in _ROLES}
        self._own = config.own > 0 and _has_loss(student)
        if not self._taught and not self._own:
            roles = sorted({g.role for g in student.graphs().values()})
            raise CallError(
                f"no rule says how to distil a graph of the role {', '.join(roles)}, "
                "and the model has no loss of its own"
            )
        self._at = self._assign() if self._own else dict.fromkeys(self._taught, "distill")
        self._norms = [m for m in student.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    @property
    def teacher(self) -> GenerativeModel:
        return self._teacher[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.teacher._apply(fn, recurse)  # the teacher goes where the student goes
        return super()._apply(fn, recurse)

    def _assign(self) -> dict[str, str]:
        """graph → the first phase that trains some of it."""
        graphs, found = self.student.graphs(), {}
        for phase in self.student.phases():
            trained = {id(p) for name in phase.parameters for p in _parameters(self.student, name)}
            for name in self._taught:
                if name not in found and any(id(p) in trained for p in graphs[name].module.parameters()):
                    found[name] = phase.name
        return found

    def phases(self) -> tuple[Phase, ...]:
        if not self._own:
            graphs = self.student.graphs()
            wanted = {id(p) for name in self._taught for p in graphs[name].module.parameters()}
            names = [n for n, p in self.student.named_parameters() if id(p) in wanted]
            return (Phase("distill", tuple(f"student.{n}" for n in names)),)
        # Stages are for training from scratch: here all parts are trained together.
        return tuple(
            replace(p, parameters=tuple(f"student.{n}" for n in p.parameters), stage=None)
            for p in self.student.phases()
        )

    def rates(self) -> dict[str, float]:
        """Learning rate by optimizer: the taught phases' and the others'."""
        taught = {p.optimizer_name for p in self.phases() if p.name in self._at.values()}
        names = {p.optimizer_name for p in self.phases()}
        return {n: self.config.lr if n in taught else self.config.own_lr for n in names}

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        if self.training and ctx.progress >= 0.5:
            # The second half trains what will be used: the network with its running statistics, as in
            # evaluation.
            for norm in self._norms:
                norm.eval()
        taught = [name for name, at in self._at.items() if at == phase]
        terms: dict[str, Tensor] = {}
        if self._own:
            weight = self.config.own if taught else 1.0
            terms.update({k: weight * v for k, v in self.student.loss(phase, batch, ctx).items()})
        if self.config.outputs > 0 or not self._own:
            for name in taught:
                terms.update(self._lessons(name, batch, ctx))
        return terms

    def _lessons(self, name: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """What a graph is taught: its outputs' distance from the teacher's at the same inputs, and the spread
        of its samples. {} where no rule says what to ask."""
        teacher = self.teacher.graphs()[name]
        with torch.no_grad():
            inputs = _ROLES[teacher.role](self.teacher, name, teacher, batch, ctx)
            if inputs is None:
                return {}
            inputs = (*inputs, *(_zeros(s, len(batch), batch.x.device) for s in teacher.state))
            wanted = teacher(*inputs)
        made = self.student.graphs()[name](*inputs)
        both = zip(*(o if isinstance(o, tuple | list) else (o,) for o in (made, wanted)), strict=True)
        pairs = [(a.float(), b.float()) for a, b in both]
        distance = torch.stack([DISTANCES[self.config.distance](a, b) for a, b in pairs]).mean()
        terms = {f"distill_{name}": max(self.config.outputs, 1e-8) * distance}
        if self.config.spread > 0 and ctx.progress > 0 and teacher.role in SPREAD and len(pairs[0][0]) > 1:
            spread = torch.stack([spread_distance(a, b) for a, b in pairs]).mean()
            # First what a sample is, then how far from the others: samples that are wrong have no place yet.
            terms[f"spread_{name}"] = self.config.spread * min(1.0, 2.0 * ctx.progress) * spread
        return terms

    def after_step(self, ctx: Context) -> None:
        self.student.after_step(ctx)


SPREAD = ("generator", "decoder", "translator")
"""Roles whose outputs are samples: how far they lie from each other matters."""

DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "l1l2": lambda a, b: F.l1_loss(a, b) + F.mse_loss(a, b),
}


def spread_distance(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean | ‖sᵢ−sⱼ‖ − ‖tᵢ−tⱼ‖ | /√d over the pairs of a batch: how far the distances between samples
    are from the teacher's, in the units of a sample's values, as the distance to the teacher itself.

    The best answer of a small network to a squared error is the mean of what it cannot tell apart: samples
    move together and fewer real ones are reached. Relational distillation (Park et al. 2019, "Relational
    knowledge distillation", eq. 5) sees that, sample by sample.
    """
    a, b = made.flatten(1), wanted.flatten(1)
    return (F.pdist(a) - F.pdist(b)).abs().mean() / math.sqrt(a.shape[1])


def _zeros(state: Any, n: int, device: torch.device) -> Tensor:
    return torch.from_numpy(state.zeros(n)).to(device)


def _parameters(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameters that a phase names: a submodule's, or one."""
    if name in dict(model.named_modules()):
        return list(model.get_submodule(name).parameters())
    return [p for n, p in model.named_parameters() if n == name]


def _has_loss(model: GenerativeModel) -> bool:
    """A model that refuses to be trained says so with a CallError of its own."""
    was_training = model.training
    try:
        losses(model.eval())
    except CallError:
        return False
    except (NiwakiError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return True  # it has one, which needs more than an example batch
    finally:
        model.train(was_training)
    return True
