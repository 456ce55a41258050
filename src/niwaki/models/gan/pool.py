"""A pool of images that a translator made earlier: critics see some of them beside the newest ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ImagePool"]


class ImagePool(nn.Module):
    """Shrivastava et al. 2017, "Learning from simulated and unsupervised images through adversarial
    training", Section 2.3, as CycleGAN has it (Zhu et al. 2017, Section 4: 50 images).

    The first `size` images are kept and handed on. From then on every image is, by a coin of its own, handed
    on or exchanged for one of the pool, whose place it takes; a place is exchanged at most once in a batch.

    images, filled: buffers, so that a resumed training goes on with the same pool
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, fresh: Tensor, rng: torch.Generator) -> Tensor:
        """`(n, *shape)` → as many images for the critic; the pool takes some in. No host synchronisation.

        Of more images than the pool has places, those beyond are handed on.
        """
        size = len(self.images)
        n = min(len(fresh), size)
        if not n:
            return fresh
        new, device = fresh[:n], fresh.device
        coin = torch.rand(n, generator=rng, device=device) < 0.5
        full = self.filled >= size
        turn = self.filled + torch.arange(n, device=device)
        # Distinct places: no image is written over by another one of its batch.
        place = torch.where(full, torch.randperm(size, generator=rng, device=device)[:n], turn % size)
        kept = self.images[place].to(new.dtype)
        out = _where(full & coin, kept, new)
        enters = torch.where(full, coin, turn < size)
        self.images[place] = _where(enters, new, kept).to(self.images.dtype)
        self.filled.add_(n).clamp_(max=size)
        return torch.cat([out, fresh[n:]]) if n < len(fresh) else out


def _where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (yes.dim() - 1)), yes, no)
