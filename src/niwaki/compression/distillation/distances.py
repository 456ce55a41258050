"""How far a student's answers are from its teacher's: values, the spread of samples, and probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

__all__ = ["DISTANCES", "pseudo_huber", "soft_targets", "spread_distance"]

DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "l1l2": lambda a, b: F.l1_loss(a, b) + F.mse_loss(a, b),
}


def pseudo_huber(made: Tensor, wanted: Tensor) -> Tensor:
    """√(‖s − t‖² + c²) − c of each sample `(n,)`, c = 0.00054 √d (Song & Dhariwal 2023, Section 3.3)."""
    c = 0.00054 * made[0].numel() ** 0.5
    return ((made - wanted).flatten(1).square().sum(1) + c * c).sqrt() - c


def spread_distance(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean | ‖sᵢ−sⱼ‖ − ‖tᵢ−tⱼ‖ | /√d over the pairs of a batch: how far the distances between samples
    are from the teacher's, in the units of a sample's values, as the distance to the teacher itself.

    The best answer of a small network to a squared error is the mean of what it cannot tell apart: samples
    move together and fewer real ones are reached. Relational distillation (Park et al. 2019, "Relational
    knowledge distillation", eq. 5) sees that, sample by sample.
    """
    a, b = made.flatten(1), wanted.flatten(1)
    return (F.pdist(a) - F.pdist(b)).abs().mean() / math.sqrt(a.shape[1])


def soft_targets(made: Tensor, wanted: Tensor, temperature: float = 1.0) -> Tensor:
    """T² KL(softmax(t/T) ‖ softmax(s/T)) in nats per token, of logits `(…, levels)`.

    T² keeps the gradient's size when T changes (Hinton, Vinyals & Dean 2015, Section 2.1).
    """
    student = F.log_softmax(made.float() / temperature, -1).flatten(0, -2)
    teacher = F.log_softmax(wanted.float() / temperature, -1).flatten(0, -2)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
