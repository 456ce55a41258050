"""False rejections and false acceptances of the early tests, by simulation, in about ten CPU minutes.

    python benchmarks/early_tests.py
    python benchmarks/early_tests.py --runs 200 --json early.json

A changed model of known damage is looked at after every block of 100 pairs, up to 40 blocks, and rejected,
accepted or neither (`niwaki.compression.search.rejection`, both levels 5 %). Three tables:

*both axes*: values of blocks drawn with the same true damage on both axes, the worst case for rejection;
*one axis*: the other one is unharmed (damage 0), the worst case for acceptance;
*digits*: real statistics (log realism and rarefied coverage in a classifier's features) of damage planted
into real digits with a little noise on them: a share is ruined, or a class is made less often. Samples are
drawn from a finite pool, so that the true damage of both axes is a sum and not an estimate.

Blocks are normal; skewed as means of 100 pairs of which five are ruined (0.4), or one is (1.0); with axes
correlated by 0.8; or each correlated by 0.3 with the one before, which no theory covers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq

from niwaki.compression.search.rejection import EarlyTest, pseudo_values
from niwaki.core.store import write_json
from niwaki.data import DataConfig, load
from niwaki.data.columns import seen
from niwaki.evaluation.equivalence.margins import CUTS, MODES, diversity_margin, fidelity_margin
from niwaki.evaluation.equivalence.planted import find_modes, ruin
from niwaki.evaluation.pairwise.neighbourhood import neighbourhoods, rarefied_coverage_table
from niwaki.features import build

DAMAGES = (0.0, 0.5, 0.9, 1.0, 1.1, 1.5, 2.0)
BLOCK, BLOCKS = 100, 40
SPREAD = 0.5
"""Standard deviation of a drawn block's value, in margins."""
RARE = 8
"""The class that is made less often."""

Row = dict[str, Any]
reached_by = lru_cache(maxsize=None)(rarefied_coverage_table)


def _normal(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(BLOCKS, 2))


def _gamma(skewness: float) -> Callable[[np.random.Generator], np.ndarray]:
    shape = 4.0 / skewness**2
    return lambda rng: (rng.gamma(shape, size=(BLOCKS, 2)) - shape) / shape**0.5


def _together(rng: np.random.Generator) -> np.ndarray:
    x = rng.normal(size=(BLOCKS, 2))
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    return x


def _in_a_row(rng: np.random.Generator) -> np.ndarray:
    x = rng.normal(size=(BLOCKS, 2))
    for k in range(1, BLOCKS):
        x[k] = 0.3 * x[k - 1] + (1.0 - 0.3**2) ** 0.5 * x[k]
    return x


KINDS = {
    "normal": _normal,
    "skewness 0.4": _gamma(0.4),
    "skewness 1": _gamma(1.0),
    "axes correlated": _together,
    "blocks correlated": _in_a_row,
}


def rates(tests: Iterator[EarlyTest]) -> Row:
    """Shares of decisions, and the blocks that they took on average."""
    found = [(t.decision, t.blocks) for t in tests]
    count = {d: sum(f[0] == d for f in found) / len(found) for d in ("reject", "accept", "go on")}
    return {**count, "blocks": float(np.mean([f[1] for f in found])), "runs": len(found)}


def drawn(kind: str, truth: tuple[float, float], runs: int, seed: int) -> Iterator[EarlyTest]:
    rng = np.random.default_rng([seed, round(100 * truth[0]), round(100 * truth[1])])
    for _ in range(runs):
        test = EarlyTest()
        for f, d in SPREAD * KINDS[kind](rng) + np.array(truth):
            if test.add(float(f), float(d)) != "go on":
                break
        yield test


@dataclass(frozen=True)
class Digits:
    """A pool of samples before, twins of theirs with a little more noise, and ruined ones; their places.

    realism:  log realism of (samples, twins, ruined), each `(pool,)`
    claims:   the real samples near each `(pool, k)`, of the same three
    counted:  margins by axis; m: real samples, as many as the rarefied coverage is of
    rare:     whether a sample is of the class that is made less often
    """

    realism: tuple[np.ndarray, np.ndarray, np.ndarray]
    claims: tuple[np.ndarray, np.ndarray, np.ndarray]
    margins: dict[str, float]
    m: int
    rare: np.ndarray

    def truth(self, ruined: float, lost: float) -> tuple[float, float]:
        """Damage by axis, in margins, where a share is ruined and a class is made less often by a share."""
        weights = np.where(self.rare, 1.0 - lost, 1.0)
        weights = weights / weights.sum()
        even = np.full(len(weights), 1.0 / len(weights))
        realism = (weights * ((1 - ruined) * self.realism[1] + ruined * self.realism[2])).sum()
        after = (1 - ruined) * self._chance(1, weights) + ruined * self._chance(2, weights)
        reached = [(1.0 - (1.0 - p) ** self.m).mean() for p in (self._chance(0, even), after)]
        fidelity = (self.realism[0].mean() - realism) / self.margins["fidelity"]
        return float(fidelity), float((reached[0] - reached[1]) / self.margins["diversity"])

    def _chance(self, which: int, weights: np.ndarray) -> np.ndarray:
        """Of each real sample, that a draw is near it."""
        k = self.claims[which].shape[1]
        return np.bincount(self.claims[which].ravel(), np.repeat(weights, k), minlength=self.m)

    def tests(self, ruined: float, lost: float, runs: int, seed: int) -> Iterator[EarlyTest]:
        rng = np.random.default_rng([seed, round(1e4 * ruined), round(1e4 * lost)])
        others = np.flatnonzero(~self.rare)
        realism, claims = np.stack(self.realism), np.stack(self.claims)

        def coverage(blocks: Any) -> float:
            reached = reached_by(BLOCK * len(blocks), self.m)
            before, after = np.sum(blocks, axis=0)
            return float((reached[before] - reached[after]).mean())

        for _ in range(runs):
            test, fidelity, blocks = EarlyTest(), [], []
            for _ in range(BLOCKS):
                before = rng.integers(len(self.rare), size=BLOCK)
                after = before.copy()
                gone = self.rare[after] & (rng.random(BLOCK) < lost)
                after[gone] = rng.choice(others, int(gone.sum()))
                which = np.where(rng.random(BLOCK) < ruined, 2, 1)
                made = realism[which, after]
                fidelity.append((self.realism[0][before] - made).mean() / self.margins["fidelity"])
                near = self.claims[0][before], claims[which, after]
                blocks.append([np.bincount(c.ravel(), minlength=self.m) for c in near])
                if BLOCK * (len(blocks) - 1) < max(self.m, BLOCK * (test.fewest - 1)):
                    continue
                diversity = pseudo_values(coverage, blocks) / self.margins["diversity"]
                if test.look(fidelity, diversity) != "go on":
                    break
            yield test


