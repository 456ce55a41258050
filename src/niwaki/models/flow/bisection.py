"""Roots of monotone functions by halving, as a loop that an exported graph holds once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

__all__ = ["bisect"]

_HALVINGS = {torch.float64: 60}
_ENOUGH = 32  # of other precisions


def bisect(above: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """The x between `low` and `high` where `above(x)`, which rises with x, is 0; element by element.

    32 halvings in float32 and 60 in float64, so that what is left of an interval is below the rounding.
    """
    count = _HALVINGS.get(low.dtype, _ENOUGH)

    def halve(step: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        middle = 0.5 * (low + high)
        found = above(middle)
        beyond = found > torch.zeros_like(found)  # not > 0: the exporter puts numbers outside of the loop
        return step + 1, torch.where(beyond, low, middle), torch.where(beyond, middle, high)

    def more(step: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return step < count

    step = torch.zeros((), dtype=torch.int64, device=low.device)
    if torch.compiler.is_exporting():
        step, low, high = while_loop(more, halve, (step, low, high))
    else:
        for _ in range(count):
            step, low, high = halve(step, low, high)
    return 0.5 * (low + high)
