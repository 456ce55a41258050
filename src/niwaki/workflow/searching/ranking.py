"""Whether what single groups cost ranks whole plans as training leaves them: told with its bootstrap bound.

Plans are tried directly whatever it says: halving is that. It tells how far the allocation can be believed.
"""

from __future__ import annotations

from collections.abc import Iterable

from niwaki.compression.search.proxies import rank_correlation
from niwaki.workflow.judging import AXES
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.weights import Weights

__all__ = ["ranking_text"]

_FEWEST = 5
"""Trained plans, below which nothing is told."""


def ranking_text(candidates: Iterable[Candidate], weights: Weights, *, seed: int = 0) -> str:
    """Spearman's ρ of both axes, between the sum of what a plan's groups cost alone and what it lost when it
    was judged last, trained; empty for too few plans."""
    tried = [c for c in candidates if c.trained and c.losses and not c.snapshot]
    if len(tried) < _FEWEST:
        return ""
    found = []
    for place, axis in enumerate(AXES):
        rows = [c for c in tried if axis in c.losses]
        if len(rows) < _FEWEST:
            continue
        expected = [weights.whole(c.choices)[place] for c in rows]
        one = rank_correlation(expected, [c.losses[axis].value for c in rows], seed)
        found.append(f"{axis} {one.rho:.2f} [{one.lower:.2f}]")
    if not found:
        return ""
    return (
        f"what single groups cost ranks the {len(tried)} trained plans with Spearman's ρ {', '.join(found)} "
        "(in brackets the lower 95 % bound)"
    )
