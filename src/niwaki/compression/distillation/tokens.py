"""The logits of every position of real token sequences: teacher forcing, for any autoregressive model."""

from __future__ import annotations

import torch
from torch import Tensor

from niwaki.compression.distillation.rules import value_of
from niwaki.core.contract import Batch, Context, GenerativeModel
from niwaki_runtime.samplers import Autoregressive

__all__ = ["autoregressive_leg", "forced_logits", "has_sequences"]


def autoregressive_leg(model: GenerativeModel, graph: str) -> Autoregressive | None:
    """The sampler that calls `graph` token by token, or None."""
    found = model.sampler().parts_of(Autoregressive, graph)
    return next((part for part in found if part.graph == graph), None)


def has_sequences(model: GenerativeModel, name: str, batch: Batch) -> bool:
    """Whether the batch holds token sequences of the length that `graph` makes."""
    sampler = autoregressive_leg(model, name)
    x = batch.x.flatten(1)
    return sampler is not None and not x.is_floating_point() and x.shape[1] == sampler.length


def forced_logits(model: GenerativeModel, name: str, batch: Batch, ctx: Context) -> Tensor:
    """Logits `(n, length, levels)`: position i has seen the real tokens before i.

    A model that offers `logits(tokens)` is asked once for all positions; any other is stepped through its own
    decode graph, with its state.
    """
    sampler = autoregressive_leg(model, name)
    assert sampler is not None
    tokens = batch.x.flatten(1)
    whole = getattr(model, "logits", None)
    if callable(whole) and not sampler.conditions:
        return whole(tokens)
    graph, n, device = model.shipped_graphs()[name], len(batch), tokens.device
    ports = {p.name: p for p in graph.inputs}
    asked = [value_of(ports[c], model, batch, ctx, noise=False) for c in sampler.conditions]
    state = [torch.from_numpy(s.zeros(n)).to(device) for s in graph.state]
    token = torch.full((n,), sampler.first, dtype=torch.int64, device=device)
    found = []
    for position in range(sampler.length):
        at = torch.tensor([position], dtype=torch.int64, device=device)
        out = graph(token, at, *asked, *state)
        logits, *state = out if isinstance(out, tuple | list) else (out,)
        found.append(logits)
        token = tokens[:, position]
    return torch.stack(found, 1)
