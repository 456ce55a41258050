"""The search beside simpler ways to find a plan, at equal time and by the same judges.

    python benchmarks/search.py                            # what is missing, and the table
    python benchmarks/search.py --quick                    # digits GAN alone, one seed, five minutes a way
    python benchmarks/search.py --runs runs/glyphs-gan --budget "size=/20, latency=/10" --minutes 20 --seeds 3
    python benchmarks/search.py --no-search                # the table of what is there

Every way has the same time, the same prices, the same training and halving, the same validation samples:

search   plans of least damage beside uniform ones, by what single groups cost (`niwaki search`)
uniform  the same share of every group, the same bits of every layer, a grid within the budget
random   shares and bits drawn at random, those within the budget
tpe      the same drawn by Optuna's TPE, told the predicted costs and the damage that single groups predict

A row is one search: what shipped, when a plan within the budget had lost nothing for the first time, and the
volume that lossless plans dominate, in natural logarithms of bytes × milliseconds below the float model in
torch. Latencies of plans that were not exported are predicted. Rows are kept in benchmarks/results.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compression_rows.found import BUDGETS
from rich.console import Console
from rich.table import Table

from niwaki.api.search import context_of_run
from niwaki.api.train import train
from niwaki.compression.search.budget import Budget, cost_text
from niwaki.compression.search.choices import Choices
from niwaki.compression.search.front import hypervolume
from niwaki.core.store import hash_json, read_json, write_json
from niwaki.deployment import machine
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.run_directory import is_run
from niwaki.workflow.searching.candidate import Candidate, excess
from niwaki.workflow.searching.pricing import Prices
from niwaki.workflow.searching.proposing import propose
from niwaki.workflow.searching.search import search
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.weights import Weights

SUBJECTS = {name: BUDGETS[name] for name in ("digits-gan", "glyphs-gan", "digits-ddpm", "docs-transformer")}
"""Recipe → budget."""
QUICK, MINUTES = 5.0, 20.0
POOL = 27
RATIOS = (0.0, 0.25, 0.5, 0.625, 0.75, 0.8125, 0.875, 0.9375)
BITS = (8, 4)
KEPT = Path(__file__).parent / "results" / "search"


def candidates(found: Search, prices: Prices, plans: Sequence[Choices]) -> list[Candidate]:
    """With predicted costs, those within the budget first."""
    out: dict[str, Candidate] = {}
    for choices in plans:
        made = Candidate(choices)
        made = found.candidates.get(made.name, made)
        made.predicted = prices.predict(found.units.profile(choices))
        out.setdefault(made.name, made)
    return sorted(out.values(), key=lambda c: excess(c, found.limits, prices.room) > 0)[:POOL]


def uniform(found: Search, prices: Prices, weights: Weights, wider: Sequence[float]) -> list[Candidate]:
    plans = [
        found.units.uniform(ratio, bits, evaluations=e, origin=f"{ratio:.0%} cut, {bits} bits")
        for e in (0, *found.template.evaluations)
        for ratio in RATIOS
        for bits in BITS
    ]
    return candidates(found, prices, plans)


def drawn(found: Search, rng: np.random.Generator, k: int) -> Choices:
    units, few = found.units, (0, *found.template.evaluations)
    base = float(rng.choice(RATIOS))
    ratios = {n: float(np.clip(base + rng.normal(0, 0.2), 0, 0.9375)) for n in units.couplings}
    bits = {n: int(rng.choice(BITS)) for n in units.layers}
    return Choices(ratios, bits, found.template.inputs, int(rng.choice(few)), origin=f"random plan {k}")


def random(found: Search, prices: Prices, weights: Weights, wider: Sequence[float]) -> list[Candidate]:
    rng = np.random.default_rng([found.run.seed, 0x7264])
    return candidates(found, prices, [drawn(found, rng, k) for k in range(40 * POOL)])


def tpe(found: Search, prices: Prices, weights: Weights, wider: Sequence[float]) -> list[Candidate]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    units, few = found.units, (0, *found.template.evaluations)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=found.run.seed))
    plans = []
    for k in range(200):
        trial = study.ask()
        ratios = {n: trial.suggest_float(f"ratio {n}", 0.0, 0.9375) for n in units.couplings}
        bits = {n: int(trial.suggest_categorical(f"bits {n}", BITS)) for n in units.layers}
        evaluations = int(trial.suggest_categorical("evaluations", few))
        choices = Choices(ratios, bits, found.template.inputs, evaluations, origin=f"TPE's plan {k}")
        made = Candidate(choices, prices.predict(units.profile(choices)))
        lost = max(weights.whole(choices))
        over = excess(made, found.limits, prices.room)
        study.tell(trial, lost + 1e3 * max(over, 0.0))
        plans.append((over > 0, lost, choices))
    return candidates(found, prices, [c for _, _, c in sorted(plans, key=lambda row: row[:2])][: 4 * POOL])


WAYS = {"search": propose, "uniform": uniform, "random": random, "tpe": tpe}


def measured(run: Path, budget: str, way: str, minutes: float, seed: int) -> dict[str, Any]:
    """One search from nothing; what it found."""
    with tempfile.TemporaryDirectory(prefix="niwaki-") as directory:
        context = context_of_run(run, (f"seed={seed}",), Path(directory) / "out", Quiet())
        record = search(context, Budget.parse(budget), 60.0 * minutes, proposals=WAYS[way])
        size = None if record.bundle is None else Path(record.bundle).stat().st_size
    lossless = [row for row in record.candidates if row["lossless"]]
    inside = [row["at"] for row in lossless if row["inside"]]
    points = [(row["costs"]["size"], row["costs"]["latency"]) for row in lossless]
    corner = (record.before["size"], record.before["latency"])
    return {
        "bytes": size,
        "verdict": record.verdict,
        "first": min(inside, default=None),
        "volume": hypervolume(points, corner, log=(True, True)),
        "tried": len(record.candidates),
        "best": min((row["costs"]["size"] for row in lossless), default=None),
        "spent": record.spent,
        "limits": record.limits,
    }


def draw(rows: Sequence[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in (
        "model",
        "budget",
        "way",
        "seed",
        "shipped",
        "on the test split",
        "first at",
        "volume",
        "tried",
    ):
        table.add_column(title)
    for row in rows:
        found = row["found"]
        shipped = "–" if found["bytes"] is None else cost_text("size", found["bytes"])
        verdict = ", ".join(f"{axis} {outcome}" for axis, outcome in found["verdict"].items()) or "refused"
        first = "–" if found["first"] is None else f"{found['first']:.0f} s"
        table.add_row(
            row["model"], row["budget"], row["way"], str(row["seed"]), shipped, verdict, first,
            f"{found['volume']:.2f}", str(found["tried"]),
        )  # fmt: skip
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", nargs="+", type=Path, help="trained runs; default: recipes, trained first")
    parser.add_argument("--budget", help="of the given runs")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-search", action="store_true")
    asked, console = parser.parse_args(), Console()
    minutes = asked.minutes or (QUICK if asked.quick else MINUTES)
    subjects = dict(list(SUBJECTS.items())[:1]) if asked.quick else SUBJECTS
    runs = {path.name: path for path in asked.runs or []} or {n: Path("runs") / n for n in subjects}
    rows = []
    for name, path in runs.items():
        if not is_run(path):
            console.print(f"training {name}")
            train(name, out=path)
        budget = asked.budget or BUDGETS.get(name, "size=/10")
        for seed in range(asked.seeds):
            for way in asked.ways:
                key = hash_json([name, budget, way, minutes, seed, machine()["cpu"]])[:16]
                file = KEPT / f"{name}-{way}-{key}.json"
                if not file.exists():
                    if asked.no_search:
                        continue
                    console.print(f"{name}, {way}, seed {seed}: {minutes:g} minutes")
                    write_json(file, measured(path, budget, way, minutes, seed))
                rows.append(
                    {"model": name, "budget": budget, "way": way, "seed": seed, "found": read_json(file)}
                )
    draw(rows, console)


if __name__ == "__main__":
    main()
