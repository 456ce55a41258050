"""Families of models in one table: every recipe of theirs on board, run once or as far as it is missing.

    python benchmarks/families.py                     # GANs, VAEs, flows: what has changed, and the table
    python benchmarks/families.py --families diffusion
    python benchmarks/families.py digits-r3gan --seeds 5
    python benchmarks/families.py --quick             # a twentieth of the steps: whether all of it works
    python benchmarks/families.py digits-mlp-gan --retrain 3   # three trainings of one recipe
    python benchmarks/families.py --no-train          # only what is trained already

A row needs its whole run (`niwaki run RECIPE --out RUNS/NAME`), which goes on where it stopped. What the
samples are worth is said against the n samples of the test split, beside as many training samples drawn anew
for each seed; bits per dimension are of the whole test split. Rows are kept in benchmarks/results and made
anew where the run's verdict, the seeds or n are others. The table is printed, and lies beside as Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quality import likelihood, measure
from rich.console import Console
from rich.table import Table

from niwaki.api.run import run
from niwaki.core.contract import NiwakiError
from niwaki.core.store import hash_json, read_json, write_json
from niwaki.deployment import machine
from niwaki.features.reader import ALL
from niwaki.models.registry import names, registered
from niwaki.recipe import load_recipe
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import RunDirectory, is_run
from niwaki.workflow.summary import summary
from niwaki.workflow.watching import watched

FAMILIES = ("gan", "vae", "flow")
RECIPES = Path(__file__).parents[1] / "recipes"
HEAD = (
    "recipe", "model", "as asked", "Fréchet ÷ train's", "coverage ÷ train's", "bits/dim",
    "trained", "calls", "bundle", "smaller", "samples/s", "fidelity", "diversity",
)  # fmt: skip


def recipes(families: Sequence[str]) -> list[str]:
    """Those whose model is one of the families and whose data are on board, by family and name."""
    found = []
    for file in sorted(RECIPES.glob("*.yaml")):
        recipe = load_recipe(file)
        if recipe.model["name"] not in names():  # encoders
            continue
        family = registered(recipe.model["name"]).__module__.split(".")[2]
        if family in families and recipe.data.path is None:
            found.append((families.index(family), file.stem))
    return [name for _, name in sorted(found)]


def trained(name: str, seed: int, options: argparse.Namespace) -> RunDirectory | None:
    """The finished run of a recipe; None where it is not there and may not be made."""
    place = options.runs / (name if seed < 0 else f"{name}-seed{seed}")
    changes = [f"seed={seed}"] if seed >= 0 else []
    if options.quick:
        steps = load_recipe(RECIPES / f"{name}.yaml").train.steps
        changes += [f"train.steps={max(20, steps // 20)}", "evaluate.n=400", "compress=null"]
    if is_run(place) and options.no_train:
        found = RunDirectory.open(place)
        return found if found.stage("verdict")["status"] == "done" or options.quick else None
    if options.no_train:
        return None
    reporter = watched(True)
    try:
        return run(RECIPES / f"{name}.yaml", tuple(changes), out=place, reporter=reporter)
    finally:
        if reporter is not None:
            reporter.close()


def row_of(name: str, directory: RunDirectory, seeds: int) -> dict[str, Any]:
    """Figures of one run over sampling seeds, plain JSON."""
    context, said = RunContext(directory, Quiet()), summary(directory)
    n = min(len(context.dataset.test), context.n)
    extra = likelihood(context)
    each = [measure(context, seed, n) | extra for seed in range(seeds)]
    first = context.extractors[0].name
    figures = {
        "recognised": "recognised",
        "frechet": f"{first}/frechet_ratio",
        "coverage": f"{first}/coverage_ratio",
        "bits": "bits_per_dim",
    }
    after, before = said["measured"].get("after", {}), said["measured"].get("before", {})
    batch, times = largest_batch(after.get("latency", {}))
    if "recognised" not in each[0] and (share := _read_back(directory)) is not None:
        each = [e | {"recognised": share} for e in each]
    return {
        "recipe": name,
        "model": directory.recipe.model["name"],
        "n": n,
        "seeds": seeds,
        **{
            k: [float(e[key]) for e in each] if key in each[0] else None for k, key in figures.items()
        },
        "seconds": read_json(directory.path / "training.json").get("training_seconds"),
        "calls": [side.get("evaluations") for side in (before, after)],
        "bytes": said["bundle_bytes"],
        "smaller": before["bytes"] / after["bytes"] if before.get("bytes") and after.get("bytes") else None,
        "per_second": 1000.0 * batch / times["median_ms"] if times else None,
        "verdict": {axis: found.get("outcome") for axis, found in (said["verdict"] or {}).items()},
    }  # fmt: skip


def _read_back(directory: RunDirectory) -> float | None:
    """The share of the run's own test samples that show all that they were asked for, by a reader."""
    for section in read_json(directory.path / "evaluation.json")["sections"]:
        for figure in section["figures"]:
            if figure["name"] == f"{ALL} read back as asked":
                return float(figure["value"])
    return None


