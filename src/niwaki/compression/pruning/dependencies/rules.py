"""How each operation of torch passes labels on: one rule per kind of operation, whatever module called it.

Here those that work element by element, sum or resample; `moves` has those that move values, `products` those
that multiply them with weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from niwaki.compression.pruning.dependencies.labels import (
    DependencyGraph,
    Labels,
    along,
    collapsed,
    product,
    reduced,
)

__all__ = ["Follower", "aligned", "elementwise", "follow", "rule", "tensors"]


class Follower(Protocol):
    """Who keeps the labels of tensors."""

    dependencies: DependencyGraph

    def of(self, value: Any) -> Labels: ...

    def note(self, value: Tensor, labels: Labels) -> None: ...


Rule = Callable[[Follower, Any, dict[str, Any], Any], None]
"""(follower, operation, arguments by name, result)"""

_RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: the rule of these operations, by their names without overloads."""

    def enter(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def follow(to: Follower, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Note the labels of `out`."""
    schema = op._schema.arguments
    given = {a.name: v for a, v in zip(schema, args, strict=False)} | kwargs
    named = {a.name: given.get(a.name, a.default_value) for a in schema}  # in the operation's own order
    if any(to.of(t) for t in tensors(named.values())):
        _RULES.get(op._schema.name.partition("::")[2].removesuffix("_"), elementwise)(to, op, named, out)


def tensors(values: Any) -> Iterator[Tensor]:
    for v in values:
        if isinstance(v, Tensor):
            yield v
        elif isinstance(v, list | tuple):
            yield from tensors(v)


def aligned(to: Follower, value: Any, ndim: int, last: int | None = None) -> Labels:
    return to.of(value).each(lambda f: along(f, ndim, last))


def elementwise(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    """Anything without a rule of its own: followed where it keeps shapes, else its channels stay."""
    given = list(tensors(a.values()))
    made = list(tensors(out if isinstance(out, tuple | list) else [out]))
    if not made:
        return  # a question about tensors
    try:
        shape = torch.broadcast_shapes(*(t.shape for t in given))
    except RuntimeError:
        shape = None
    if shape is None or any(m.shape != shape for m in made):
        for t in given:
            to.dependencies.keep(to.of(t), f"it passes through '{op._schema.name}', which cannot be followed")
        return
    labels = product(to.dependencies, [aligned(to, t, len(shape)) for t in given])
    for m in made:
        to.note(m, labels)


@rule("copy")
def _copy(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    if out._base is not None:
        to.dependencies.keep(to.of(a["src"]), "it is written into a part of another tensor")
    elementwise(to, op, a, out)


@rule(
    "sum", "mean", "amax", "amin", "var", "std", "norm", "linalg_vector_norm", "logsumexp", "prod",
    "any", "all", "var_mean", "std_mean", "argmax", "argmin", "max", "min", "median", "mode", "topk",
    "nansum",
)  # fmt: skip
def _reduce(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    value = a["self"]
    if isinstance(a.get("other"), Tensor):
        return elementwise(to, op, a, out)
    dim = a.get("dim")
    dims = range(value.ndim) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    labels = reduced(to.of(value), [d % value.ndim for d in dims], keepdim=bool(a.get("keepdim", "k" in a)))
    for part in tensors(out if isinstance(out, tuple | list) else [out]):
        to.note(part, labels)
    return None


@rule(
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d", "upsample_linear1d",
    "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_nearest_exact2d",
    "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d", "grid_sampler_2d",
)  # fmt: skip
def _resample(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    """Channels pass by themselves; places are mixed."""
    value = a["self"] if "self" in a else a["input"]
    labels = collapsed(to.dependencies, to.of(value), range(2, value.ndim))
    for part in tensors(out if isinstance(out, tuple | list) else [out]):
        to.note(part, labels)
