"""What follows from weights alone: computed at every call in training, once when a network is exported."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

__all__ = ["FromWeights"]


class FromWeights(nn.Module):
    """A layer that computes with `known()`: its `constants()`, which `fold_constants` (called by
    `niwaki.deployment.bake`) computes for good, so that no graph holds how they are made."""

    def __init__(self) -> None:
        super().__init__()
        self._folded = 0

    @abstractmethod
    def constants(self) -> tuple[Tensor, ...]:
        """What the layer computes with, in the precision of its weights."""

    def known(self) -> tuple[Tensor, ...]:
        if not self._folded:
            return self.constants()
        return tuple(getattr(self, f"constant_{i}") for i in range(self._folded))

    def fold_constants(self) -> None:
        """Keep what follows from the weights as they are now."""
        values = self.constants()
        for i, value in enumerate(values):
            self.register_buffer(f"constant_{i}", value.detach().clone(), persistent=False)
        self._folded = len(values)