def largest_batch(latency: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The largest batch that was timed, and its times."""
    return max(((int(k), v) for k, v in latency.items()), default=(0, {}), key=lambda pair: pair[0])


def key_of(directory: RunDirectory, seeds: int) -> str:
    """What a row depends on."""
    return hash_json({"seeds": seeds, "verdict": directory.stage("verdict").get("inputs", "")})


def cells(row: dict[str, Any]) -> list[str]:
    """A row as text."""

    def spread(values: list[float] | None, digits: int = 3) -> str:
        if not values:
            return "–"
        text = f"{statistics.mean(values):.{digits}f}"
        wide = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{text} ± {wide:.{digits}f}" if wide >= 0.5 * 10**-digits else text

    recognised = row["recognised"] and [100 * v for v in row["recognised"]]
    return [
        row["recipe"],
        row["model"],
        f"{spread(recognised, 1)} %" if recognised else "–",
        spread(row["frechet"], 2),
        spread(row["coverage"], 2),
        spread(row["bits"]),
        f"{row['seconds']:.0f} s" if row["seconds"] else "–",
        " → ".join(dict.fromkeys(str(c) for c in row.get("calls", ()) if c)) or "–",
        f"{row['bytes'] / 1000:.0f} kB",
        f"{row['smaller']:.1f}×" if row["smaller"] else "–",
        f"{row['per_second']:,.0f}" if row["per_second"] else "–",
        row["verdict"].get("fidelity") or "–",
        row["verdict"].get("diversity") or "–",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="recipes; all of the families where none is named")
    parser.add_argument(
        "--families", nargs="+", default=FAMILIES, help="folders of models (gan vae flow)", metavar="FAMILY"
    )
    parser.add_argument("--seeds", type=int, default=3, help="sampling seeds (3)")
    parser.add_argument("--retrain", type=int, default=1, help="trainings, each with a seed of its own")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the steps, into its own folder")
    parser.add_argument("--no-train", action="store_true", help="only runs that are there already")
    parser.add_argument("--runs", type=Path, help="where the runs lie (runs/families)")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/families.json"))
    options = parser.parse_args()
    options.runs = options.runs or Path("runs/families-quick" if options.quick else "runs/families")
    if options.quick:
        options.json = options.json.with_stem(f"{options.json.stem}-quick")
    say, kept = Console(stderr=True), {}
    with contextlib.suppress(NiwakiError):
        kept = {row["name"]: row for row in read_json(options.json)["rows"]}
    failed = []
    known = recipes(options.families)
    for name in options.names or known:
        for seed in range(options.retrain) if options.retrain > 1 else (-1,):
            label = name if seed < 0 else f"{name} (seed {seed})"
            try:
                directory = trained(name, seed, options)
                if directory is None:
                    continue
                key = key_of(directory, options.seeds)
                if kept.get(label, {}).get("key") == key:
                    continue
                say.print(f"{label}: measured over {options.seeds} seeds", highlight=False)
                row = row_of(label, directory, options.seeds)
                kept[label] = {"name": label, "key": key, **row}
                write_json(options.json, {"machine": machine(), "rows": list(kept.values())})
            except NiwakiError as error:
                failed.append(label)
                say.print(f"{label}: {error}", style="red", highlight=False)
    order = {name: i for i, name in enumerate(known)}
    rows = sorted(kept.values(), key=lambda r: (order.get(r["name"].split(" ")[0], len(order)), r["name"]))
    shown = Table(*HEAD, title="one training each; mean ± sd over sampling seeds")
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in rows:
        shown.add_row(*cells(row))
        lines.append(f"| {' | '.join(cells(row))} |")
    Console(width=200).print(shown)
    options.json.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
