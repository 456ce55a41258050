"""Codebooks: features become the nearest of a few vectors, and gradients pass as if they had not."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, Context

__all__ = ["CODEBOOKS", "Averaged", "Codebook", "Learned", "Levelled", "revival_is_due"]

_LLOYD = 10
_LEAST = 1e-5


def revival_is_due(ctx: Context, every: int) -> bool:
    """Whether codes that nobody chose are moved in this step, one of `every`, never where that is 0; not near
    the end of a stage, where they must settle."""
    return bool(every and ctx.step and ctx.step % every == 0 and ctx.progress < 0.8)


class Codebook(nn.Module):
    """Vectors `table` `(K, dim)` and the search among them.

    beta: weight of the commitment term
    """

    used: Tensor  # (K,), how often each code was chosen since codes were last revived

    def __init__(self, codes: int, dim: int, beta: float) -> None:
        super().__init__()
        self.codes, self.beta = codes, beta
        self.register_buffer("used", torch.zeros(codes))

    def entries(self) -> Tensor:
        """The vectors `(K, dim)`."""
        raise NotImplementedError

    def search(self, h: Tensor) -> Tensor:
        """Features `(…, dim)` → numbers of the nearest vectors `(…)`; float32, whatever the autocast."""
        h, table = h.float(), self.entries().float()
        # ‖h − e‖² without ‖h‖², which is the same for all
        return (table.square().sum(1) - 2.0 * h @ table.t()).argmin(-1)

    def look_up(self, numbers: Tensor) -> Tensor:
        """Numbers `(…)` → their vectors `(…, dim)`."""
        return nn.functional.embedding(numbers, self.entries())

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Features `(n, …, dim)` → what the decoder is given, numbers `(n, …)`, loss terms.

        The decoder's gradient passes straight through to the encoder, h + sg(e − h) (van den Oord et al.
        2017, Section 3.2); the terms are taken on h and e themselves, before that.
        """
        numbers = self.search(h)
        e = self.look_up(numbers)
        terms = self.terms(h, e)
        if self.training:
            self.see(h.detach(), numbers)
        return h + (e - h).detach(), numbers, terms

    def see(self, h: Tensor, numbers: Tensor) -> None:
        """Count what was chosen for features `(…, dim)`, and learn from it."""
        self.used.add_(torch.bincount(numbers.flatten(), minlength=self.codes))
        self.observe(h, numbers)

    def terms(self, h: Tensor, e: Tensor) -> dict[str, Tensor]:
        """Means over values, as the reconstruction is: neither vanishes beside the other."""
        # Equation 3: β on what moves the encoder, none on what moves the codes.
        return {"commitment": self.beta * (h - e.detach()).square().mean()}

    def begin(self, h: Tensor, rng: torch.Generator) -> None:
        """Set the vectors from features `(…, dim)`, by Lloyd's k-means from a random choice of them."""
        h = h.flatten(0, -2)
        table = h[torch.randint(0, len(h), (self.codes,), generator=rng, device=h.device)].float()
        for _ in range(_LLOYD):
            near = torch.cdist(h.float(), table).argmin(1)
            count = torch.bincount(near, minlength=self.codes)[:, None]
            total = torch.zeros_like(table).index_add_(0, near, h.float())
            table = torch.where(count > 0, total / count.clamp(min=1), table)
        self.place(table, torch.ones(self.codes, dtype=torch.bool, device=h.device))

    def revive(self, h: Tensor, rng: torch.Generator) -> None:
        """Move codes that were not chosen since the last call to random features `(…, dim)`."""
        h = h.flatten(0, -2)
        dead = self.used == 0
        fresh = h[torch.randint(0, len(h), (self.codes,), generator=rng, device=h.device)].float()
        self.place(fresh, dead)
        self.used.zero_()

    def place(self, vectors: Tensor, where: Tensor) -> None:
        """Take over the `vectors` of the codes `where`. In place, under `no_grad`."""
        raise NotImplementedError

    def observe(self, h: Tensor, numbers: Tensor) -> None:
        """See what was chosen in training."""

    def update(self) -> None:
        """Called after every training step, under `no_grad`."""


