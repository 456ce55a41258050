"""Residual vector quantization: several codebooks in turn, each for what those before it left over
(Zeghidour et al. 2021, "SoundStream", Section III.C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.models.vae.codebooks import Codebook

__all__ = ["ResidualCodebook"]


class ResidualCodebook(nn.Module):
    """h ≈ e₁ + e₂ + …: eᵢ is the vector of book i that is nearest to h − e₁ − … − eᵢ₋₁.

    It does what a `Codebook` does; numbers have one axis more, `(n, …, books)`. With fewer books than there
    are it says the same more coarsely.

    books: at least two
    """

    def __init__(self, books: list[Codebook]) -> None:
        super().__init__()
        self.books = nn.ModuleList(books)
        self.codes = books[0].codes

    def _books(self) -> list[Codebook]:
        return [book for book in self.books if isinstance(book, Codebook)]

    def search(self, h: Tensor) -> Tensor:
        """Features `(…, dim)` → numbers `(…, books)`; float32, whatever the autocast."""
        left, numbers = h.float(), []
        for book in self._books():
            numbers.append(book.search(left))
            left = left - book.look_up(numbers[-1]).float()
        return torch.stack(numbers, -1)

    def look_up(self, numbers: Tensor) -> Tensor:
        """Numbers `(…, k)` of the first k books → the sum of their vectors `(…, dim)`."""
        vectors = [book.look_up(numbers[..., i]) for i, book in enumerate(self._books()[: numbers.shape[-1]])]
        return torch.stack(vectors).sum(0)

    def forward(self, h: Tensor, used: Tensor | None = None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Features `(n, …, dim)` → what the decoder is given, numbers `(n, …, books)`, loss terms.

        used: of each sample, how many books say it `(n,)`; the others are neither added nor trained by it
              (quantizer dropout); None is all of them
        """
        used = torch.full((len(h),), len(self.books), device=h.device) if used is None else used
        left = h.float()
        told, numbers = torch.zeros_like(left), []
        terms: dict[str, Tensor] = {}
        for i, book in enumerate(self._books()):
            asked = used > i
            found = book.search(left)
            e = book.look_up(found).float()
            if book.training:
                book.see(left.detach()[asked], found[asked])
            # Of a sample that the book is not asked about both differences are zero, and their gradients.
            mask = asked.view(-1, *(1,) * (h.dim() - 1))
            given = torch.where(mask, left, e.detach()), torch.where(mask, e, e.detach())
            for name, term in book.terms(*given).items():
                terms[name] = terms[name] + term if name in terms else term
            told = told + torch.where(mask, e, 0.0)
            left = left - e.detach()
            numbers.append(found)
        return h + (told - h).detach(), torch.stack(numbers, -1), terms

    def begin(self, h: Tensor, rng: torch.Generator) -> None:
        """Each book from what those before it leave of the features `(…, dim)`."""
        for book in self._books():
            book.begin(h, rng)
            h = h - book.look_up(book.search(h))

    def revive(self, h: Tensor, rng: torch.Generator) -> None:
        """In each book, codes that nobody chose move to random residuals of features `(…, dim)`."""
        for book in self._books():
            left = h - book.look_up(book.search(h))
            book.revive(h, rng)
            h = left

    def update(self) -> None:
        for book in self._books():
            book.update()
