"""A mixture of experts: of many feed-forward networks, each token passes a few that a router chooses
(Shazeer et al. 2017, arXiv:1701.06538; weights among the chosen as in Jiang et al. 2024, "Mixtral")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError
from niwaki.nn.layers.feed_forward import FeedForward, activated, feed_forward_layers

__all__ = ["Expert", "Experts", "Routing", "listening"]


class Expert(nn.Module):
    """down(act(up(x))): the feed-forward network of a block (`feed_forward.activated`)."""

    def __init__(self, width: int, hidden: int, kind: FeedForward) -> None:
        super().__init__()
        self.kind = kind
        self.up, self.down, self.gate = feed_forward_layers(width, hidden, kind)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(activated(x, self.up, self.gate, self.kind))
        return out


class Routing(NamedTuple):
    """How the tokens of a batch fell to the E experts of a block.

    share:   of the choices, by expert `(E,)`
    balance: E·Σ shareₑ·Pₑ, P the mean probabilities (Fedus et al. 2022, "Switch Transformers", Equation 4): 1
             where all are given as much, E where one is given all; gradients flow through P
    """

    share: Tensor
    balance: Tensor


class Experts(nn.Module):
    """Σ wₑ·expertₑ(x) over the `chosen` experts of the largest router probabilities; w are these, made to add
    up to 1.

    In training each expert computes its own tokens alone. Otherwise all compute all tokens and those that
    were not chosen weigh 0: shapes then do not depend on the data, as an exported graph needs it.

    width, hidden, kind: of each expert
    count:   experts
    chosen:  of each token
    """

    def __init__(self, width: int, hidden: int, count: int, chosen: int, kind: FeedForward) -> None:
        super().__init__()
        if not 1 <= chosen <= count:
            raise CallError(f"of {count} experts {chosen} cannot be chosen")
        self.chosen = chosen
        self.router = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList(Expert(width, hidden, kind) for _ in range(count))
        self.heard: list[Routing] | None = None

    def route(self, x: Tensor) -> Tensor:
        """The weight of every expert `(n, t, count)` for tokens `(n, t, width)`, 0 where it is not chosen."""
        p = torch.softmax(self.router(x).float(), dim=-1)
        best, which = p.topk(self.chosen, dim=-1)
        hit = which.unsqueeze(-1) == torch.arange(p.shape[-1], device=x.device)  # (n, t, chosen, count)
        weights = (hit.to(p.dtype) * (best / best.sum(-1, keepdim=True)).unsqueeze(-1)).sum(-2)
        if self.heard is not None:
            share = hit.detach().to(p.dtype).sum(-2).flatten(0, -2).mean(0) / self.chosen
            self.heard.append(Routing(share, p.shape[-1] * (share * p.flatten(0, -2).mean(0)).sum()))
        return weights.to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `(n, t, width)` → the same shape."""
        weights = self.route(x)
        if not self.training:
            parts = [w.unsqueeze(-1) * f(x) for f, w in zip(self.experts, weights.unbind(-1), strict=True)]
            return torch.stack(parts).sum(0)
        rows, w = x.flatten(0, -2), weights.flatten(0, -2)
        out = torch.zeros_like(rows)
        for i, expert in enumerate(self.experts):
            mine = w[:, i].nonzero().squeeze(1)
            made = w[mine, i].unsqueeze(1) * expert(rows[mine])
            out = out.index_add(0, mine, made.to(out.dtype))
        return out.view_as(x)


@contextmanager
def listening(blocks: Sequence[Experts]) -> Iterator[list[Routing]]:
    """What is routed meanwhile, block after block. Nothing stays in the modules, which may then be copied."""
    found: list[Routing] = []
    for experts in blocks:
        experts.heard = found
    try:
        yield found
    finally:
        for experts in blocks:
            experts.heard = None
