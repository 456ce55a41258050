"""Samples whose places are each said by a code, or by one of each of several books, and their prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import Batch, CallError, Context
from niwaki.models.vae.code_prior import CodePrior
from niwaki.models.vae.codebooks import CODEBOOKS, Codebook, Kind
from niwaki.models.vae.coded_samples import CodedSamples, CodedSamplesConfig
from niwaki.models.vae.masked_prior import MaskedPrior
from niwaki.models.vae.residual import ResidualCodebook

__all__ = ["BookCodes", "BookCodesConfig"]


class BookCodesConfig(CodedSamplesConfig):
    """
    codebook:  `learned` by its own loss, `averaged` (running means), or `levelled` (FSQ)
    books:     codebooks in turn, each for what those before it left over (residual VQ)
    quantizer_dropout: share of samples that are said by 1 … `books` books in training, how many by chance
    prior:     `causal` writes codes one after another, `masked` several at once, in any order (MaskGIT)
    prior_steps: in which `masked` writes
    prior_by_book: whether `causal` has vectors and logits of its own for every book's codes
    """

    codebook: Kind = "learned"
    books: int = Field(1, ge=1, exclude_if=lambda value: value == 1)
    quantizer_dropout: float = Field(0.0, ge=0, le=1, exclude_if=lambda value: not value)
    prior: Literal["causal", "masked"] = Field("causal", exclude_if=lambda value: value == "causal")
    prior_steps: int = Field(8, ge=1, exclude_if=lambda value: value == 8)
    prior_by_book: bool = Field(False, exclude_if=lambda value: not value)


class BookCodes(CodedSamples):
    """Codes of a codebook, or of residual ones, and the prior that the settings ask for.

    config: BookCodesConfig
    """

    config: BookCodesConfig
    takes_texts: ClassVar[bool] = True

    def make_codebook(self) -> Codebook | ResidualCodebook:
        c = self.config
        if c.books > 1 and c.codebook == "levelled":
            raise CallError("finite scalar quantization leaves nothing to further books; set books: 1")
        books = [CODEBOOKS[c.codebook](c.codes, c.dim, c.beta) for _ in range(c.books)]
        return books[0] if c.books == 1 else ResidualCodebook(books)

    def make_prior(self) -> CodePrior | MaskedPrior:
        c = self.config
        if c.prior == "causal":
            books = c.books if c.prior_by_book else 1
            return CodePrior(c.codes, self.length, self.numbers, books, **self.prior_settings())
        grid = (self.grid[0], self.length // self.grid[0])  # the books of a place beside each other
        return MaskedPrior(c.codes, grid, self.numbers, steps=c.prior_steps, **self.prior_settings())

    def prior_settings(self) -> dict[str, Any]:
        """What priors of both kinds are made with."""
        c = self.config
        return {
            "width": c.prior_width, "heads": c.prior_heads, "layers": c.prior_layers,
            "dropout": c.prior_dropout, "texts": self.encoded_shapes(),
        }  # fmt: skip

    @property
    def length(self) -> int:
        """Codes of a sample: those of all books at the first place, at the second …"""
        return math.prod(self.grid) * self.config.books

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """To fixed levels features are brought; other codes are brought to the features."""
        levelled = self.config.codebook == "levelled"
        if ctx.stage == "codes" and levelled and not ctx.is_begun(self.encoder):
            h = torch.cat([self.features(self.whole(batches(k))) for k in range(self.config.batches)])
            self._standardize(h.flatten(0, -2))
        super().begin_stage(ctx, batches)

    def _standardize(self, h: Tensor) -> None:
        """Bring the features that were `h` `(m, dim)` to mean 0 and variance 1, by the encoder's last layer
        (after Salimans & Kingma 2016, Section 3). What a fresh encoder says lies within one level: the same
        code everywhere, which the decoder learns to do without, and it stays so."""
        weight, bias = self.encoder[-1].parameters()
        mean, scale = h.mean(0), h.std(0) + 1e-6
        weight.div_(scale.view(-1, *(1,) * (weight.dim() - 1)))
        bias.sub_(mean).div_(scale)

    def quantize(self, h: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        found: tuple[Tensor, Tensor, dict[str, Tensor]]
        found = self.codebook(h, *self._books_used(len(h), rng, h.device))
        return found

    def _books_used(self, n: int, rng: torch.Generator, device: torch.device) -> tuple[Tensor, ...]:
        """How many books say each sample, where some are left out (Zeghidour et al. 2021, Section III.C)."""
        books, share = self.config.books, self.config.quantizer_dropout
        if books == 1 or not share or not self.training:
            return ()
        fewer = torch.randint(1, books + 1, (n,), generator=rng, device=device)
        coin = torch.rand(n, generator=rng, device=device) < share
        return (torch.where(coin, fewer, books),)

    def perplexities(self, numbers: Tensor) -> dict[str, Tensor]:
        """Of every book."""
        found = {}
        for i, column in enumerate(numbers.reshape(-1, self.config.books).unbind(1), 1):
            p = torch.bincount(column, minlength=self.config.codes) / column.numel()
            found[f"perplexity_{i}"] = torch.exp(-torch.special.xlogy(p, p).sum())
        return found if self.config.books > 1 else {"perplexity": found["perplexity_1"]}

    def decode(self, codes: Tensor, books: int | None = None) -> Tensor:
        """Codes `(n, length)` → samples in the spec's range `(n, *shape)`, by the first `books` books."""
        # The length of a vector is written out, so that pruning what one graph needs of it (the decoder) does
        # not leave the other (the encoder) behind.
        c = self.config
        if c.books > 1:
            codes = codes.reshape(codes.shape[0], math.prod(self.grid), c.books)[..., :books]
        e = self.codebook.look_up(codes).reshape(codes.shape[0], *self.grid, c.dim)
        return self._draw(e)
