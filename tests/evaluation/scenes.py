"""Scenes with a known loss, to count how often the verdict is wrong."""

from __future__ import annotations

import numpy as np

from niwaki.evaluation.equivalence.compare import DIVERSITY, FIDELITY
from niwaki.evaluation.equivalence.paired import Change, log_realism_change, rarefied_coverage_change
from niwaki.evaluation.equivalence.unpaired import draws, log_realism_difference, rarefied_coverage_difference
from niwaki.evaluation.equivalence.verdict import decide
from niwaki.evaluation.pairwise.neighbourhood import neighbourhood

MODES, D = 20, 6
CENTRES = 3 * np.random.default_rng(99).normal(size=(MODES, D))


def scene(
    kind: str, share: float, n: int, real: int, seed: int, n_after: int | None = None
) -> tuple[Change, Change]:
    """Changes of log realism and rarefied coverage where `share` of the samples is ruined, or of modes lost.

    Every draw is fresh: real samples, pairs, and a small noise of the compressed model. With `n_after` the
    two sides share nothing: n samples before, n_after after.
    """
    rng = np.random.default_rng([seed, 7])
    x = CENTRES[rng.integers(0, MODES, real)] + rng.normal(size=(real, D))
    mode = rng.integers(0, MODES, n)
    before = CENTRES[mode] + rng.normal(size=(n, D))
    source = before
    if n_after is not None:
        mode = rng.integers(0, MODES, n_after)
        source = CENTRES[mode] + rng.normal(size=(n_after, D))
    after = source + 0.05 * rng.normal(size=source.shape)
    if kind == "ruin":
        bad = rng.random(len(after)) < share
        after[bad] = 4 * rng.normal(size=(int(bad.sum()), D))
    elif kind == "drop":
        gone = mode < round(share * MODES)
        other = rng.integers(round(share * MODES), MODES, int(gone.sum()))
        after[gone] = CENTRES[other] + rng.normal(size=(len(other), D))
    places = [(neighbourhood(x, before), neighbourhood(x, after))]
    if n_after is not None:
        chosen = draws(n, n_after, 19, rng)
        return log_realism_difference(places, chosen), rarefied_coverage_difference(places, chosen, real)
    swaps = rng.integers(0, 2, (19, n)).astype(bool)
    return log_realism_change(places, swaps), rarefied_coverage_change(places, swaps, real)


def rates(
    kind: str,
    share: float,
    margin_share: float,
    repeats: int,
    n: int = 600,
    real: int = 300,
    n_after: int | None = None,
) -> dict:
    """How often each outcome comes where the margin is the true mean loss at `margin_share`."""
    which = 0 if kind == "ruin" else 1
    axis = (FIDELITY, DIVERSITY)[which]
    at_margin = [scene(kind, margin_share, n, real, 10_000 + s, n_after)[which].delta for s in range(repeats)]
    outcomes = []
    for s in range(repeats):
        one = scene(kind, share, n, real, s, n_after)[which]
        outcomes.append(decide(axis, one, float(np.mean(at_margin)), n, 1.0, ["x"], "").outcome)
    return {o: outcomes.count(o) / repeats for o in ("no loss", "inconclusive", "loss")}
