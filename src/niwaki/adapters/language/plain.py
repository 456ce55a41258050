"""Layers of `transformers` that torch has, too: exchanged, so that what knows those knows these."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.adapters.language.experts import is_experts, plain_experts

__all__ = ["plain_layers"]


def plain_layers(network: nn.Module) -> None:
    """Put torch's own layers where `network` has its own forms of them, with the same weights, in place.

    GPT-2's `Conv1D` is a linear layer with its weight transposed; each family has an RMSNorm of its own
    (exchanged where it computes what torch's does: Gemma's does not); experts are tensors of three axes.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            kind = type(child).__name__
            if kind == "Conv1D":
                setattr(module, name, _linear(child))
            elif kind.endswith("RMSNorm") and not isinstance(child, nn.RMSNorm):
                setattr(module, name, _norm(child))
            elif is_experts(child):
                setattr(module, name, plain_experts(child))


def _linear(layer: nn.Module) -> nn.Linear:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    made = nn.Linear(weight.shape[0], weight.shape[1], device=weight.device, dtype=weight.dtype)
    made.weight.data, made.bias.data = weight.data.t().contiguous(), bias.data
    return made


@torch.no_grad()
def _norm(layer: nn.Module) -> nn.Module:
    """torch's RMSNorm (Zhang & Sennrich 2019) with the same weight; `layer` itself where that is another."""
    weight = getattr(layer, "weight", None)
    eps = getattr(layer, "variance_epsilon", getattr(layer, "eps", None))
    if not isinstance(weight, nn.Parameter) or weight.ndim != 1 or not isinstance(eps, float):
        return layer
    made = nn.RMSNorm(len(weight), eps=eps, device=weight.device, dtype=weight.dtype)
    made.weight = weight
    rng = torch.Generator().manual_seed(0)
    x = torch.randn((3, len(weight)), generator=rng).to(weight)
    # Weights near 1 could not tell w from 1 + w − 1; those of a trained or a shifted norm can.
    known, weight.data = weight.data, weight.data + torch.rand(len(weight), generator=rng).to(weight)
    alike = torch.allclose(layer(x), made(x), rtol=1e-5, atol=1e-6)
    weight.data = known
    return made if alike else layer
