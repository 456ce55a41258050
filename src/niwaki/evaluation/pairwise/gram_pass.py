"""The three Gram matrices, one after the other: the radii come from real-real and generated-generated, and
only with them the pairs of real-generated can be counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.evaluation.pairwise.kernel_sums import Kernel, KernelSums
from niwaki.evaluation.pairwise.ranks import ALONE, Ranks
from niwaki.evaluation.pairwise.sweep import Seeker, sweep
from niwaki.evaluation.pairwise.tiles import BLOCK, Tiles, centre, norms
from niwaki.evaluation.pairwise.topk import Nearest, Smallest
from niwaki.evaluation.pairwise.within import Within

__all__ = ["Convention", "Counts", "gram_pass", "median"]


@dataclass(frozen=True)
class Convention:
    """Where the references differ. strict: `<` or `≤`; eps and squared: of the realism score."""

    strict: bool
    eps: float = 0.0
    squared: bool = False


@dataclass
class Counts:
    """What the passes leave, of N real and M generated samples of width d."""

    d: int
    own: Nearest  # (N, k) of real among real
    inside: Tensor  # (N,) generated in each real ball
    around: Tensor  # (M,) real balls around each generated
    clipped: Tensor  # (M,) the same with radii clipped at their median
    recalled: Tensor  # (N,) inside any generated ball
    least2: Tensor  # (M,) smallest squared radius around it, ∞ outside
    realism: Tensor  # (M,)
    to_real: Nearest  # (M, claims) of generated among real
    to_generated: Nearest  # (N, 1)
    kernels: list[tuple[KernelSums, KernelSums, KernelSums]]  # real-real, generated-generated, real-generated


def gram_pass(
    x: Tensor,
    y: Tensor,
    rule: Convention,
    k: int,
    *,
    kernels: Sequence[Kernel] = (),
    claims: int = 1,
    block: int | None = None,
    ranks: Ranks = ALONE,
    progress: Callable[[int, int], None] | None = None,
) -> Counts:
    """All counts of the neighbour metrics and the sums of all kernels.

    x, y:   real (N, d) and generated (M, d), checked, N > k and M > k
    claims: how many real neighbours of each generated sample are kept
    Raises CallError where no real ball holds anything, or the processes were given different features.
    """
    block = default_block(x.device) if block is None else block
    x2, y2 = norms(x), norms(y)
    ranks.agree(torch.stack([x2.sum(), y2.sum(), x2.new_tensor(float(len(x))), x2.new_tensor(float(len(y)))]))
    steps = _Steps(progress)
    middle = centre(x)
    cx, cy = norms(x, middle), norms(y, middle)
    real = Tiles(x, block=block, about=(middle, cx, cx))
    generated = Tiles(y, block=block, about=(middle, cy, cy))
    cross = Tiles(x, y, block=block, about=(middle, cx, cy))
    steps.total = sum(slab.pairs for tiles in (real, generated, cross) for slab in tiles.slabs())

    def run(
        tiles: Tiles, rows: list[Seeker], columns: list[Seeker], squares: tuple[Tensor, Tensor]
    ) -> list[KernelSums]:
        sums = [KernelSums(tiles, kernel, *squares) for kernel in kernels]
        sweep(tiles, rows, columns, sums, ranks=ranks, report=steps)
        tiles.drop()
        return [s.finish(ranks) for s in sums]

    near = Smallest(real, k)
    k_xx = run(real, [near], [], (x2, x2))
    own = near.finish(ranks)
    radius2 = own.d2[:, -1]
    if not bool((radius2 > 0).any()):
        raise CallError(f"every real sample has {k} copies of itself, so that its ball holds nothing")
    near = Smallest(generated, k)
    k_yy = run(generated, [near], [], (y2, y2))
    radius2_y = near.kth(ranks)

    half = median(radius2.sqrt())
    balls = Within(cross, radius2, strict=rule.strict, smaller2=radius2.clamp(max=half**2))
    recall = Within(cross, radius2_y, strict=rule.strict, of_y=True)
    to_generated, to_real = Smallest(cross, 1), Smallest(cross, claims, of_y=True)
    # Balls no larger than the median: the large ones belong to outliers (Kynkäänniemi et al., section 5). A
    # ball of radius 0 reaches nothing. The smallest (d² + ε)/r² is the largest r²/(d² + ε).
    kept = (radius2.sqrt() <= half) & (radius2 > 1e-300)
    ratio = Smallest(cross, 1, of_y=True, weight=torch.where(kept, 1.0 / radius2, 0.0), eps=rule.eps)
    k_xy = run(cross, [balls, to_generated], [recall, to_real, ratio], (x2, y2))
    balls.join(ranks)
    recall.join(ranks)
    best = ratio.finish(ranks).d2
    realism2 = 1.0 / best[:, 0] if best.shape[1] else torch.zeros_like(y2)
    return Counts(
        d=x.shape[1],
        own=own,
        inside=balls.inside,
        around=balls.around,
        clipped=balls.around_smaller,
        recalled=recall.around > 0,
        least2=balls.least2,
        realism=realism2 if rule.squared else realism2.sqrt(),
        to_real=to_real.finish(ranks),
        to_generated=to_generated.finish(ranks),
        kernels=list(zip(k_xx, k_yy, k_xy, strict=True)),
    )


def default_block(device: torch.device) -> int:
    """A tile that stays in the cache of a processor, or one that fills a GPU."""
    return BLOCK if device.type == "cpu" else 8 * BLOCK


def median(values: Tensor) -> float:
    """numpy's median: the mean of the two middle values (torch takes the lower)."""
    return float(np.median(values.cpu().numpy()))


class _Steps:
    """Adds up the pairs that are done."""

    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self.progress, self.total, self.done = progress, 0, 0

    def __call__(self, pairs: int) -> None:
        self.done += pairs
        if self.progress is not None:
            self.progress(self.done, self.total)
