"""Multi-scale residual quantization: one codebook says a feature map at growing sizes, each for what the
smaller ones left over (Tian et al. 2024, "VAR", Algorithms 1 and 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.models.vae.codebooks import Codebook

__all__ = ["MultiScaleCodebook"]

Size = tuple[int, int]


class MultiScaleCodebook(nn.Module):
    """h ≈ Σ φₖ(up(eₖ)): eₖ are the vectors nearest to what the scales before k left of h, averaged to size k.

    It does what a `Codebook` does on maps `(n, height, width, dim)`; numbers are those of all scales in a
    row, coarse to fine, each row by row: `(n, length)`. An enlarged map is smoothed by φ = ½ (1 + a
    convolution of this scale); all scales share the vectors.

    book:  its vectors
    dim:   their length
    sizes: (height, width) of each scale; the last is that of the maps
    """

    rows: Tensor  # (scales, places of the largest), the places of each scale among all, the last repeated

    def __init__(self, book: Codebook, dim: int, sizes: tuple[Size, ...]) -> None:
        super().__init__()
        self.book, self.codes, self.dim, self.sizes = book, book.codes, dim, sizes
        self.smooth = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in sizes)
        for i, size in enumerate(sizes):
            self.register_buffer(f"down_{i}", _averaging(sizes[-1], size), persistent=False)
            self.register_buffer(f"up_{i}", _enlarging(size, sizes[-1]), persistent=False)
        last = [(start, start + count - 1) for start, count in zip(self.starts, self.counts, strict=True)]
        place = torch.arange(max(self.counts))
        rows = torch.stack([(start + place).clamp(max=end) for start, end in last])
        self.register_buffer("rows", rows, persistent=False)

    @property
    def counts(self) -> list[int]:
        """Places of each scale."""
        return [height * width for height, width in self.sizes]

    @property
    def starts(self) -> list[int]:
        """Where each scale begins among all places."""
        return [sum(self.counts[:i]) for i in range(len(self.sizes))]

    @property
    def length(self) -> int:
        return sum(self.counts)

    def _down(self, h: Tensor, scale: int) -> Tensor:
        """A map `(n, places, dim)` at the size of a scale."""
        return getattr(self, f"down_{scale}") @ h

    def _enlarged(self, numbers: Tensor, scale: int) -> Tensor:
        """Numbers of one scale `(n, places)` → what they add to the map `(n, all places, dim)`."""
        x = getattr(self, f"up_{scale}") @ self.book.look_up(numbers).float()
        image = x.transpose(1, 2).unflatten(2, self.sizes[-1])
        smooth = self.smooth[scale](image).flatten(2).transpose(1, 2)
        return 0.5 * (x + smooth)

    def search(self, h: Tensor) -> Tensor:
        """Maps `(n, height, width, dim)` → numbers `(n, length)`; float32, whatever the autocast."""
        left, numbers = h.float().flatten(1, 2), []
        for i in range(len(self.sizes)):
            numbers.append(self.book.search(self._down(left, i)))
            left = left - self._enlarged(numbers[-1], i)
        return torch.cat(numbers, 1)

    def look_up(self, numbers: Tensor, scales: int | None = None) -> Tensor:
        """Numbers `(n, length)` → what the first `scales` scales say, summed `(n, height · width, dim)`."""
        parts = numbers.split(self.counts, 1)[:scales]
        return torch.stack([self._enlarged(part, i) for i, part in enumerate(parts)]).sum(0)

    def told(self, numbers: Tensor) -> Tensor:
        """What is known at every place of every scale from coarser ones `(n, length, dim)`: their sum, at the
        size of the scale; zeros at the first."""
        parts = numbers.split(self.counts, 1)
        known = torch.zeros_like(self._enlarged(parts[0], 0))
        found = []
        for i, part in enumerate(parts):
            found.append(self._down(known, i))
            if i + 1 < len(parts):
                known = known + self._enlarged(part, i)
        return torch.cat(found, 1)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Maps `(n, height, width, dim)` → what the decoder is given, numbers `(n, length)`, loss terms.

        Both terms are means over scales, of what all scales up to one say: `commitment` moves h, `smoothing`
        the convolutions.
        """
        whole = h.float().flatten(1, 2)
        left, known = whole.detach(), torch.zeros_like(whole)
        numbers: list[Tensor] = []
        terms = {"commitment": whole.new_zeros(()), "smoothing": whole.new_zeros(())}
        for i in range(len(self.sizes)):
            asked = self._down(left, i)
            numbers.append(self.book.search(asked))
            if self.training:
                self.book.see(asked, numbers[-1])
            known = known + self._enlarged(numbers[-1], i)
            left = whole.detach() - known.detach()
            share = 1.0 / len(self.sizes)
            far = (whole - known.detach()).square().mean()
            terms["commitment"] = terms["commitment"] + share * self.book.beta * far
            terms["smoothing"] = terms["smoothing"] + share * (whole.detach() - known).square().mean()
        told = h + (known.detach().view_as(h) - h).detach()
        return told, torch.cat(numbers, 1), terms

    def _residuals(self, h: Tensor) -> list[Tensor]:
        """What each scale is asked to say of maps `(m, height, width, dim)`, with the vectors that there
        are."""
        left, found = h.float().flatten(1, 2), []
        for i in range(len(self.sizes)):
            found.append(self._down(left, i))
            left = left - self._enlarged(self.book.search(found[-1]), i)
        return found

    def begin(self, h: Tensor, rng: torch.Generator) -> None:
        """From the maps `(m, height, width, dim)` at all scales, then from what is left at each of them by
        the vectors of before. φ begins as the identity."""
        for smooth in self.smooth:
            nn.init.dirac_(smooth.weight)  # type: ignore[arg-type]
            nn.init.zeros_(smooth.bias)  # type: ignore[arg-type]
        whole = h.float().flatten(1, 2)
        parts = [self._down(whole, i) for i in range(len(self.sizes))]
        for _ in range(3):
            self.book.begin(torch.cat([part.flatten(0, 1) for part in parts]), rng)
            parts = self._residuals(h)

    def revive(self, h: Tensor, rng: torch.Generator) -> None:
        """Codes that no scale chose move to random residuals of the maps `(m, height, width, dim)`."""
        self.book.revive(torch.cat([part.flatten(0, 1) for part in self._residuals(h)]), rng)

    def update(self) -> None:
        self.book.update()


def _averaging(size: Size, smaller: Size) -> Tensor:
    """The matrix `(places of smaller, places of size)` that averages areas."""
    unit = torch.eye(size[0] * size[1]).view(-1, 1, *size)
    return F.adaptive_avg_pool2d(unit, smaller).flatten(1).t().contiguous()


def _enlarging(size: Size, larger: Size) -> Tensor:
    """The matrix `(places of larger, places of size)` that interpolates."""
    unit = torch.eye(size[0] * size[1]).view(-1, 1, *size)
    return F.interpolate(unit, larger, mode="bicubic", align_corners=False).flatten(1).t().contiguous()
