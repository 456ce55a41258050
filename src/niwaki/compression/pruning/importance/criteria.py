"""How much a single weight matters: one function per criterion; the highest are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from niwaki.compression.pruning.importance.evidence import Evidence
from niwaki.core.contract import CallError, GenerativeModel, nearest

__all__ = ["Criterion", "Movement", "criterion", "criterion_of"]

Weights = Mapping[str, nn.Parameter]

Criterion = Callable[[GenerativeModel, Weights, Evidence], dict[str, Tensor]]
"""(model, weights by name, evidence) → one score per weight, on the CPU, in the weights' shapes."""

_CRITERIA: dict[str, Criterion] = {}


def criterion(name: str) -> Callable[[Criterion], Criterion]:
    """Decorator: register a criterion of single weights."""

    def enter(function: Criterion) -> Criterion:
        _CRITERIA[name] = function
        return function

    return enter


def criterion_of(name: str) -> Criterion:
    """Raises CallError with the nearest name."""
    if name not in _CRITERIA:
        raise CallError(f"there is no importance '{name}' of weights; {nearest(name, _CRITERIA)}")
    return _CRITERIA[name]


@criterion("magnitude")
def magnitude(model: GenerativeModel, weights: Weights, evidence: Evidence) -> dict[str, Tensor]:
    """|w| (Han et al. 2015, "Learning both weights and connections for efficient neural networks")."""
    return {n: w.detach().abs().cpu() for n, w in weights.items()}


@criterion("random")
def random(model: GenerativeModel, weights: Weights, evidence: Evidence) -> dict[str, Tensor]:
    """No criterion at all: what any other must beat."""
    rng = torch.Generator().manual_seed(evidence.seed)
    return {n: torch.rand(w.shape, generator=rng) for n, w in weights.items()}


@criterion("taylor")
def taylor(model: GenerativeModel, weights: Weights, evidence: Evidence) -> dict[str, Tensor]:
    """√mean (w·∂L/∂w)² over batches: what the loss changes to first order when w becomes zero.

    Molchanov et al. 2019, "Importance estimation for neural network pruning", eq. 8 (squares averaged over
    mini-batches).
    """
    sums = {n: torch.zeros(w.shape, dtype=torch.float64) for n, w in weights.items()}
    count = 0
    for gradients in evidence.gradients(model):
        count += 1
        for name, w in weights.items():
            if name in gradients:
                sums[name] += (w.detach() * gradients[name]).double().square().cpu()
    return {n: (s / max(count, 1)).sqrt() for n, s in sums.items()}


@criterion("movement")
def movement(model: GenerativeModel, weights: Weights, evidence: Evidence) -> dict[str, Tensor]:
    """Σ_t −w·∂L/∂w over training: positive where a weight moves away from zero, however small it is.

    Sanh, Wolf & Rush 2020, "Movement pruning: adaptive sparsity by fine-tuning", eq. 4 (up to the constant
    rate α). Raises CallError where no training collected it.
    """
    if evidence.moved is None:
        raise CallError("'movement' is what weights do in training: give it 'train' steps and data")
    return {n: evidence.moved[n].cpu() for n in weights}


class Movement:
    """Collects `movement` while the given parameters are trained, until `close`.

    scores: by name, in the weights' shapes, on their device
    """

    def __init__(self, weights: Weights) -> None:
        self.scores: dict[str, Tensor] = {}
        self._handles = []
        for name, w in weights.items():
            required = w.requires_grad
            w.requires_grad_(True)  # hooks are refused otherwise
            self._handles.append(w.register_hook(self._hook(name, w)))
            w.requires_grad_(required)

    def _hook(self, name: str, w: nn.Parameter) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            move = -(w.detach() * gradient.detach()).float()
            self.scores[name] = self.scores[name] + move if name in self.scores else move

        return hook

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