class Learned(Codebook):
    """Vectors are parameters, moved by ‖sg(h) − e‖² (van den Oord et al. 2017, Equation 3)."""

    def __init__(self, codes: int, dim: int, beta: float) -> None:
        super().__init__(codes, dim, beta)
        self.table = nn.Parameter(torch.randn(codes, dim) / math.sqrt(dim))

    def entries(self) -> Tensor:
        return self.table

    def terms(self, h: Tensor, e: Tensor) -> dict[str, Tensor]:
        return {**super().terms(h, e), "codebook": (h.detach() - e).square().mean()}

    def place(self, vectors: Tensor, where: Tensor) -> None:
        self.table.copy_(torch.where(where[:, None], vectors, self.table))


class Averaged(Codebook):
    """Vectors are running means of the features that chose them (van den Oord et al. 2017, Appendix A.1).

    γ = 0.99; numbers and sums of one step's micro-batches and processes are gathered first.
    """

    table: Tensor
    count: Tensor  # (K,), N of the paper
    seen: Tensor  # (K, 1 + dim), of this step: how often chosen, sum of the features
    decay = 0.99

    def __init__(self, codes: int, dim: int, beta: float) -> None:
        super().__init__(codes, dim, beta)
        self.register_buffer("table", torch.randn(codes, dim) / math.sqrt(dim))
        self.register_buffer("count", torch.ones(codes))
        self.register_buffer("seen", torch.zeros(codes, 1 + dim))

    def entries(self) -> Tensor:
        return self.table

    def observe(self, h: Tensor, numbers: Tensor) -> None:
        rows = nn.functional.pad(h.float().flatten(0, -2), (1, 0), value=1.0)
        self.seen.index_add_(0, numbers.flatten(), rows)

    def update(self) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.seen)
        number, total = self.seen[:, :1], self.seen[:, 1:]
        count = self.decay * self.count[:, None] + (1.0 - self.decay) * number
        mean = (self.decay * self.count[:, None] * self.table + (1.0 - self.decay) * total) / count
        # A code that is no longer chosen keeps its place while its count fades; a step that looked for no
        # codes (of the prior alone) changes nothing.
        looked = number.sum() > 0
        self.table.copy_(torch.where(looked & (count > _LEAST), mean, self.table))
        self.count.copy_(torch.where(looked, count[:, 0], self.count))
        self.seen.zero_()

    def place(self, vectors: Tensor, where: Tensor) -> None:
        self.table.copy_(torch.where(where[:, None], vectors, self.table))
        self.count.copy_(torch.where(where, torch.ones_like(self.count), self.count))


class Levelled(Codebook):
    """No vectors to learn: each of `dim` values is rounded to one of L levels, K = L^dim (FSQ, Mentzer et al.
    2024).

    L is odd or even; bounded by tanh so that the outer levels can be reached, as in their Section 3.1.
    """

    table: Tensor  # (K, dim)
    powers: Tensor  # (dim,), of L

    def __init__(self, codes: int, dim: int, beta: float) -> None:
        super().__init__(codes, dim, beta)
        levels = round(codes ** (1.0 / dim))
        if levels < 2 or levels**dim != codes:
            raise CallError(f"finite scalar quantization has L^dim codes; {codes} is no power of that kind")
        self.levels = levels
        powers = torch.tensor([levels**i for i in range(dim)])
        digits = torch.arange(codes)[:, None] // powers % levels
        self.register_buffer("table", digits.float() * 2.0 / (levels - 1) - 1.0, persistent=False)
        self.register_buffer("powers", powers, persistent=False)

    def entries(self) -> Tensor:
        return self.table

    def _digits(self, h: Tensor) -> Tensor:
        """0 … L−1 before rounding, float32: bf16 cannot tell neighbouring numbers."""
        return (torch.tanh(h.float()) * 0.5 + 0.5) * (self.levels - 1)

    def search(self, h: Tensor) -> Tensor:
        # Summed as floats, exact below 2²⁴: some engines go wrong where a sum of int64 is worked on further.
        return (self._digits(h).round() * self.powers.float()).sum(-1).long()

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        numbers = self.search(h)
        bounded = torch.tanh(h.float())  # the gradient passes the rounding, not the bound
        e = self.look_up(numbers)
        if self.training:
            self.see(h.detach(), numbers)
        return bounded + (e - bounded).detach(), numbers, {}

    def begin(self, h: Tensor, rng: torch.Generator) -> None:
        """Nothing follows from data."""

    def place(self, vectors: Tensor, where: Tensor) -> None:
        """Vectors stay where they are."""


Kind = Literal["learned", "averaged", "levelled"]
CODEBOOKS: dict[str, type[Codebook]] = {"learned": Learned, "averaged": Averaged, "levelled": Levelled}
