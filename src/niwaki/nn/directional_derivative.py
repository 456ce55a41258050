"""A network together with its derivative along one direction, in operators that export."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from niwaki.core.contract import CallError

__all__ = ["DirectionalDerivative"]


class DirectionalDerivative(nn.Module):
    """(x, t, *conditions, v) → f(x, t, *conditions) and its derivative in x along v, ∂f/∂x · v.

    It is carried along with the values (forward-mode differentiation), by the rules below: about twice the
    work of one call, and no more memory. torch's own forward mode and its exporter do not go together.
    Raises CallError for an operator that no rule is known of.

    network: f
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        *conditions, v = rest
        with _Forward() as mode:
            mode.slopes[id(x)] = x, v
            out = self.network(x, t, *conditions)
        slope = mode.slope(out)
        return out, torch.zeros_like(out) if slope is None else slope


class _Forward(TorchFunctionMode):
    """Sees every operator, and keeps the slope of each result: id → (tensor, its slope)."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes: dict[int, tuple[Tensor, Tensor]] = {}

    def slope(self, x: Any) -> Tensor | None:
        """Of a tensor that the input has a part in; None of any other, and of what is no tensor."""
        return self.slopes.get(id(x), (None, None))[1]

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = function.__name__.strip("_")
        if name in _SPELLED and self.slope(args[0]) is not None:
            with self:
                return _SPELLED[name](*args, **kwargs)
        in_place = function if re.fullmatch(r"[a-z]\w*[a-z0-9]_", function.__name__) else None
        concerned = any(self.slope(x) is not None for x in _tensors((*args, *kwargs.values())))
        if not concerned or name in _CONSTANT:
            return function(*args, **kwargs)
        if in_place:  # the slope is that of the value before
            function = getattr(torch, name, function)
        out = function(*args, **kwargs)
        if not any(True for _ in _tensors(out)):
            return out
        if name in _SWAPPED:  # 1 − x is asked of x
            name, function, args = *_SWAPPED[name], args[::-1]
        if name not in _RULES:
            raise CallError(f"no rule is known for the derivative of '{name}' along a direction")
        slopes = _RULES[name](self, function, out, args, kwargs)
        if in_place:
            out = in_place(*args, **kwargs)
        for made, slope in zip(_tensors(out), _tensors(slopes), strict=True):
            self.slopes[id(made)] = made, slope
        return out


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those in lists and tuples, too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


Rule = Callable[[_Forward, Any, Any, Sequence[Any], Mapping[str, Any]], Any]
_RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: the slope of the result of operators of these names."""

    def enter(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return enter


@_rule(
    "reshape", "view", "flatten", "unflatten", "transpose", "permute", "movedim", "t", "squeeze", "unsqueeze",
    "expand", "expand_as", "chunk", "split", "unbind", "narrow", "getitem", "get", "repeat", "tile", "flip",
    "roll", "contiguous", "clone", "to", "float", "neg", "sum", "mean", "interpolate", "pad", "avg_pool2d",
    "adaptive_avg_pool2d", "repeat_interleave", "pixel_shuffle", "pixel_unshuffle", "dropout",
)  # fmt: skip
def _linear_in_one(mode: _Forward, function: Any, out: Any, args: Sequence[Any], kwargs: Any) -> Any:
    return function(mode.slope(args[0]), *args[1:], **kwargs)


@_rule("cat", "concat", "stack")
def _joined(mode: _Forward, function: Any, out: Any, args: Sequence[Any], kwargs: Any) -> Any:
    parts = [torch.zeros_like(x) if (d := mode.slope(x)) is None else d for x in args[0]]
    return function(parts, *args[1:], **kwargs)


@_rule("conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear")
def _weighted(mode: _Forward, function: Any, out: Any, args: Sequence[Any], kwargs: Any) -> Any:
    x, weight, _, *rest = (*args, None)[: max(len(args), 3)]
    return function(mode.slope(x), weight, None, *rest, **{k: v for k, v in kwargs.items() if k != "bias"})


@_rule("add", "sub")
def _sum(mode: _Forward, function: Any, out: Any, args: Sequence[Any], kwargs: Any) -> Any:
    left, right = (mode.slope(x) for x in args)
    if left is None:
        left = torch.zeros_like(out)
    return left.expand(out.shape) if right is None else function(left, right, **kwargs)


@_rule("mul", "matmul", "bmm")
def _product(mode: _Forward, function: Any, out: Any, args: Sequence[Any], kwargs: Any) -> Any:
    (a, b), (da, db) = args, (mode.slope(x) for x in args)
    parts = ([] if da is None else [function(da, b)]) + ([] if db is None else [function(a, db)])
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


@_rule("div", "truediv")
def _quotient(mode: _Forward, function: Any, out: Any, args: Sequence[Any], kwargs: Any) -> Any:
    (_, b), (da, db) = args, (mode.slope(x) for x in args)
    if db is None:
        assert da is not None
        return da / b
    return ((0.0 if da is None else da) - out * db) / b


@_rule("softmax")
def _softmax(mode: _Forward, function: Any, out: Any, args: Sequence[Any], kwargs: Any) -> Any:
    axis = kwargs["dim"] if "dim" in kwargs else args[1]
    part = out * mode.slope(args[0])
    return part - out * part.sum(axis, keepdim=True)


@_rule("pow")
def _power(mode: _Forward, function: Any, out: Any, args: Sequence[Any], kwargs: Any) -> Any:
    base, power = args
    if isinstance(power, Tensor):
        raise CallError("no rule is known for the derivative of a power that is a tensor")
    return power * base ** (power - 1) * mode.slope(base)


_PEAK = (2.0 * math.pi) ** -0.5
"""Of the standard normal density."""
_CURVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "silu": lambda x, y: (s := torch.sigmoid(x)) * (1.0 + x * (1.0 - s)),
    "sigmoid": lambda x, y: y * (1.0 - y),
    "tanh": lambda x, y: 1.0 - y * y,
    "relu": lambda x, y: (x > 0).to(x.dtype),
    "gelu": lambda x, y: 0.5 * (1.0 + torch.erf(x * 0.5**0.5)) + x * torch.exp(-0.5 * x * x) * _PEAK,
    "softplus": lambda x, y: torch.sigmoid(x),
    "exp": lambda x, y: y,
    "log": lambda x, y: 1.0 / x,
    "sqrt": lambda x, y: 0.5 / y,
    "rsqrt": lambda x, y: -0.5 * y * y * y,
    "square": lambda x, y: 2.0 * x,
    "sin": lambda x, y: torch.cos(x),
    "cos": lambda x, y: -torch.sin(x),
}
"""Derivatives of functions of single values, of x and y = f(x)."""


