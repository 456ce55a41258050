"""Mixtures of experts as plain layers: every expert reads every token, and a token's share of most is zero.

transformers keeps the experts of a layer in tensors of three dimensions and sorts the tokens by expert, which
no engine has operators for. Here each expert is three linear layers that pruning, rounding and export know.
All experts are computed for every token: experts / (experts per token) times the multiplications of the
sorted form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PlainExperts", "is_experts", "plain_experts"]

_ALIKE = 1e-4  # of the largest value


class Expert(nn.Module):
    """down(act(gate(x)) · up(x)) (Shazeer, "GLU variants", 2020); down(act(up(x))) without a gate."""

    def __init__(
        self, gate: nn.Linear | None, up: nn.Linear, down: nn.Linear, act: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.gate, self.up, self.down, self.act = gate, up, down, act

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act(self.up(x)) if self.gate is None else self.act(self.gate(x)) * self.up(x)
        return self.down(inner)  # type: ignore[no-any-return]


class PlainExperts(nn.Module):
    """Σₑ wₑ(x) · expertₑ(x), where w is zero for experts that the router did not choose."""

    def __init__(self, experts: list[Expert]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Tokens `(n, width)`, and of each the numbers and the weights of its experts `(n, k)`."""
        numbers = torch.arange(len(self.experts), device=hidden_states.device)
        chosen = top_k_index.unsqueeze(-1) == numbers  # (n, k, experts)
        share = torch.where(chosen, top_k_weights.unsqueeze(-1), 0.0).sum(1).to(hidden_states.dtype)
        # One product over all experts: a chain of sums makes openvino 2026.4 crash as it compiles the graph.
        said = torch.stack([expert(hidden_states) for expert in self.experts], dim=1)  # (n, experts, width)
        return (share.unsqueeze(1) @ said).squeeze(1)


def is_experts(module: nn.Module) -> bool:
    """Whether `module` holds the experts of a layer as transformers keeps them."""
    return all(
        hasattr(module, name) for name in ("is_concatenated", "is_transposed", "has_gate", "down_proj")
    )


@torch.no_grad()
def plain_experts(experts: Any) -> nn.Module:
    """Experts of transformers as plain ones with the same weights; `experts` itself where those compute
    something else (a gate of its own, a norm behind each)."""
    before = experts.config._experts_implementation
    try:
        made = _written(experts)
        width = experts.down_proj.shape[2 if experts.is_transposed else 1]
        rng = torch.Generator().manual_seed(0)
        x = torch.randn((5, width), generator=rng).to(experts.down_proj)
        index = torch.stack([torch.randperm(len(made.experts), generator=rng)[:2] for _ in x]).to(x.device)
        weights = torch.rand(index.shape, generator=rng).to(x)
        experts.config._experts_implementation = "eager"
        wanted = experts(x, index, weights)
        apart = (made(x, index, weights) - wanted).abs().max()
    except Exception:  # of another make: whatever its author's code raises
        return experts  # type: ignore[no-any-return]
    finally:
        experts.config._experts_implementation = before
    return made if bool(apart <= _ALIKE * wanted.abs().max().clamp(min=1e-6)) else experts


def _written(experts: Any) -> PlainExperts:
    made = PlainExperts([_expert(experts, i) for i in range(experts.down_proj.shape[0])])
    return made.to(experts.down_proj)


def _expert(experts: Any, i: int) -> Expert:
    act = experts.act_fn
    down = _linear(experts, "down_proj", i)
    if not experts.has_gate:
        return Expert(None, _linear(experts, "up_proj", i), down, act)
    both = _linear(experts, "gate_up_proj", i)
    half = both.out_features // 2
    rows = torch.arange(both.out_features)
    gate, up = (rows[:half], rows[half:]) if experts.is_concatenated else (rows[::2], rows[1::2])
    return Expert(_rows(both, gate), _rows(both, up), down, act)


def _linear(experts: Any, name: str, i: int) -> nn.Linear:
    weight = getattr(experts, name)[i]
    weight = weight.t() if experts.is_transposed else weight
    bias = getattr(experts, f"{name}_bias")[i] if experts.has_bias else None
    return _made(weight, bias)


def _rows(layer: nn.Linear, rows: Tensor) -> nn.Linear:
    rows = rows.to(layer.weight.device)
    return _made(layer.weight[rows], None if layer.bias is None else layer.bias[rows])


def _made(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(
        weight.shape[1], weight.shape[0], bias is not None, device=weight.device, dtype=weight.dtype
    )
    made.weight.copy_(weight)
    if bias is not None:
        made.bias.copy_(bias)
    return made
