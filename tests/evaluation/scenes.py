"""Scenes with a known loss, to count how often the verdict is wrong."""

from __future__ import annotations

import numpy as np

from niwaki.evaluation.compare import DIVERSITY, FIDELITY
from niwaki.evaluation.neighbourhood import neighbourhood
from niwaki.evaluation.paired import Change, closeness_change, reach_change
from niwaki.evaluation.verdict import decide

MODES, D = 20, 6
CENTRES = 3 * np.random.default_rng(99).normal(size=(MODES, D))


def scene(kind: str, share: float, n: int, real: int, seed: int) -> tuple[Change, Change]:
    """Changes of closeness and of reach where `share` of the samples is ruined, or of the modes never made.

    Every draw is fresh: real samples, pairs, and a small noise of the compressed model.
    """
    rng = np.random.default_rng([seed, 7])
    x = CENTRES[rng.integers(0, MODES, real)] + rng.normal(size=(real, D))
    mode = rng.integers(0, MODES, n)
    before = CENTRES[mode] + rng.normal(size=(n, D))
    after = before + 0.05 * rng.normal(size=(n, D))
    if kind == "ruin":
        bad = rng.random(n) < share
        after[bad] = 4 * rng.normal(size=(int(bad.sum()), D))
    elif kind == "drop":
        gone = mode < round(share * MODES)
        other = rng.integers(round(share * MODES), MODES, int(gone.sum()))
        after[gone] = CENTRES[other] + rng.normal(size=(len(other), D))
    places = [(neighbourhood(x, before), neighbourhood(x, after))]
    swaps = rng.integers(0, 2, (19, n)).astype(bool)
    return closeness_change(places, swaps), reach_change(places, swaps, real)


def rates(kind: str, share: float, margin_share: float, repeats: int, n: int = 600, real: int = 300) -> dict:
    """How often each outcome comes where the margin is the true mean loss at `margin_share`."""
    which = 0 if kind == "ruin" else 1
    axis = (FIDELITY, DIVERSITY)[which]
    margin = np.mean([scene(kind, margin_share, n, real, 10_000 + s)[which].delta for s in range(repeats)])
    outcomes = []
    for s in range(repeats):
        one = scene(kind, share, n, real, s)[which]
        outcomes.append(decide(axis, one, float(margin), n, 1.0, ["x"], "").outcome)
    return {o: outcomes.count(o) / repeats for o in ("no loss", "inconclusive", "loss")}
