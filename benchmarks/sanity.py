"""The 15 sanity checks of "Position: all current generative fidelity and diversity metrics are flawed"
(ICML 2025): which metrics pass which, ours and the published ones.

    python benchmarks/sanity.py                                # as published: n = 1000, ten repeats
    python benchmarks/sanity.py --repeats 3 --json sanity.json
    python benchmarks/sanity.py --quick --checks "Gaussian mean"

Data, settings and criteria are those of the authors' code (`sanity_checks`). Each check has two cells, its
purpose (the shape of the curve) and its bounds (the values); a cell is passed if every criterion holds in
every dimension, for the mean over the repeats. T passed, F failed; L, H: passed as a low or a high diversity
metric.
"""

from __future__ import annotations

import argparse
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sanity_checks.criteria import AXES, CRITERIA, Verdict, cell
from sanity_checks.data import DATA, Scale
from sanity_checks.metrics import METRICS, measure
from sanity_checks.published import CHECKS, PUBLISHED

from niwaki.core.store import write_json

Measure = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]
Values = dict[str, dict[str, Any]]
LETTERS: dict[Verdict, str] = {True: "T", False: "F", "low": "L", "high": "H"}


def curves(check: str, scale: Scale, repeats: int, seed: int, metrics: Measure) -> Values:
    """By case: x, and of every metric the values `(repeats, x)`."""
    out: Values = {}
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat, zlib.crc32(check.encode())])
        for curve in DATA[check](rng, scale):
            found: dict[str, list[float]] = defaultdict(list)
            for i in range(len(curve.x)):
                for name, value in metrics(*curve.draw(i), repeat).items():
                    found[name].append(value)
            case = out.setdefault(curve.case, {"x": curve.x, "values": defaultdict(list)})
            for name, values in found.items():
                case["values"][name].append(values)
    return out


def judged(check: str, found: Values, axis: Any, metric: str) -> str:
    """Two letters, as in `published`."""
    lines = [(name, case["x"], np.mean(case["values"][metric], axis=0)) for name, case in found.items()]
    kinds = sorted(CRITERIA[check], key=lambda kind: kind not in ("purpose", "invariance"))
    return "".join(LETTERS[cell(check, kind, axis, lines)] for kind in kinds)


def passed(letters: Sequence[str]) -> tuple[int, int]:
    """Cells, and checks of which both cells, that are passed."""
    return sum(c != "F" for two in letters for c in two), sum("F" not in two for two in letters)


def table(title: str, checks: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Table:
    """One line per metric; the checks by their number in the legend."""
    out = Table("metric", *(str(i + 1) for i in range(len(checks))), "cells", "checks", title=title, box=None)
    for metric, letters in rows.items():
        cells, whole = passed(letters)
        out.add_row(metric, *letters, f"{cells}/{2 * len(checks)}", f"{whole}/{len(checks)}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000, help="samples of each set")
    parser.add_argument("--points", type=int, help="at most about so many points of a curve")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--checks", nargs="+", default=list(CHECKS), choices=CHECKS, metavar="CHECK")
    parser.add_argument("--quick", action="store_true", help="200 samples, 5 points, 1 repeat: no figures")
    parser.add_argument("--json", type=Path, help="write the cells and all curves here")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    scale, repeats = Scale(asked.n, asked.points), asked.repeats
    if asked.quick:
        scale, repeats = Scale(200, 5), 1
    progress, console = Console(stderr=True), Console()
    found: dict[str, Values] = {}
    for check in asked.checks:
        progress.print(f"{check}: n = {scale.n}, {repeats} repeats", highlight=False)
        found[check] = curves(check, scale, repeats, asked.seed, measure)
        if asked.json:
            write_json(asked.json, report(found, scale, repeats, asked.seed))
    for i, check in enumerate(asked.checks):
        console.print(f"{i + 1:3d}  {check}", highlight=False)
    for axis in AXES:
        rows = {m: [judged(c, found[c], axis, m) for c in asked.checks] for m in METRICS[axis]}
        console.print(table(f"{axis}: measured", asked.checks, rows))
    for axis in AXES:
        at = [CHECKS.index(c) for c in asked.checks]
        told = {m: [cells.split()[i] for i in at] for m, cells in PUBLISHED[axis].items()}
        console.print(table(f"{axis}: published", asked.checks, told))


def report(found: dict[str, Values], scale: Scale, repeats: int, seed: int) -> dict[str, Any]:
    return {
        "n": scale.n,
        "points": scale.keep,
        "repeats": repeats,
        "seed": seed,
        "cells": {
            axis: {m: {c: judged(c, v, axis, m) for c, v in found.items()} for m in METRICS[axis]}
            for axis in AXES
        },
        "curves": found,
    }


if __name__ == "__main__":
    main()
