"""How many of a known number of modes samples reach, and how evenly.

Metz, Poole, Pfau & Sohl-Dickstein, "Unrolled generative adversarial networks", ICLR 2017, Section 3.3.1
(stacked
MNIST: the modes that a classifier finds among 26 000 samples, and the divergence from their distribution).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.result import Result, at_least_zero, signature
from niwaki.evaluation.statistics.shares import integers

__all__ = ["modes_reached"]


def modes_reached(modes: Any, kinds: int, *, recogniser: str = "") -> dict[str, Result]:
    """`modes_reached`: how many modes at least one sample shows, 0 … `kinds`; `modes_divergence`:
    KL(p ‖ uniform) = Σ pₘ log(pₘ · kinds) in nats, p the shares of the samples, 0 … log `kinds`.

    modes:      the mode that each sample is recognised as `(n,)`, 0 … kinds − 1
    kinds:      modes in all
    recogniser: of the signatures: who recognised them

    n samples spread evenly by chance miss about kinds · exp(−n / kinds) modes, and their divergence is about
    (kinds − 1) / 2n: both depend on n, which belongs to the figure.
    Raises CallError for no samples and for a mode out of the range.
    """
    found = integers(modes, "modes", len(modes))
    if not len(found):
        raise CallError("no sample was given: there is no mode to count")
    if found.min() < 0 or found.max() >= kinds:
        raise CallError(f"modes must be 0 … {kinds - 1}, not {found.min()} … {found.max()}")
    counts = np.bincount(found, minlength=kinds)
    p = counts[counts > 0] / len(found)
    divergence = at_least_zero(float((p * np.log(p * kinds)).sum()))
    values = {"modes_reached": float((counts > 0).sum()), "modes_divergence": divergence}
    return {
        name: Result(
            value, None, None, None, (0, len(found)), None,
            signature(name, kinds=kinds, features=recogniser or None, n=len(found)),
        )
        for name, value in values.items()
    }  # fmt: skip
