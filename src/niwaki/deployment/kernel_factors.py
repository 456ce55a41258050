"""Kernels that are one for all samples, scaled per sample and channel: found by taking products apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.export import ExportedProgram
from torch.fx import Node

from niwaki.deployment.graph_writer import RESHAPES, SAME_VALUES, Writer, arguments_of, aten, shape_of

__all__ = ["Factors", "cheaper_square_sum", "factors_of", "kernel_factors", "product_of"]


@dataclass
class Factors:
    """A kernel `(groups, a, b, *k)` as a product: what is the same for all groups, and what scales an axis.

    Each entry is a value (or a number) and whether it divides.
    """

    base: list[tuple[Any, bool]] = field(default_factory=list)
    scales: dict[int, list[tuple[Node, bool]]] = field(default_factory=lambda: {1: [], 2: []})
    flipped: set[int] = field(default_factory=set)


def factors_of(node: Any, rank: int) -> Factors | None:
    """`node`, of `rank` axes with the groups in front, taken apart; None where it is no such product."""
    found = Factors()

    def take(value: Any, divides: bool) -> bool:
        if not isinstance(value, Node):
            found.base.append((value, divides))
            return True
        shape = shape_of(value)
        shape = (1,) * (rank - len(shape)) + shape
        wide = {i for i in range(1, rank) if shape[i] != 1}
        if None in shape[1:] or len(shape) > rank:
            return False
        if shape[0] == 1:
            found.base.append((value, divides))
            return True
        if shape[0] is not None:
            return False
        if len(wide) < 2 and wide <= {1, 2}:
            found.scales[next(iter(wide), 1)].append((value, divides))
            return True
        return through(value, divides)

    def through(value: Node, divides: bool) -> bool:
        given = value.args
        if value.target is aten.mul.Tensor:
            return take(given[0], divides) and take(given[1], divides)
        if value.target is aten.div.Tensor:
            return take(given[0], divides) and take(given[1], not divides)
        if value.target in SAME_VALUES or value.target is aten.expand.default:
            return take(given[0], divides)
        if value.target in RESHAPES:
            source = _before_reshapes(value)
            return source is not value and take(source, divides)
        return False

    return found if isinstance(node, Node) and through(node, False) else None


def _before_reshapes(node: Node) -> Node:
    """The first of a chain of reshapes and copies whose shape is that of `node`."""
    shape, found = shape_of(node), node
    at: Any = node
    while at.target in RESHAPES or at.target in SAME_VALUES:
        at = at.args[0]
        if shape_of(at) == shape:
            found = at
    return found


def kernel_factors(weight: Node, first: int) -> tuple[Factors, bool] | None:
    """A kernel `(groups · first, b, *k)` taken apart, and whether the parts have the two channels exchanged;
    None where it is no product."""
    rank = len(shape_of(weight)) + 1
    apart = (first, *shape_of(weight)[1:])  # of one group
    flips, exchanged = set[int](), False
    at: Any = weight
    while True:
        axes = len(shape_of(at))
        if at.target in SAME_VALUES:
            at = at.args[0]
        elif at.target in RESHAPES:
            source = at.args[0]
            while source.target in RESHAPES and not _is_kernel(source, apart):
                source = source.args[0]
            if not _is_kernel(source, apart):
                break
            at = source
        elif at.target is aten.flip.default:
            dims = {d % axes - axes for d in at.args[1]}
            if min(dims) < 3 - rank:  # of channels
                return None
            flips ^= dims
            at = at.args[0]
        elif at.target is aten.transpose.int and axes == rank and {d % rank for d in at.args[1:]} == {1, 2}:
            at, exchanged = at.args[0], not exchanged
            apart = (apart[1], apart[0], *apart[2:])
        else:
            break
    found = factors_of(at, rank) if len(shape_of(at)) == rank else _repeated(at, apart)
    if found is None:
        return None
    found.flipped = flips
    return found, exchanged


def _repeated(at: Any, apart: tuple[Any, ...]) -> Factors | None:
    """A kernel `(groups · a, b, *k)` that is one of `apart` over and over."""
    repeated = at.target is aten.repeat.default and list(at.args[1])[1:] == [1] * (len(apart) - 1)
    spread = at.target is aten.expand.default and apart[0] == 1
    same = (repeated or spread) and shape_of(at.args[0]) == apart
    return Factors(base=[(at.args[0], False)]) if same else None


def _is_kernel(node: Node, apart: tuple[Any, ...]) -> bool:
    """Whether a value is `(groups, a, b, *k)` or `(groups · a, b, *k)`."""
    shape = shape_of(node)
    return bool(shape) and shape[0] is None and shape[1:] in (apart, apart[1:])


def product_of(write: Writer, factors: Sequence[tuple[Any, bool]], like: Node) -> Node:
    """The product of values, broadcast, and numbers; a tensor also of numbers alone, as `like` is."""
    made: Node | None = None
    for value, divides in [(v, d) for v, d in factors if isinstance(v, Node)]:
        if made is None:
            made = write(aten.reciprocal.default, value) if divides else value
        else:
            made = write(aten.div.Tensor if divides else aten.mul.Tensor, made, value)
    number = math.prod(1 / v if d else v for v, d in factors if not isinstance(v, Node))
    if made is None:
        return write(aten.new_full.default, like, [1], number)
    return made if number == 1 else write(aten.mul.Tensor, made, number)


def cheaper_square_sum(program: ExportedProgram, node: Node) -> None:
    """Σ w² over all axes of a modulated kernel but the sample and one channel, from its factors."""
    kernel: Any = _squares_summed(node)
    if kernel is None:
        return
    shape = shape_of(kernel)
    rank = len(shape)
    named = arguments_of(node)
    dims = {d % rank for d in named["dim"]}
    kept = {1, 2} - dims
    found = factors_of(kernel, rank)
    if (
        found is None
        or len(kept) != 1
        or dims | kept != set(range(1, rank))
        or named.get("dtype") is not None
    ):
        return
    out = kept.pop()
    into, write = 3 - out, Writer(program, node)
    styles = _squared(write, found.scales[into], shape[into])
    if styles is None:
        return
    base = write(aten.expand.default, product_of(write, found.base, kernel), [1, *shape[1:]])
    energy = write(aten.sum.dim_IntList, write(aten.mul.Tensor, base, base), [0, *range(3, rank)])
    if out == 1:
        energy = write(aten.transpose.int, energy, 0, 1)  # (in, out)
    made = write(aten.matmul.default, styles, energy)
    gains = _squared(write, found.scales[out], shape[out])
    if gains is not None:
        made = write(aten.mul.Tensor, made, gains)
    if named.get("keepdim"):
        made = write(aten.reshape.default, made, [-1, *(shape[d] if d == out else 1 for d in range(1, rank))])
    node.replace_all_uses_with(made)
    program.graph_module.graph.erase_node(node)


def _squares_summed(node: Node) -> Node | None:
    """What the sum `node` takes the squares of, where that is a kernel of every sample."""
    square: Any = node.args[0] if node.target is aten.sum.dim_IntList else None
    if not isinstance(square, Node):
        return None
    given: Any = square.args
    powers = square.target is aten.pow.Tensor_Scalar and given[1] == 2
    products = square.target is aten.mul.Tensor and given[0] is given[1]
    if not (powers or products or square.target is aten.square.default):
        return None
    shape = shape_of(given[0])
    return given[0] if len(shape) > 3 and shape[0] is None and None not in shape[1:] else None


def _squared(write: Writer, scales: Sequence[tuple[Node, bool]], channels: Any) -> Node | None:
    """The square of what scales an axis, `(groups, channels)`; None where nothing does."""
    made: Node | None = None
    for value, divides in scales:
        factor = write(aten.reshape.default, value, [-1, math.prod(shape_of(value)[1:])])
        factor = write(aten.reciprocal.default, factor) if divides else factor
        made = factor if made is None else write(aten.mul.Tensor, made, factor)
    if made is None:
        return None
    made = write(aten.mul.Tensor, made, made)
    if shape_of(made)[1] != channels:
        made = write(aten.expand.default, made, [-1, channels])
    return made
