"""Operators that multiply with weights, and those that normalize and resize beside them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from niwaki.core.contract import NiwakiError
from niwaki.deployment.torch_graph.operators import Given, operator


@operator("Gemm")
def _gemm(given: Given) -> Callable[..., Tensor]:
    a = given.attributes
    alpha, beta = float(a.get("alpha", 1.0)), float(a.get("beta", 1.0))

    def product(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        x = x.t() if a.get("transA") else x
        w = w if a.get("transB") else w.t()
        if alpha == beta == 1.0 and (b is None or b.ndim == 1):
            return functional.linear(x, w, b)
        made = functional.linear(x, w) * alpha
        return made if b is None else made + beta * b

    return product


@operator("Conv", "ConvTranspose")
def _convolution(given: Given) -> Callable[..., Tensor]:
    a = given.attributes
    strides, dilations = a.get("strides"), a.get("dilations")
    groups, pads = int(a.get("group", 1)), list(a.get("pads", []))
    if a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise NiwakiError(f"convolutions padded by '{a['auto_pad']}' have no form in torch")
    half = len(pads) // 2
    begin, end = pads[:half], pads[half:]

    def convolution(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        axes = x.ndim - 2
        stride, dilation = list(strides or [1] * axes), list(dilations or [1] * axes)
        padding = list(begin or [0] * axes)
        if begin != end:
            flat = [v for pair in reversed(list(zip(begin, end, strict=True))) for v in pair]
            x, padding = functional.pad(x, flat), [0] * axes
        return torch.convolution(x, w, b, stride, padding, dilation, False, [0] * axes, groups)

    def transposed(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        axes = x.ndim - 2
        stride, dilation = list(strides or [1] * axes), list(dilations or [1] * axes)
        more = list(a.get("output_padding", [0] * axes))
        first, last = begin or [0] * axes, end or [0] * axes
        both = [min(p, q) for p, q in zip(first, last, strict=True)]
        made = torch.convolution(x, w, b, stride, both, dilation, True, more, groups)
        for k, size in enumerate(given.shapes[0][2:]):  # cut off more on one side
            if made.shape[2 + k] != size:
                made = made.narrow(2 + k, first[k] - both[k], size)
        return made

    return convolution if given.op == "Conv" else transposed


@operator("Resize", first_alone=True)
def _resize(given: Given) -> Callable[..., Tensor]:
    a, size = given.attributes, given.shapes[0][2:]
    mode = a.get("mode", "nearest")
    how = a.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest" and how == "asymmetric" and a.get("nearest_mode", "floor") == "floor":
        return lambda x: _nearest(x, size)
    if mode == "linear" and how in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = how == "align_corners"
        return lambda x: functional.interpolate(x, size=size, mode="bilinear", align_corners=corners)
    raise NiwakiError(f"resizing by '{mode}' with '{how}' has no form in torch")


def _nearest(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if x.is_floating_point():
        return functional.interpolate(x, size=size, mode="nearest")
    # torch has it of floats alone; bytes are repeated.
    old = x.shape[2:]
    for axis, (few, many) in enumerate(zip(old, size, strict=True), 2):
        if many % few:
            raise NiwakiError(f"integers of {few} values cannot be resized to {many} in torch")
        shape = list(x.shape)
        repeated = x.unsqueeze(axis + 1).expand(*shape[: axis + 1], many // few, *shape[axis + 1 :])
        x = repeated.reshape(*shape[:axis], many, *shape[axis + 1 :])
    return x


@operator("InstanceNormalization")
def _instance_norm(given: Given) -> Callable[..., Tensor]:
    epsilon = float(given.attributes.get("epsilon", 1e-5))

    def normalized(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        axes = list(range(2, x.ndim))
        off = x - x.mean(axes, keepdim=True)
        made = off * torch.rsqrt(off.square().mean(axes, keepdim=True) + epsilon)
        shape = [1, -1, *[1] * len(axes)]
        return made * scale.reshape(shape) + shift.reshape(shape)

    return normalized


@operator("LayerNormalization")
def _layer_norm(given: Given) -> Callable[..., Tensor]:
    epsilon, axis = float(given.attributes.get("epsilon", 1e-5)), int(given.attributes.get("axis", -1))

    def normalized(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        return functional.layer_norm(x, x.shape[axis:], scale, shift, epsilon)

    return normalized
