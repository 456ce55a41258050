"""Models of sequences in one table: text, pixels and tokens, sound, series, video; each recipe run once, or
as far as it is missing.

    python benchmarks/sequences.py                     # every recipe of these models on board
    python benchmarks/sequences.py docs-transformer digits-pixelcnn
    python benchmarks/sequences.py --no-train --runs DIR   # only what is trained already
    python benchmarks/sequences.py --quick             # a twentieth of the steps: whether all of it works

A row is what the run itself says: the first figure of fidelity and the first of diversity of its first
                                   judge, with 95 %
intervals, beside what is known (a coder, a baseline, real data); then the bundle, its speed at the largest
batch that was timed, and the verdict. The table is printed, and lies beside the JSON as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from families import RECIPES, largest_batch, trained
from rich.console import Console
from rich.table import Table

from niwaki.core.contract import NiwakiError
from niwaki.core.store import read_json, write_json
from niwaki.deployment import machine
from niwaki.models.registry import names, registered
from niwaki.recipe import load_recipe
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.summary import summary

FAMILY = "autoregressive"
HEAD = (
    "recipe", "model", "figure", "value", "beside", "diversity", "trained", "bundle", "smaller", "samples/s",
    "fidelity kept", "diversity kept",
)  # fmt: skip


def recipes() -> list[str]:
    """Those whose model is of the family and whose data are on board, by name."""
    found = []
    for file in sorted(RECIPES.glob("*.yaml")):
        recipe = load_recipe(file)
        if recipe.model["name"] not in names() or recipe.data.path is not None:
            continue
        if FAMILY in registered(recipe.model["name"]).__module__.split("."):
            found.append(file.stem)
    return found


def row_of(name: str, directory: RunDirectory) -> dict[str, Any]:
    """What a finished run says of itself, plain JSON."""
    said = summary(directory)
    figures = [f for section in _spoken(directory) for f in section["figures"]]
    after, before = said["measured"].get("after", {}), said["measured"].get("before", {})
    batch, times = largest_batch(after.get("latency", {}))
    return {
        "recipe": name,
        "model": directory.recipe.model["name"],
        "fidelity": next((f for f in figures if f["axis"] == "fidelity"), None),
        "diversity": next((f for f in figures if f["axis"] in ("diversity", "both")), None),
        "seconds": read_json(directory.path / "training.json").get("training_seconds"),
        "bytes": said["bundle_bytes"],
        "smaller": before["bytes"] / after["bytes"] if before.get("bytes") and after.get("bytes") else None,
        "per_second": 1000.0 * batch / times["median_ms"] if times else None,
        "verdict": {axis: found.get("outcome") for axis, found in (said["verdict"] or {}).items()},
    }


def _spoken(directory: RunDirectory) -> list[dict[str, Any]]:
    """Sections of the evaluation, those first that know what probability is."""
    sections = read_json(directory.path / "evaluation.json")["sections"]
    return sorted(sections, key=lambda s: s["judge"] == "samples")


def cells(row: dict[str, Any]) -> list[str]:
    """A row as text."""
    fidelity, diversity = row["fidelity"], row["diversity"]
    return [
        row["recipe"],
        row["model"],
        fidelity["name"] if fidelity else "–",
        _with_interval(fidelity),
        f"{fidelity['reference_name']}: {fidelity['reference']:.3g}" if _compared(fidelity) else "–",
        f"{diversity['name']}: {_with_interval(diversity)}" if diversity else "–",
        f"{row['seconds']:.0f} s" if row["seconds"] else "–",
        f"{row['bytes'] / 1000:.0f} kB" if row["bytes"] else "–",
        f"{row['smaller']:.1f}×" if row["smaller"] else "–",
        f"{row['per_second']:,.1f}" if row["per_second"] else "–",
        row["verdict"].get("fidelity") or "–",
        row["verdict"].get("diversity") or "–",
    ]


def _compared(figure: dict[str, Any] | None) -> bool:
    return figure is not None and figure.get("reference") is not None


def _with_interval(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "–"
    if not figure.get("interval"):
        return f"{figure['value']:.3f}"
    low, high = figure["interval"]
    return f"{figure['value']:.3f} [{low:.3f}, {high:.3f}]"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="recipes; all of these models where none is named")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the steps, into its own folder")
    parser.add_argument("--no-train", action="store_true", help="only runs that are there already")
    parser.add_argument("--runs", type=Path, help="where the runs lie (runs/sequences)")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/sequences.json"))
    options = parser.parse_args()
    options.runs = options.runs or Path("runs/sequences-quick" if options.quick else "runs/sequences")
    say, rows, failed = Console(stderr=True), [], []
    for name in options.names or recipes():
        try:
            directory = trained(name, -1, options)
            if directory is not None:
                rows.append(row_of(name, directory))
        except NiwakiError as error:
            failed.append(name)
            say.print(f"{name}: {error}", style="red", highlight=False)
    shown = Table(*HEAD, title="one training each, seed 0; 95 % intervals over the test split")
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in rows:
        shown.add_row(*cells(row))
        lines.append(f"| {' | '.join(cells(row))} |")
    Console(width=240).print(shown)
    write_json(options.json, {"machine": machine(), "rows": rows})
    options.json.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
