"""How often the verdict is wrong, and what it takes to see planted damage: the tables of docs/evaluation.md.

`PYTHONPATH=tests python -m evaluation.verdict_table [repeats] [repeats of the error rates] [blur+noise+drop]`
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
from niwaki.evaluation.equivalence.margins import DIVERSITY, FIDELITY, K, Margin, calibrate
from niwaki.evaluation.equivalence.paired import Change, log_realism_change, rarefied_coverage_change
from niwaki.evaluation.equivalence.planted import dropped, find_modes
from niwaki.evaluation.equivalence.unpaired import draws, log_realism_difference, rarefied_coverage_difference
from niwaki.evaluation.equivalence.verdict import decide
from niwaki.evaluation.pairwise.neighbourhood import neighbourhoods
from niwaki.evaluation.statistics.samples import split_features
from niwaki.features import build
from niwaki.modalities.drawing import blur

SEED = 0
POOL = 4000
SIZES = (300, 1000, 2000)
BLURS = (0.3, 0.35, 0.4, 0.45, 0.5)
DROPS = (0.05, 0.1, 0.2)
DRAWS = 4
"""Margins, and ways to cut modes, that the repeats take in turns."""
OUTCOMES = ("no loss", "inconclusive", "loss")


@dataclass
class Pool:
    """Samples of one good generator, as each extractor sees them, and the same ones damaged.

    modes:   by which modes are dropped, of other k-means runs than the margin is measured with
    margins: by number of samples, each measured on others
    """

    real: list[np.ndarray]
    clean: list[np.ndarray]
    noisy: list[np.ndarray]
    blurred: dict[float, list[np.ndarray]]
    modes: list[np.ndarray]
    margins: dict[int, list[dict[str, Margin]]]


def make_pool(dataset: Dataset) -> Pool:
    extractors = build(["classifier", "random"], dataset, seed=SEED)
    rng = np.random.default_rng(SEED)
    x, _ = mixtures(dataset.train.values().numpy(), dataset.train.y.numpy(), POOL, rng)
    clean = [e(x) for e in extractors]
    train = split_features(extractors[0], dataset, "train")
    margins: dict[int, list[dict[str, Margin]]] = {n: [] for n in SIZES}
    for n in SIZES:
        for seed in range(DRAWS):
            some = rng.permutation(POOL)[:n]
            size = min(len(dataset.test), n // 2)
            seen = [f[some] for f in clean]
            margins[n].append(calibrate(extractors, x[some], seen, dataset, size, seed))
    noise = 0.04 * rng.normal(size=x.shape).astype(np.float32)
    return Pool(
        [split_features(e, dataset, "test") for e in extractors],
        clean,
        [e(x + noise) for e in extractors],
        {s: [e(blur(x, s, (2, 3))) for e in extractors] for s in BLURS},
        [find_modes(train, clean[0], 20, 100 + s) for s in range(DRAWS)],
        margins,
    )


def without(modes: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """For each sample the one that is made in its place when whole modes, drawn afresh, are never made; they
    hold the share within 1 % of the samples."""
    sizes = np.bincount(modes)
    while True:
        order = rng.permutation(len(sizes))
        held = np.cumsum(sizes[order]) / POOL
        last = int(np.abs(held - share).argmin())
        if abs(held[last] - share) <= 0.01:
            break
    gone = np.zeros(len(sizes), bool)
    gone[order[: last + 1]] = True
    return dropped(modes, gone[np.unique(modes)], rng)


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
    elif kind == "noise":
        damaged = pool.noisy
    else:
        second = without(pool.modes[seed % DRAWS], strength, rng)[second]
    places = []
    for real, before, after in zip(pool.real, pool.clean, damaged, strict=True):
        b, a = neighbourhoods(real[chosen], [before[first], after[second]], K)
        places.append((b, a))
    if paired:
        swaps = rng.integers(0, 2, (1, n)).astype(bool)
        return (
            log_realism_change(places, swaps)
            if kind == "blur"
            else rarefied_coverage_change(places, swaps, size)
        )
    mixed = draws(n, n, 1, rng)
    if kind == "blur":
        return log_realism_difference(places, mixed)
    return rarefied_coverage_difference(places, mixed, size)


def power(pool: Pool, kind: str, strength: float, n: int, paired: bool, repeats: int) -> str:
    axis = FIDELITY if kind == "blur" else DIVERSITY
    found = []
    for s in range(repeats):
        margin = pool.margins[n][s % DRAWS][axis.name]
        change = changes(pool, kind, strength, n, paired, s)
        found.append(decide(axis, change, margin.value, n, 1.0, ["a", "b"], "", noise=margin.noise))
    outcomes = [v.outcome for v in found]
    shares = " / ".join(f"{100 * outcomes.count(o) / repeats:.0f}" for o in OUTCOMES)
    needed = [v.n_needed for v in found if v.outcome == "inconclusive"]
    told = [m for m in needed if m is not None]
    half = f", needs {int(np.median(told))}" if told and len(told) > len(needed) / 2 else ""
    half = half or (", no number" if len(needed) > repeats / 2 else "")
    return f"{shares}{half}"


def table(pool: Pool, repeats: int, kinds: str) -> Iterator[str]:
    yield (
        "| planted | Δ / margin | "
        + " | ".join(f"{'paired' if p else 'unpaired'}, n = {n}" for p in (True, False) for n in SIZES)
        + " |"
    )
    yield "|---" * (2 + 2 * len(SIZES)) + "|"
    for kind, strengths in (("blur", BLURS), ("noise", (0.02,)), ("drop", DROPS)):
        if kind not in kinds.split("+"):
            continue
        axis = FIDELITY if kind == "blur" else DIVERSITY
        for s in strengths:
            mean = np.mean([changes(pool, kind, s, 1000, True, i).delta for i in range(repeats)])
            margin = np.mean([m[axis.name].value for m in pool.margins[1000]])
            name = {
                "blur": f"blur, σ = {s} pixels",
                "noise": f"noise of {s:.0%}, seen by diversity",
                "drop": f"modes of {s:.0%} dropped",
            }[kind]
            cells = [power(pool, kind, s, n, p, repeats) for p in (True, False) for n in SIZES]
            yield f"| {name} | {mean / margin:.2f} | " + " | ".join(cells) + " |"


def main(repeats: str = "60", of_rates: str = "200", kinds: str = "blur+noise+drop") -> None:
    torch.set_num_threads(1)
    if int(repeats):
        pool = make_pool(load(DataConfig(source="digits")))
        print(f"digits, {repeats} repeats; no loss / inconclusive / loss in %", flush=True)
        for n, found in pool.margins.items():
            told = {a: ", ".join(f"{m[a].value:.4f} ± {m[a].noise:.4f}" for m in found) for a in found[0]}
            print(f"margins at n = {n}: {told}", flush=True)
        for line in table(pool, int(repeats), kinds):
            print(line, flush=True)
    for after in (None, 900) if int(of_rates) else ():
        for kind in ("ruin", "drop"):
            for share in (0.0, 0.05, 0.1, 0.15):
                found = rates(kind, share, 0.05, int(of_rates), n_after=after)
                print("paired" if after is None else "unpaired", kind, f"{share:.0%}", found, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
