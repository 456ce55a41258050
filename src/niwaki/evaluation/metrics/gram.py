"""Every neighbour and kernel metric from one sweep over the Gram matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.manifold import Manifold, checked, manifold_results
from niwaki.evaluation.pairwise.gram_pass import gram_pass
from niwaki.evaluation.pairwise.kernel_sums import RBF, Kernel, Polynomial, distance
from niwaki.evaluation.pairwise.neighbourhood import Neighbourhood
from niwaki.evaluation.pairwise.ranks import ALONE, ranks
from niwaki.evaluation.statistics.result import Result

__all__ = ["RBF", "GramMetrics", "Polynomial", "gram_metrics"]


@dataclass(frozen=True)
class GramMetrics:
    """
    manifold:      what `manifold` returns
    kernels:       a distance for each kernel, in the order asked for
    neighbourhood: what `neighbourhood` returns, where claims were asked for
    """

    manifold: Manifold
    kernels: dict[Kernel, Result]
    neighbourhood: Neighbourhood | None = None

    @property
    def kernel(self) -> Result:
        """The distance by the first kernel: as asked for by default, what `kernel_distance` returns."""
        return next(iter(self.kernels.values()))

    def results(self) -> dict[str, Result]:
        """Every number by name; the kernels beyond the first by what they are."""
        found = self.manifold.results()
        for at, result in enumerate(self.kernels.values()):
            found["kernel" if at == 0 else result.signature.split("|")[1]] = result
        return found


def gram_metrics(
    real: Any,
    generated: Any,
    *,
    k: int = 5,
    kernels: Sequence[Kernel] = (Polynomial(),),
    compat: str | None = None,
    claims: bool = False,
    block: int | None = None,
    distributed: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> GramMetrics:
    """All metrics of `manifold` and the distance of each kernel, from one pass over all pairs.

    real, generated: features (n, d), n > k and n ≥ 4; float32 and float64 are used where they lie
    k, compat:       as in `manifold`
    kernels:         `Polynomial` and `RBF`, none twice
    claims:          whether the `neighbourhood` of every generated sample is wanted as well
    block:           side of a tile; memory beside the features is a few times (4·block × d) float32. None
                     takes one that suits the device
    distributed:     where torch.distributed is initialised, each process does its share of the pairs and all
                     return the same; all of them must call this, with the same features
    progress:        called with the pairs that are done and their total, on each process with its share
    Neighbours and counts are those of a float64 computation: float32 decides only what lies outside the
    bound on its error. Kernel means are summed in float64 from float32 entries and agree with
    `kernel_distance` to about 1e-8 of the kernel's size; the witness of single samples to about 1e-7.
    Raises CallError as `manifold` does, for a kernel that is asked for twice, and where the processes hold
    different features.
    """
    if len(set(kernels)) < len(kernels):
        raise CallError("a kernel was asked for twice")
    x, y, rule = checked(real, generated, k, compat, least=4 if kernels else 1)
    counts = gram_pass(
        x,
        y,
        rule,
        k,
        kernels=kernels,
        claims=k if claims else 1,
        block=block,
        ranks=ranks() if distributed else ALONE,
        progress=progress,
    )
    return GramMetrics(
        manifold_results(counts, k, compat),
        {kernel: distance(*sums) for kernel, sums in zip(kernels, counts.kernels, strict=True)},
        Neighbourhood.of(counts.own, counts.to_real) if claims else None,
    )
