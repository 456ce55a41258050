"""Where the channels of torch's layers lie: which tensors, along which axes, and which numbers go with them.

One row per type of layer. A new layer is one function with `@describes(Type)`; a subclass is found by its
base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from niwaki.core.contract import NiwakiError

__all__ = ["Layout", "depthwise", "describes", "layout_of"]

Numbers = Mapping[str, object]


@dataclass(frozen=True)
class Layout:
    """One side of one layer.

    width:    positions along it
    tensors:  (attribute, axis) of every parameter and buffer with one slice per position; None attributes are
              skipped
    gathered: attributes of grouped convolutions whose axis 1 counts inside the group of axis 0's rows
    groups:   every group must keep the same number of positions
    settle:   kept positions → attributes to set afterwards; raises ValueError where they do not fit
    """

    width: int
    tensors: tuple[tuple[str, int], ...]
    settle: Callable[[Sequence[int]], Numbers]
    gathered: tuple[str, ...] = field(default=())
    groups: int = 1

    def check(self, keep: Sequence[int]) -> Numbers:
        """The attributes that go with `keep`. Raises ValueError, as a phrase, where the groups become
        unequal."""
        if self.groups > 1:
            counts = counts_in_groups(keep, self.width, self.groups)
            if len(set(counts)) != 1:
                raise ValueError(f"each of its {self.groups} groups must keep as many channels, at least one")
        return self.settle(keep)


Describe = Callable[[nn.Module, str], Layout]
_DESCRIBED: dict[type[nn.Module], Describe] = {}


def describes(*types: type[nn.Module]) -> Callable[[Describe], Describe]:
    """Decorator: the function that gives the layout of these types (and their subclasses) for a side."""

    def enter(function: Describe) -> Describe:
        for one in types:
            _DESCRIBED[one] = function
        return function

    return enter


def layout_of(module: nn.Module, side: str) -> Layout:
    """Raises NiwakiError where the type is unknown, the side does not exist, or the weights are
    parametrized."""
    describe = next((_DESCRIBED[base] for base in type(module).__mro__ if base in _DESCRIBED), None)
    kind = type(module).__name__
    if describe is None:
        raise NiwakiError(f"a {kind} cannot be cut: give it `resize(side, keep)` and `width(side)`")
    if "parametrizations" in module._modules:
        raise NiwakiError(
            f"a {kind} with parametrized weights (weight or spectral norm) cannot be cut: "
            "remove the parametrization first"
        )
    if side not in ("in", "out"):
        raise NiwakiError(f"a {kind} has the sides 'in' and 'out', not '{side}'")
    return describe(module, side)


def counts_in_groups(keep: Sequence[int], width: int, groups: int) -> list[int]:
    """How many of `keep` lie in each of `groups` equal stretches of 0 … width−1."""
    size = width // groups
    counts = [0] * groups
    for k in keep:
        counts[k // size] += 1
    return counts


def depthwise(module: nn.Module) -> bool:
    """One filter per channel: what comes in goes out, so there is one width."""
    return isinstance(module, _ConvNd) and module.groups == module.in_channels == module.out_channels > 1


@describes(nn.Linear)
def _linear(module: nn.Module, side: str) -> Layout:
    if side == "out":
        tensors: tuple[tuple[str, int], ...] = (("weight", 0), ("bias", 0))
        return Layout(int(module.out_features), tensors, lambda keep: {"out_features": len(keep)})  # type: ignore
    return Layout(int(module.in_features), (("weight", 1),), lambda keep: {"in_features": len(keep)})  # type: ignore


@describes(_ConvNd)
def _convolution(module: nn.Module, side: str) -> Layout:
    """Weights are (out, in/groups, …); transposed ones are (in, out/groups, …)."""
    assert isinstance(module, _ConvNd)
    if depthwise(module):
        both = (("weight", 0), ("bias", 0))
        names = ("in_channels", "out_channels", "groups")
        return Layout(module.out_channels, both, lambda keep: dict.fromkeys(names, len(keep)))
    groups = module.groups
    total = module.out_channels if side == "out" else module.in_channels
    attribute = "out_channels" if side == "out" else "in_channels"
    first = (side == "out") != module.transposed  # whether this side is axis 0 of the weight
    tensors = (("bias", 0),) if side == "out" else ()
    gathered: tuple[str, ...] = ()
    if first or groups == 1:
        tensors = (("weight", 0 if first else 1), *tensors)
    else:
        gathered = ("weight",)
    return Layout(total, tensors, lambda keep: {attribute: len(keep)}, gathered, groups)


@describes(_BatchNorm, _InstanceNorm)
def _batch_norm(module: nn.Module, side: str) -> Layout:
    names = ("weight", "bias", "running_mean", "running_var")
    return Layout(int(module.num_features), tuple((n, 0) for n in names), lambda k: {"num_features": len(k)})  # type: ignore


@describes(nn.GroupNorm)
def _group_norm(module: nn.Module, side: str) -> Layout:
    """Whole groups dropped or every group thinned alike keep the statistics' borders; otherwise channels
    regroup."""
    assert isinstance(module, nn.GroupNorm)
    total, groups = module.num_channels, module.num_groups

    def settle(keep: Sequence[int]) -> Numbers:
        counts = counts_in_groups(keep, total, groups)
        filled = [c for c in counts if c]
        if len(set(filled)) == 1:
            left = len(filled)
        else:
            left = max(g for g in range(1, groups + 1) if len(keep) % g == 0)
            if left == 1 < groups:
                raise ValueError(
                    f"{len(keep)} channels do not divide into at most {groups} groups; "
                    f"keep a multiple of {groups}"
                )
        return {"num_channels": len(keep), "num_groups": left}

    return Layout(total, (("weight", 0), ("bias", 0)), settle)


@describes(nn.LayerNorm, nn.RMSNorm)
def _layer_norm(module: nn.Module, side: str) -> Layout:
    """Channels are the only normalized axis, or the first of (C, H, W)."""
    shape = tuple(module.normalized_shape)  # type: ignore
    if len(shape) == 2:
        raise NiwakiError(f"a norm over {shape} has no axis of channels that could be cut")
    names = ("weight", "bias") if isinstance(module, nn.LayerNorm) else ("weight",)
    return Layout(
        shape[0], tuple((n, 0) for n in names), lambda k: {"normalized_shape": (len(k), *shape[1:])}
    )


@describes(nn.Embedding)
def _embedding(module: nn.Module, side: str) -> Layout:
    """Its width is the embedding's; the classes are not a width."""
    if side == "in":
        raise NiwakiError("the rows of an embedding are classes or tokens and cannot be cut")
    return Layout(int(module.embedding_dim), (("weight", 1),), lambda keep: {"embedding_dim": len(keep)})  # type: ignore


@describes(nn.PReLU)
def _prelu(module: nn.Module, side: str) -> Layout:
    if module.num_parameters == 1:
        raise NiwakiError("a PReLU with one slope for all channels has no width to cut")
    return Layout(int(module.num_parameters), (("weight", 0),), lambda keep: {"num_parameters": len(keep)})  # type: ignore
