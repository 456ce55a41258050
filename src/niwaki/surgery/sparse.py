"""Single weights that are zero for good: which tensors are sparse, and training that leaves the zeros alone.

The pattern itself is the zeros of the saved weights. The edit `Sparse` only says which tensors were pruned,
so that everything that trains the model later knows that a zero there was meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from niwaki.core.contract import NiwakiError, nearest

__all__ = ["Sparse", "held", "masks", "patterns"]


@dataclass(frozen=True)
class Sparse:
    """These tensors were pruned weight by weight.

    weights: dotted names, as in `named_parameters()`
    pattern: `n:m` where n of every m neighbours along the inputs may be other than zero; "" for any place
    """

    weights: tuple[str, ...]
    pattern: str = ""

    kind: ClassVar[str] = "sparse"

    def apply(self, model: nn.Module) -> None:
        """Changes nothing: the zeros come with the weights. Raises NiwakiError for an unknown name."""
        names = dict(model.named_parameters())
        for name in self.weights:
            if name not in names:
                raise NiwakiError(f"the model has no weights '{name}' to be sparse; {nearest(name, names)}")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "weights": list(self.weights), "pattern": self.pattern}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Sparse:
        return cls(tuple(record["weights"]), record["pattern"])


def patterns(model: nn.Module) -> dict[str, str]:
    """Sparse tensor → its pattern (the newest, where it was pruned more than once); dropped layers are left
    out."""
    here = dict(model.named_parameters())
    found: dict[str, str] = {}
    for edit in getattr(model, "surgery", ()):
        if isinstance(edit, Sparse):
            found.update({name: edit.pattern for name in edit.weights if name in here})
    return found


def masks(model: nn.Module) -> dict[str, Tensor]:
    """Sparse tensor → True where it is not zero, in the tensor's own shape."""
    here = dict(model.named_parameters())
    return {name: here[name].detach() != 0 for name in patterns(model)}


@contextmanager
def held(model: nn.Module, more: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """Inside the block, training leaves the zeros of sparse tensors exactly zero, in averages of them, too.

    Gradients are masked, so the moments of Adam stay 0 there and its step is 0 / (0 + ε) = 0; weight decay
    multiplies a zero. On leaving, the masks are applied once more, for optimizers that do otherwise.

    more: further masks by name
    """
    kept = {**masks(model), **(more or {})}
    here = dict(model.named_parameters())
    handles = []
    for name, mask in kept.items():
        parameter = here[name]
        required = parameter.requires_grad
        parameter.requires_grad_(True)  # a hook is refused otherwise; it outlives switching off and on
        handles.append(parameter.register_hook(_Masked(mask)))
        parameter.requires_grad_(required)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for name, mask in kept.items():
                here[name].masked_fill_(~mask.to(here[name].device), 0.0)


class _Masked:
    """gradient → gradient · mask, on whatever device the training is."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, gradient: Tensor) -> Tensor:
        if self.mask.device != gradient.device:
            self.mask = self.mask.to(gradient.device)
        return gradient * self.mask