@_rule(*_CURVES)
def _curve(mode: _Forward, function: Any, out: Any, args: Sequence[Any], kwargs: Any) -> Any:
    name = function.__name__
    if any(v not in (False, "none") for v in (*args[1:], *kwargs.values())):
        raise CallError(f"no rule is known for the derivative of '{name}' with settings of its own")
    slope: Any = mode.slope(args[0])
    return _CURVES[name](args[0], out) * slope


_CONSTANT = {
    "detach",
    "zeros_like",
    "ones_like",
    "new_zeros",
    "new_ones",
    "argmax",
    "gt",
    "lt",
    "ge",
    "le",
    "eq",
}
_SWAPPED: dict[str, tuple[str, Any]] = {
    "radd": ("add", torch.add),
    "rmul": ("mul", torch.mul),
    "rsub": ("sub", torch.sub),
    "rtruediv": ("div", torch.div),
    "rdiv": ("div", torch.div),
}


def _group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Wu & He 2018."""
    y = _standardised(x.reshape(x.shape[0], num_groups, -1), (2,), eps).reshape(x.shape)
    return _scaled(y, weight, bias, (1, -1, *(1,) * (x.ndim - 2)))


def _layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Ba, Kiros & Hinton 2016."""
    return _scaled(_standardised(x, tuple(range(-len(shape), 0)), eps), weight, bias, tuple(shape))


def _standardised(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    y = x - x.mean(axes, keepdim=True)
    return y * (y.square().mean(axes, keepdim=True) + eps).rsqrt()


def _scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(q kᵀ·scale) v of all positions (Vaswani et al. 2017, Equation 1)."""
    if attn_mask is not None or is_causal or dropout_p:
        raise CallError("no rule is known for the derivative of attention with a mask")
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    return torch.matmul(torch.softmax(torch.matmul(q * factor, k.transpose(-1, -2)), -1), v)


_SPELLED: dict[str, Callable[..., Tensor]] = {
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "scaled_dot_product_attention": _attention,
}
"""Operators as others whose rules are known."""
