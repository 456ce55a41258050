"""Trying a cut before it is made: with random weights, dead channels and cut channels must say the same.

If the layers of a coupling are found rightly, silencing its channels everywhere (all their weights zero, on
the making and on the using side) and cutting them out give the same outputs. Where the network also looks at
how many channels there are (a norm over pixels), putting them in another order everywhere still changes
nothing. A wrong position makes an error of the size of the outputs in both, a forgotten layer one of shapes.
So the layers that must keep their width are found, not listed. Where channels are counted in stretches
(heads, groups) only equal outputs will do: a noted number of heads may fit and put the borders elsewhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.compression.forward import losses, outputs
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, cuts_of
from niwaki.compression.pruning.dependencies.width_attributes import find_width_attributes
from niwaki.core.contract import GenerativeModel, NiwakiError, first_line
from niwaki.surgery.cuts import find, reorder, scale, width
from niwaki.surgery.edits import apply_edits

__all__ = ["Trial"]

_TOLERANCE = 1e-3  # of the outputs' own size; a wrong position makes an error of order 1
_FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, KeyError, NiwakiError)


class Trial:
    """A copy of a model with random weights, on which couplings are tried.

    Raises NiwakiError where the copy gives no finite output at all.
    """

    def __init__(self, model: GenerativeModel, seed: int = 0) -> None:
        self.rng = torch.Generator().manual_seed(seed)
        for size in (1.0, 0.5, 0.2, 0.05):
            self.model = _randomized(copy.deepcopy(model).eval(), self.rng, size)
            self.reference = outputs(self.model, state=False)
            if all(torch.isfinite(o).all() for o in self.reference):
                break
        else:
            raise NiwakiError(
                "the model's graphs give no finite output for random weights, so no cut can be tried"
            )
        try:
            losses(copy.deepcopy(model))
            self.trains = True
        except _FAILURES:
            self.trains = False  # its loss needs more than a plain batch: nothing can be said about it here

    def tried(self, coupling: Coupling) -> Coupling:
        """The coupling, protected with the reason where some of its channels cannot be cut; otherwise with
        the numbers that must follow the cut."""
        if coupling.protected:
            return coupling
        some = _some(coupling, self.rng)
        reason = self.refusal([(coupling, some)])
        if not reason:
            return replace(coupling, exact=self.exact)
        found = find_width_attributes(self.model, coupling, lambda one: not self.refusal([(one, some)]))
        if found is None:
            return replace(coupling, protected=reason)
        self.refusal([(found, some)])
        return replace(found, exact=self.exact)

    def refusal(self, removed: list[tuple[Coupling, tuple[int, ...]]]) -> str:
        """Why these units cannot be cut out; empty where they can. `exact` is whether silencing them is the
        same as cutting them out."""
        self.exact = False
        try:
            whole = outputs(self.model, state=False)
            touched = {m.module for coupling, _ in removed for m in coupling.members}
            with _undone(self.model, touched):
                for coupling, units in removed:
                    _silence(self.model, coupling, units)
                silenced = outputs(self.model, state=False)
            with _undone(self.model, touched):
                apply_edits(self.model, cuts_of(self.model, removed))
                cut = outputs(self.model, state=False)
                if self.trains:
                    losses(self.model)
            for a, b in zip(whole, cut, strict=True):
                if a.shape != b.shape or not torch.isfinite(b).all():
                    return f"a trial cut makes an output of shape {tuple(b.shape)} of one of {tuple(a.shape)}"
            if _same(silenced, cut):
                self.exact = True
                return ""
            if len(removed) == 1 and removed[0][0].strict:
                return "a trial cut moves the borders between its heads or groups"
            with _undone(self.model, touched):
                for coupling, _ in removed:
                    self._shuffle(coupling)
                if _same(whole, outputs(self.model, state=False)):
                    return ""
        except _FAILURES as error:
            return f"a trial cut fails: {first_line(error)}"
        return "its channels are not interchangeable: a trial cut changes what the others compute"

    def _shuffle(self, coupling: Coupling) -> None:
        """Put the units in another order everywhere, within their blocks."""
        size = coupling.units // coupling.blocks
        starts = range(0, coupling.units, size)
        order = torch.cat([torch.randperm(size, generator=self.rng) + start for start in starts]).tolist()
        for member in coupling.members:
            target = find(self.model, member.module)
            places = list(range(width(target, member.side)))
            for new, old in enumerate(order):
                for a, b in zip(member.positions[new], member.positions[old], strict=True):
                    places[a] = b
            reorder(target, member.side, places)


@contextmanager
def _undone(model: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """What happens to these modules and bare parameters is taken back: cheaper than copies. Elsewhere tensors
    and numbers may be replaced, but not written into."""
    values: dict[int, tuple[Tensor, Tensor]] = {}
    for name in names:
        target = find(model, name)
        for t in [target] if isinstance(target, Tensor) else [*target.parameters(), *target.buffers()]:
            values[id(t)] = (t, t.detach().clone())
    kept = []
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # nothing in it is ever replaced
        lists = {k: list(v) for k, v in module.__dict__.items() if type(v) is list}
        kept.append((module, dict(module.__dict__), lists, dict(module._parameters), dict(module._buffers)))
    try:
        yield
    finally:
        for module, attributes, lists, parameters, buffers in kept:
            module.__dict__.clear()
            module.__dict__.update({**attributes, **lists})
            module._parameters.clear()
            module._parameters.update(parameters)
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for tensor, value in values.values():
                tensor.copy_(value)


def _same(expected: list[Tensor], got: list[Tensor]) -> bool:
    return all(a.shape == b.shape and _close(a, b) for a, b in zip(expected, got, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    size = float(a.abs().max()) if a.numel() else 0.0
    return bool(torch.isfinite(b).all()) and float(
        (a - b).abs().max() if a.numel() else 0.0
    ) <= _TOLERANCE * max(size, 1e-6)


def _some(coupling: Coupling, rng: torch.Generator) -> tuple[int, ...]:
    """About two in five units, as many from every block, drawn at random."""
    size = coupling.units // coupling.blocks
    step = coupling.multiple // coupling.blocks
    count = size - max(step, min(round(0.6 * size / step) * step, size - step))
    count = count or min(max(1, round(0.4 * size)), size - 1)
    chosen: list[int] = []
    for block in range(coupling.blocks):
        order = torch.randperm(size, generator=rng)[:count]
        chosen += (order + block * size).tolist()
    return tuple(sorted(chosen))


@torch.no_grad()
def _silence(model: nn.Module, coupling: Coupling, units: tuple[int, ...]) -> None:
    for member in coupling.members:
        target = find(model, member.module)
        lost = [p for u in units for p in member.positions[u]]
        factors = torch.ones(width(target, member.side))
        factors[lost] = 0.0
        device = target.device if isinstance(target, Tensor) else next(target.parameters(), factors).device
        scale(target, member.side, factors.to(device))


@torch.no_grad()
def _randomized(model: GenerativeModel, rng: torch.Generator, size: float) -> GenerativeModel:
    """Weights that hide nothing (a last layer that starts at zero would), norms that act channel by channel.

    Norms over several channels mix a dead channel into the statistics of the others; that is the norm's
    business, not the coupling's, so on the copy they only scale and shift.
    """

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=rng).to(like)

    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        if parameter.ndim >= 2:
            fan = math.prod(parameter.shape[1:])
            parameter.copy_(normal(parameter) * size / math.sqrt(fan))
        else:
            parameter.copy_(0.5 + 0.3 * normal(parameter))
    for module in model.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.RMSNorm):
            module.forward = MethodType(_affine(1 if isinstance(module, nn.GroupNorm) else -1), module)  # type: ignore
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.copy_(0.1 * normal(module.running_mean))
            assert module.running_var is not None
            module.running_var.copy_(1.0 + normal(module.running_var).abs())
    return model


def _affine(axis: int) -> Callable[[Any, Tensor], Tensor]:
    def forward(self: Any, x: Tensor) -> Tensor:
        shape = tuple(getattr(self, "normalized_shape", ()))
        if shape and tuple(x.shape[-len(shape) :]) != shape:
            raise ValueError(f"a norm over {shape} meets values of shape {tuple(x.shape)}")
        for name, combine in (("weight", torch.mul), ("bias", torch.add)):
            value = getattr(self, name, None)
            if value is not None:
                shape = tuple(value.shape) + (1,) * (x.ndim - 2 if axis == 1 else 0)
                x = combine(x, value.reshape(shape))
        return x

    return forward
