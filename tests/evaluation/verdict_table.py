"""How often the verdict is wrong, and what it takes to see planted damage: the tables of docs/evaluation.md.

`PYTHONPATH=tests python -m evaluation.verdict_table [repeats] [repeats of the error rates]`
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from evaluation.mixtures import mixtures
from evaluation.scenes import rates

from niwaki.data import DataConfig, Dataset, load
from niwaki.evaluation.margins import DIVERSITY, FIDELITY, K, Margin, margins_of, planted_costs
from niwaki.evaluation.neighbourhood import neighbourhood
from niwaki.evaluation.paired import Change, closeness_change, reach_change
from niwaki.evaluation.planted import blur, find_modes
from niwaki.evaluation.samples import split_features
from niwaki.evaluation.unpaired import closeness_difference, draws, reach_difference
from niwaki.evaluation.verdict import decide
from niwaki.features import build

SEED = 0
POOL = 4000
SIZES = (300, 1000, 2000)
BLURS = (0.3, 0.35, 0.4, 0.45, 0.5)
DROPS = (0.05, 0.1, 0.2)
OUTCOMES = ("no loss", "inconclusive", "loss")


@dataclass
class Pool:
    """Samples of one good generator, as each extractor sees them, and the same ones damaged."""

    real: list[np.ndarray]
    clean: list[np.ndarray]
    blurred: dict[float, list[np.ndarray]]
    modes: np.ndarray
    margins: dict[str, Margin]


def make_pool(dataset: Dataset) -> Pool:
    extractors = build(["classifier", "random"], dataset, seed=SEED)
    rng = np.random.default_rng(SEED)
    x, _ = mixtures(dataset.train.values().numpy(), dataset.train.y.numpy(), POOL, rng)
    clean = [e(x) for e in extractors]
    modes = find_modes(split_features(extractors[0], dataset, "train"), clean[0], 20, SEED)
    costs = [
        planted_costs(e, x[:1000], f[:1000], modes[:1000], len(dataset.test), dataset, SEED)
        for e, f in zip(extractors, clean, strict=True)
    ]
    return Pool(
        [split_features(e, dataset, "test") for e in extractors],
        clean,
        {s: [e(blur(x, s, (2, 3))) for e in extractors] for s in BLURS},
        modes,
        margins_of(costs),
    )


def dropped(pool: Pool, share: float, rng: np.random.Generator) -> np.ndarray:
    """For each sample the one that is made in its place when whole modes, drawn afresh, are never made; they
    hold the share within 1 % of the samples."""
    names, sizes = np.unique(pool.modes, return_counts=True)
    while True:
        order = rng.permutation(len(names))
        held = np.cumsum(sizes[order]) / POOL
        last = int(np.abs(held - share).argmin())
        if abs(held[last] - share) <= 0.01:
            break
    gone = np.isin(pool.modes, names[order[: last + 1]])
    out = np.arange(POOL)
    out[gone] = rng.choice(np.flatnonzero(~gone), int(gone.sum()))
    return out


def changes(pool: Pool, kind: str, strength: float, n: int, paired: bool, seed: int) -> Change:
    rng = np.random.default_rng([seed, n])
    size = min(len(pool.real[0]), n // 2)
    chosen = rng.permutation(len(pool.real[0]))[:size]
    order = rng.permutation(POOL)
    first = order[:n]
    second = first if paired else order[-n:]
    damaged = pool.clean
    if kind == "blur":
        damaged = pool.blurred[strength]
    else:
        second = dropped(pool, strength, rng)[second]
    places = [
        (neighbourhood(real[chosen], before[first], K), neighbourhood(real[chosen], after[second], K))
        for real, before, after in zip(pool.real, pool.clean, damaged, strict=True)
    ]
    if paired:
        swaps = rng.integers(0, 2, (1, n)).astype(bool)
        return closeness_change(places, swaps) if kind == "blur" else reach_change(places, swaps, size)
    mixed = draws(n, n, 1, rng)
    if kind == "blur":
        return closeness_difference(places, mixed)
    return reach_difference(places, mixed, size)


def power(pool: Pool, kind: str, strength: float, n: int, paired: bool, repeats: int) -> str:
    axis = FIDELITY if kind == "blur" else DIVERSITY
    margin = pool.margins[axis.name]
    found = [
        decide(axis, changes(pool, kind, strength, n, paired, s), margin.value, n, 1.0, ["a", "b"], "")
        for s in range(repeats)
    ]
    outcomes = [v.outcome for v in found]
    shares = " / ".join(f"{100 * outcomes.count(o) / repeats:.0f}" for o in OUTCOMES)
    needed = [v.n_needed for v in found if v.outcome == "inconclusive"]
    told = [m for m in needed if m is not None]
    half = f", needs {int(np.median(told))}" if told and len(told) > len(needed) / 2 else ""
    half = half or (", no number" if len(needed) > repeats / 2 else "")
    return f"{shares}{half}"


def table(pool: Pool, repeats: int) -> Iterator[str]:
    yield (
        "| planted | Δ / margin | "
        + " | ".join(f"{'paired' if p else 'unpaired'}, n = {n}" for p in (True, False) for n in SIZES)
        + " |"
    )
    yield "|---" * (2 + 2 * len(SIZES)) + "|"
    for kind, strengths in (("blur", BLURS), ("drop", DROPS)):
        axis = FIDELITY if kind == "blur" else DIVERSITY
        for s in strengths:
            mean = np.mean([changes(pool, kind, s, 1000, True, i).delta for i in range(repeats)])
            name = f"blur, σ = {s} pixels" if kind == "blur" else f"modes of {s:.0%} dropped"
            cells = [power(pool, kind, s, n, p, repeats) for p in (True, False) for n in SIZES]
            yield f"| {name} | {mean / pool.margins[axis.name].value:.2f} | " + " | ".join(cells) + " |"


def main(repeats: int = 60, of_rates: int = 200) -> None:
    torch.set_num_threads(1)
    if repeats:
        pool = make_pool(load(DataConfig(source="digits")))
        told = {a: f"{m.value:.4f} ± {m.noise:.4f}" for a, m in pool.margins.items()}
        print(f"digits, {repeats} repeats, margins {told}; no loss / inconclusive / loss in %", flush=True)
        for line in table(pool, repeats):
            print(line, flush=True)
    for after in (None, 900) if of_rates else ():
        for kind in ("ruin", "drop"):
            for share in (0.0, 0.05, 0.1, 0.15):
                found = rates(kind, share, 0.05, of_rates, n_after=after)
                print("paired" if after is None else "unpaired", kind, f"{share:.0%}", found, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