def digits(seed: int, copies: int = 12, m: int = 200) -> Digits:
    """The pool: training digits with noise on them, a dozen times each; the real ones are held out."""
    dataset = load(DataConfig(source="digits"))
    extractor = build(["classifier"], dataset, seed=seed)[0]
    rng = np.random.default_rng(seed)
    train, *held = (seen(dataset.spec.x, s.x).numpy() for s in dataset.splits.values())
    real = extractor(np.concatenate(held))[:m]
    base = np.tile(train, (copies, 1, 1, 1))
    made = (base + 0.15 * rng.normal(size=base.shape)).clip(-1, 1).astype(np.float32)
    twin = (made + 0.05 * rng.normal(size=base.shape)).clip(-1, 1).astype(np.float32)
    features = [extractor(x) for x in (made, twin, ruin(made, dataset.spec, rng))]
    before, twins, ruined = neighbourhoods(real, features, 5)
    some = rng.permutation(len(base))[:4000]
    cuts = [find_modes(extractor(train), features[0][some], MODES, seed + i) for i in range(CUTS)]
    margins = {
        "fidelity": fidelity_margin(before.log_realism - ruined.log_realism).value,
        "diversity": diversity_margin([before.part(some)], cuts, len(real), seed).value,
    }
    assert dataset.train.y is not None
    return Digits(
        (before.log_realism, twins.log_realism, ruined.log_realism),
        (before.claims, twins.claims, ruined.claims),
        margins,
        len(real),
        np.tile(dataset.train.y.numpy(), copies) == RARE,
    )


def planted(pool: Digits, axis: str, damage: float) -> tuple[float, float] | None:
    """(share ruined, share of the class lost) that damage one axis so much; None where the whole class is not
    enough."""
    at = ("fidelity", "diversity").index(axis)

    def off(share: float) -> float:
        return pool.truth(*((share, 0.0) if at == 0 else (0.0, share)))[at] - damage

    if off(0.0) >= 0:
        share = 0.0
    elif off(1.0) < 0:
        return None
    else:
        share = float(brentq(off, 0.0, 1.0))
    return (share, 0.0) if at == 0 else (0.0, share)


def table(title: str, rows: list[Row]) -> Table:
    shown = Table(title=title)
    for name in ("blocks are", "damage", "reject", "accept", "go on", "blocks taken"):
        shown.add_column(name, justify="left" if name == "blocks are" else "right")
    for row in rows:
        damage = " / ".join(f"{v:.2f}" for v in row["truth"])
        shares = (f"{100 * row[d]:.1f} %" for d in ("reject", "accept", "go on"))
        shown.add_row(row["kind"], damage, *shares, f"{row['blocks']:.1f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="of each row; of digits a quarter")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console, found = Console(width=100), {}
    for title, other in (("both axes", None), ("one axis", 0.0)):
        rows = []
        for kind in KINDS:
            for damage in DAMAGES:
                truth = (damage, damage if other is None else other)
                rows.append({"kind": kind, "truth": truth, **rates(drawn(kind, truth, args.runs, args.seed))})
        console.print(table(f"{title}: fidelity / diversity", rows))
        found[title] = rows
    pool, rows = digits(args.seed), []
    console.print(f"digits: margins {pool.margins}, {pool.m} real samples, {len(pool.rare)} in the pool")
    for axis in ("fidelity", "diversity"):
        for damage in DAMAGES:
            how = planted(pool, axis, damage)
            if how is not None:
                done = rates(pool.tests(*how, args.runs // 4, args.seed))
                name = f"{how[0]:.1%} ruined" if axis == "fidelity" else f"{how[1]:.0%} of a class lost"
                rows.append({"kind": name, "truth": pool.truth(*how), **done})
    console.print(table("digits: fidelity / diversity", rows))
    found["digits"] = rows
    if args.json:
        write_json(args.json, {**found, "seed": args.seed, "margins": pool.margins})


if __name__ == "__main__":
    main()
