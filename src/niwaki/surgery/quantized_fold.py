"""BatchNorm into the layer before it, in torch: what is rounded must be what the device multiplies with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from niwaki.core.contract import NiwakiError
from niwaki.surgery.quantized import plain_weights

__all__ = ["absorb", "unfit"]


class Folded(nn.Identity):
    """Where a norm was."""


def unfit(layer: nn.Module, norm: nn.Module) -> str:
    """Why `norm` cannot go into `layer`; empty where it can."""
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
        return "only batch norms with running statistics are constant"
    if isinstance(layer, _ConvNd):
        return "" if layer.out_channels == norm.num_features else "the widths differ"
    if isinstance(layer, nn.Linear):
        return "" if layer.out_features % norm.num_features == 0 else "the widths differ"
    return f"a {type(layer).__name__} has no weights for it"


@torch.no_grad()
def absorb(model: nn.Module, layer_name: str, norm_name: str) -> None:
    """y = γ (W x + b − μ)/√(σ² + ε) + β becomes one layer, the norm an identity; in place, in float64.

    A linear layer whose outputs are reshaped to channels × positions repeats each channel's factor.
    Raises NiwakiError where the two do not fit each other.
    """
    layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
    if reason := unfit(layer, norm):
        raise NiwakiError(f"'{norm_name}' cannot go into '{layer_name}': {reason}")
    assert isinstance(norm, _BatchNorm)
    plain_weights(layer)
    gain, shift = gains(norm)
    weight, bias = layer._parameters["weight"], layer._parameters.get("bias")
    assert weight is not None
    outputs = layer.out_channels if isinstance(layer, _ConvNd) else len(weight)
    repeats = outputs // len(gain)
    gain, shift = gain.repeat_interleave(repeats), shift.repeat_interleave(repeats)
    if isinstance(layer, _ConvNd) and layer.transposed:
        # (in, out/groups, …): an input channel's group says which outputs its columns are.
        by_group = gain.reshape(layer.groups, 1, -1)
        factor = by_group.expand(-1, layer.in_channels // layer.groups, -1).reshape(layer.in_channels, -1)
        factor = factor.reshape(*factor.shape, *[1] * (weight.ndim - 2))
    else:
        factor = gain.reshape(-1, *[1] * (weight.ndim - 1))
    offset = shift if bias is None else bias.double() * gain + shift
    weight.copy_((weight.double() * factor).to(weight.dtype))
    if bias is None:
        layer.bias = nn.Parameter(offset.to(weight))
    else:
        bias.copy_(offset.to(bias))
    path, _, leaf = norm_name.rpartition(".")
    setattr(model.get_submodule(path), leaf, Folded())


def gains(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The norm as y = gain·x + shift, float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    gain = gain if norm.weight is None else gain * norm.weight.double()
    shift = -norm.running_mean.double() * gain
    return gain, shift if norm.bias is None else shift + norm.bias.double()
