"""Whether a key's mark is in samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.watermark.base import Evidence, mark_of
from niwaki_runtime.watermark.key import Key

__all__ = ["Finding", "detect"]


@dataclass(frozen=True)
class Finding:
    """
    each:     of every sample
    together: of all of them as one set
    rank:     how many of the decoy keys agree with the set at least as well
    decoys:   how many there were
    """

    each: tuple[Evidence, ...]
    together: Evidence
    rank: int
    decoys: int

    @property
    def p_rank(self) -> float:
        """(1 + rank) / (1 + decoys): exact where nothing is marked, for the key is then one of them."""
        return (1 + self.rank) / (1 + self.decoys)


def detect(samples: Sequence[np.ndarray], spec: ValueSpec, key: Key, *, decoys: int = 19) -> Finding:
    """samples: `(*shape)` each, of sizes that may differ, in [spec.low, spec.high]; tokens as they are.

    decoys: keys that marked nothing, to compare with; more say more, and take as long each
    Raises CallError where there are no samples, and for such as carry no mark.
    """
    mark = mark_of(spec)
    if not len(samples):
        raise CallError("there are no samples to look for a watermark in")
    (each, together), *others = mark.evidence(samples, spec, [key, *(key.decoy(i) for i in range(decoys))])
    rank = sum(other.p <= together.p for _, other in others)
    return Finding(tuple(each), together, rank, decoys)
