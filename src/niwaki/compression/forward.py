"""Running all that a model is: every graph on its example inputs, every phase's loss on a made-up batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Graph, NiwakiError, ValueSpec

__all__ = ["check", "example_batch", "losses", "outputs", "shapes"]


@torch.no_grad()
def outputs(model: GenerativeModel, n: int = 3, seed: int = 1, *, state: bool = True) -> list[Tensor]:
    """Every output of every graph, on its example inputs.

    state: whether what graphs carry to their next call is among them, which may be of any shape
    """
    found: list[Tensor] = []
    for graph in model.shipped_graphs().values():
        out = graph(*graph.example(n, seed))
        parts = list(out) if isinstance(out, tuple | list) else [out]
        found += parts if state else parts[: len(graph.outputs)]
    return found


def shapes(model: GenerativeModel) -> list[tuple[int, ...]]:
    """Shapes of every graph's outputs on its example inputs; its state may be of any shape."""
    found: list[tuple[int, ...]] = []
    with torch.no_grad():
        for graph in model.shipped_graphs().values():
            out = graph(*graph.example(3, 1))
            found += _shapes(graph, list(out) if isinstance(out, tuple | list) else [out])
    return found


def _shapes(graph: Graph, parts: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in parts[: len(graph.outputs)]]


def example_batch(spec: DataSpec, n: int = 4, seed: int = 0, device: torch.device | str = "cpu") -> Batch:
    """A batch such as the data would give: values within the spec's range, labels within its classes."""
    rng = torch.Generator().manual_seed(seed)
    columns = {name: _example(spec[name], n, rng) for name in spec}
    return Batch(columns, index=torch.arange(n)).map(lambda t: t.to(device))


def _example(spec: ValueSpec, n: int, rng: torch.Generator) -> Tensor:
    """Single names in turn, other tokens at random, amounts evenly over their range, or −1 … 1 where it
    has no bounds."""
    if spec.is_tokens:
        one = spec.shape == ()
        return (
            torch.arange(n) % spec.levels
            if one
            else torch.randint(0, spec.levels, (n, *spec.shape), generator=rng)
        )
    low = spec.low if math.isfinite(spec.low) else min(-1.0, spec.high - 2.0)
    high = spec.high if math.isfinite(spec.high) else max(1.0, low + 2.0)
    return low + (high - low) * torch.rand((n, *spec.shape), generator=rng)


def losses(model: GenerativeModel) -> dict[str, float]:
    """Every phase's loss on an example batch. Whatever the model raises passes through."""
    device = next(model.parameters()).device
    batch = example_batch(model.spec, device=device)
    found = {}
    for phase in model.phases():
        ctx = Context(
            0, 0.5, (phase.stages or ("train",))[0], {}, torch.Generator(device=device).manual_seed(0)
        )
        found[phase.name] = float(sum(v.detach().sum() for v in model.loss(phase.name, batch, ctx).values()))
    return found


def check(model: GenerativeModel, expected: list[tuple[int, ...]]) -> None:
    """Every graph gives finite outputs of the expected shapes, and gradients flow back through it.

    Raises NiwakiError with the graph's name where not.
    """
    model.eval()
    found: list[tuple[int, ...]] = []
    for name, graph in model.shipped_graphs().items():
        with torch.enable_grad():
            model.zero_grad(set_to_none=True)
            out = graph(*graph.example(3, 1))
            parts = list(out) if isinstance(out, tuple | list) else [out]
            for part in parts:
                if part.is_floating_point() and not torch.isfinite(part).all():
                    raise NiwakiError(f"the graph '{name}' gives values that are not finite")
            total = sum(p.float().square().mean() for p in parts if p.requires_grad)
            if isinstance(total, Tensor):
                total.backward()
                gradients = [p.grad for p in model.parameters() if p.grad is not None]
                if not gradients or not all(torch.isfinite(g).all() for g in gradients):
                    raise NiwakiError(f"no finite gradient comes back through the graph '{name}'")
        found += _shapes(graph, parts)
    model.zero_grad(set_to_none=True)
    if found != expected:
        raise NiwakiError(f"the graphs' outputs had the shapes {expected} and now have {found}")
