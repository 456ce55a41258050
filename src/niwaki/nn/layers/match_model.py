"""What followed the last few tokens earlier in the same sequence, as a bonus to the logits of those tokens.

The match model of compressors (Mahoney 2005, "Adaptive weighing of context models for lossless data
compression"), with weights that the network learns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MatchModel"]

_LESS = 0.5  # a fresh weight of a match one token longer, in log


class MatchModel(nn.Module):
    """z ← z + a · log(1 + S), where S_v sums over all earlier places that v followed
    (w₁ + … + w_L) / distance^r, L being how many tokens before v are those that were read last.

    a follows from the stream and from the longest match that there is; w ≥ 0 and r are learned.

    longest: tokens that are compared at most
    tokens:  names of tokens; `tokens` itself stands where none is known
    width:   of the stream
    """

    def __init__(self, longest: int, tokens: int, width: int) -> None:
        super().__init__()
        self.longest, self.tokens = longest, tokens
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 1, bias=False)
        self.told = nn.Linear(longest, 1, bias=False)
        self.gain, self.recency = nn.Parameter(torch.zeros(longest)), nn.Parameter(torch.zeros(()))
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Fresh weights: at first nothing is said, and longer matches count for more."""
        nn.init.zeros_(self.ask.weight)
        nn.init.zeros_(self.told.weight)
        self.gain.copy_(_LESS * torch.arange(self.longest))
        self.recency.zero_()

    def forward(self, logits: Tensor, stream: Tensor, row: Tensor, places: Tensor) -> Tensor:
        """Logits `(n, t, tokens)` of what follows the tokens at `places`, with the bonus.

        stream: what the network knows there `(n, t, width)`
        row:    tokens read `(n, T)` int64; what stands behind a place does not count for it
        places: `(t,)` int64, of the tokens read last
        """
        k, length = self.longest, row.shape[1]
        narrow = row.to(torch.int32)
        # Neither of the two fillings equals anything: a match does not reach before the first token.
        keys, asked = F.pad(narrow, (k - 1, 0), value=-1), F.pad(narrow, (k - 1, 0), value=-2)
        apart = places[:, None] - torch.arange(length - 1, device=row.device)  # (t, T − 1)
        same = (apart > 0).unsqueeze(0)
        found, weight = [], torch.zeros((), device=row.device)
        for j, gain in enumerate(self.gain.exp()):
            last = asked.index_select(1, places + (k - 1 - j))  # (n, t)
            same = same & (last.unsqueeze(-1) == keys[:, None, k - 1 - j : k - 1 - j + length - 1])
            equal = same.float()
            weight = weight + gain * equal
            found.append(equal.amax(-1))
        near = torch.exp(-self.recency * torch.log(apart.clamp(min=1).float()))
        followed = row[:, None, 1:].expand(-1, places.shape[0], -1).clamp(max=self.tokens - 1)
        sums = torch.zeros_like(logits, dtype=torch.float32).scatter_add(-1, followed, weight * near)
        return logits.float() + self._share(stream, torch.stack(found, -1)) * torch.log1p(sums)

    def read(self, logits: Tensor, stream: Tensor, row: Tensor) -> Tensor:
        """`forward` at all places of `row`, as training asks for it: few places match, and only they are
        computed. No graph for a device: how many there are depends on the data."""
        n, length = row.shape
        same = (row.unsqueeze(2) == row[:, None, :-1]).tril(-1)
        which, place, before = same.nonzero(as_tuple=True)
        run = torch.ones_like(place)
        on = torch.ones_like(place, dtype=torch.bool)
        for j in range(1, self.longest):
            on = on & (before >= j)
            on = on & (row[which, (place - j).clamp(min=0)] == row[which, (before - j).clamp(min=0)])
            run = run + on
        near = torch.exp(-self.recency * torch.log((place - before).float()))
        weight = self.gain.exp().cumsum(0).index_select(0, run - 1) * near
        at = which * length + place
        place_of, inverse = torch.unique(at * self.tokens + row[which, before + 1], return_inverse=True)
        sums = weight.new_zeros(len(place_of)).index_add(0, inverse, weight)
        best = run.new_zeros(n * length).scatter_reduce(0, at, run, "amax")
        found = (best.unsqueeze(-1) > torch.arange(self.longest, device=row.device)).float()
        share = self._share(stream.flatten(0, 1), found).squeeze(-1)
        bonus = share.index_select(0, place_of // self.tokens) * torch.log1p(sums)
        return logits.float().flatten().index_add(0, place_of, bonus).view_as(logits)

    def _share(self, stream: Tensor, found: Tensor) -> Tensor:
        """a `(…, 1)`; found: 1 for each length that some match has, else 0"""
        share: Tensor = self.ask(self.norm(stream)).float() + self.told(found).float()
        return share
