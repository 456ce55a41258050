"""Layers whose weights and inputs are rounded to few bits, in place of ordinary ones and under their names.

A quantized layer is its own class with two submodules more, `weight_quantizer` and `input_quantizer`: it is
still an `nn.Conv2d`, its weight is still the float parameter `weight` in the state dict, and whatever reads
`layer.weight` reads the rounded one. Scales are parameters, so training adapts them (LSQ, Esser et al. 2020),
as logarithms (Jain et al. 2020): a step of Adam changes them by a share, whatever their size.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from niwaki.core.contract import NiwakiError, nearest
from niwaki.surgery.quantized_math import affine_scale, fake_quantize, grid, symmetric_scale
from niwaki.surgery.quantized_ops import FrozenHalf, FrozenInput, FrozenWeight
from niwaki.surgery.remove_parametrization import RemoveParametrization, parametrized

__all__ = [
    "Half",
    "LayerBits",
    "QuantizedLayer",
    "Quantizer",
    "fit_weights",
    "freeze",
    "is_quantizable",
    "plain_weights",
    "quantize_layer",
    "quantized_layers",
    "unknown",
]

Granularity = Literal["tensor", "channel", "group"]


@dataclass(frozen=True)
class LayerBits:
    """How one layer is quantized.

    bits:        of its weights: 2 … 8 integers, 16 half-precision floats
    granularity: one scale per tensor, per output channel, or per `group` weights of an output channel
    group:       weights that share a scale; the largest common divisor with a channel's weights is taken, and
                 the whole channel where that is below 8
    symmetric:   whether the weights' grid is centred on zero
    input:       of its input: `unsigned` with a zero point, `signed` around zero; empty is float
    input_bits:  2 … 8; with fewer than 8, files clip to the range and still hold 8
    """

    bits: int = 8
    granularity: Granularity = "channel"
    group: int = 64
    symmetric: bool = True
    input: Literal["", "unsigned", "signed"] = ""
    input_bits: int = 8

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Quantizer(nn.Module):
    """x → s·(clip(round(x/s) + z) − z), with one scale, one per position of `axis`, or one per group of it.

    log_scale: ln s, trained; `(count,)`, or `()` for one
    zero:      z, a whole number, fixed; of the same shape
    group:     0, or how many values of a position of `axis` share a scale
    """

    log_scale: nn.Parameter
    zero: Tensor

    def __init__(
        self, low: int, high: int, *, count: int = 0, axis: int = 0, group: int = 0, signed: bool = True
    ) -> None:
        super().__init__()
        self.low, self.high, self.axis, self.group, self.signed = low, high, axis, group, signed
        self.log_scale = nn.Parameter(torch.zeros((count,) if count else ()))
        self.register_buffer("zero", torch.zeros((count,) if count else ()))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def set(self, scale: Tensor, zero: Tensor | float = 0.0) -> None:
        """Take over positive scales and whole zero points."""
        with torch.no_grad():
            self.log_scale.copy_(scale.log().reshape(self.log_scale.shape))
            self.zero.copy_(
                torch.as_tensor(zero, dtype=torch.float32).expand_as(scale).reshape(self.zero.shape)
            )

    def rows(self, x: Tensor) -> Tensor:
        """`x` with the values of one scale per row: (scales, values)."""
        if self.log_scale.ndim == 0:
            return x.reshape(1, -1)
        rows = x.movedim(self.axis, 0)
        return rows.reshape(-1, self.group) if self.group else rows.flatten(1)

    def from_rows(self, rows: Tensor, like: Tensor) -> Tensor:
        """What `rows` made of a tensor of the shape of `like`, back in that shape."""
        if self.log_scale.ndim == 0:
            return rows.reshape(like.shape)
        return rows.reshape(like.movedim(self.axis, 0).shape).movedim(0, self.axis)

    def forward(self, x: Tensor) -> Tensor:
        scale, zero = self.scale, self.zero
        if scale.ndim == 0:
            return fake_quantize(x, scale, zero, self.low, self.high)
        if self.group:
            made = fake_quantize(self.rows(x), scale[:, None], zero[:, None], self.low, self.high)
            return self.from_rows(made, x)
        shape = [-1 if a == self.axis else 1 for a in range(x.ndim)]
        return fake_quantize(x, scale.reshape(shape), zero.reshape(shape), self.low, self.high)

    @torch.no_grad()
    def integers(self, x: Tensor) -> Tensor:
        """The int8 numbers that `x` becomes, in x's shape, or in rows where scales belong to groups."""
        scale, zero = self.scale, self.zero
        if self.group:
            x, scale, zero = self.rows(x), scale[:, None], zero[:, None]
        elif scale.ndim:
            shape = [-1 if a == self.axis else 1 for a in range(x.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        return (torch.round(x / scale) + zero).clamp(self.low, self.high).to(torch.int8)


class Half(nn.Module):
    """Weights as float16 holds them; the gradient passes."""

    def forward(self, w: Tensor) -> Tensor:
        reach = torch.finfo(torch.float16).max
        return w + (w.detach().clamp(-reach, reach).half().float() - w.detach())


class QuantizedLayer(nn.Module):
    """What a layer's class gains."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module | None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        try:
            held = self._parameters.get("weight")
            return self.weight_quantizer(self._buffers["weight"] if held is None else held)
        except AttributeError as error:  # otherwise torch would look further, and find the float weight
            raise RuntimeError(f"the quantized weight cannot be computed: {error}") from error

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if self.input_quantizer is not None and inputs:
            inputs = (self.input_quantizer(inputs[0]), *inputs[1:])
        elif self.input_quantizer is not None:
            named["input"] = self.input_quantizer(named["input"])
        return super().forward(*inputs, **named)


_CLASSES: dict[type, type] = {}


def _class(base: type) -> type:
    """The quantized form of a layer's class, made once."""
    if base not in _CLASSES:
        _CLASSES[base] = type(f"Quantized{base.__name__}", (QuantizedLayer, base), {})
    return _CLASSES[base]


def is_quantizable(module: nn.Module) -> bool:
    """Linear layers, convolutions, transposed convolutions and embeddings, and what is derived from them."""
    known = isinstance(module, nn.Linear | _ConvNd | nn.Embedding) and not isinstance(module, QuantizedLayer)
    return known and (module._parameters.get("weight") is not None or parametrized(module))


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLayer]:
    """The quantized layers by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, QuantizedLayer)}


def _axis(layer: nn.Module) -> int:
    """Where a weight counts the output channels (of each group, where convolutions are transposed)."""
    return 1 if isinstance(layer, _ConvNd) and layer.transposed else 0


def quantize_layer(layer: nn.Module, bits: LayerBits) -> QuantizedLayer:
    """Make `layer` a quantized one, in place, with scales of 1 that are still to be set or loaded.

    A parametrized weight (weight norm, spectral norm) becomes the plain weight that it is now.
    Raises NiwakiError for layers of another kind, and for bits that there are not.
    """
    if not is_quantizable(layer):
        raise NiwakiError(f"a {type(layer).__name__} cannot be quantized, or is so already")
    if bits.bits not in (*range(2, 9), 16):
        raise NiwakiError(f"there are weights of 2 … 8 and of 16 bits, not of {bits.bits}")
    if bits.input_bits not in range(2, 9):
        raise NiwakiError(f"there are inputs of 2 … 8 bits, not of {bits.input_bits}")
    plain_weights(layer)
    weight = layer._parameters["weight"]
    assert weight is not None
    layer.__class__ = _class(type(layer))
    assert isinstance(layer, QuantizedLayer)
    layer.weight_quantizer = Half() if bits.bits == 16 else _of_weight(layer, weight, bits)
    layer.input_quantizer = None
    if bits.input:
        signed = bits.input == "signed"
        layer.input_quantizer = Quantizer(
            *grid(bits.input_bits, symmetric=False, signed=signed), signed=signed
        )
    layer.to(weight.device)
    return layer


def _of_weight(layer: nn.Module, weight: Tensor, bits: LayerBits) -> Quantizer:
    low, high = grid(bits.bits, symmetric=bits.symmetric)
    axis = _axis(layer)
    if bits.granularity == "tensor":
        return Quantizer(low, high)
    channels = weight.shape[axis]
    size = math.gcd(weight.numel() // channels, bits.group) if bits.granularity == "group" else 0
    if size < 8 or size == weight.numel() // channels:
        return Quantizer(low, high, count=channels, axis=axis)
    return Quantizer(low, high, count=weight.numel() // size, axis=axis, group=size)


def fit_weights(layer: QuantizedLayer, observer: str = "mse") -> None:
    """Set the scales of a layer's weights from the weights themselves."""
    quantizer, weight = layer.weight_quantizer, layer._parameters["weight"]
    if not isinstance(quantizer, Quantizer) or weight is None:
        return
    rows = quantizer.rows(weight.detach().float())
    if quantizer.low == -quantizer.high:
        quantizer.set(symmetric_scale(rows, quantizer.high.bit_length() + 1, observer))
    else:
        quantizer.set(*affine_scale(rows, quantizer.low, quantizer.high, observer))


def plain_weights(layer: nn.Module) -> None:
    """Make a weight that is computed at every call a plain parameter with the value that it has now."""
    if parametrized(layer):
        RemoveParametrization("").apply(layer)


@torch.no_grad()
def freeze(layer: QuantizedLayer) -> None:
    """Make what training needs what a file holds, in place: the weight a buffer of integers (or halves)."""
    quantizer, weight = layer.weight_quantizer, layer._parameters.pop("weight")
    assert weight is not None
    if isinstance(quantizer, Quantizer):
        zero = quantizer.zero.to(torch.int8)
        shape = tuple(weight.movedim(quantizer.axis, 0).shape) if quantizer.group else None
        layer._buffers["weight"] = quantizer.integers(weight)
        layer.weight_quantizer = FrozenWeight(quantizer.scale, zero, quantizer.axis, shape)
    else:
        reach = torch.finfo(torch.float16).max
        layer._buffers["weight"] = weight.clamp(-reach, reach).half()
        layer.weight_quantizer = FrozenHalf()
    if isinstance(layer.input_quantizer, Quantizer):
        q = layer.input_quantizer
        held = torch.int8 if q.signed else torch.uint8
        whole = q.low == torch.iinfo(held).min and q.high == torch.iinfo(held).max
        low, high = (float((end - q.zero) * q.scale) for end in (q.low, q.high))
        ends = None if whole else (low, high)
        layer.input_quantizer = FrozenInput(q.scale, q.zero.to(held), ends)


def unknown(name: str, model: nn.Module) -> NiwakiError:
    """What is said of a layer that the model does not have."""
    names = [n for n, _ in model.named_modules() if n]
    return NiwakiError(f"the model has no layer '{name}' to quantize; {nearest(name, names)}")
