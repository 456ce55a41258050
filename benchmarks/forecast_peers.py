"""Forecasts of four real series beside seasonal naive, AutoETS, AutoARIMA and a neural network of gluonts.

    python benchmarks/forecast_peers.py                  # every row that is missing or has changed
    python benchmarks/forecast_peers.py co2 --seeds 3 --windows 12
    python benchmarks/forecast_peers.py --quick          # a few steps and windows: whether all of it works

    pip install -c constraints.txt --no-deps --target peers statsforecast==2.1.1 coreforecast==0.0.20 \\
        utilsforecast==0.2.17 fugue==0.9.7 triad==1.0.4 adagio==0.2.6 fs==2.4.16 six appdirs numba==0.68.1 \\
        llvmlite==0.50.0 pandas==3.1.1 pytz gluonts==0.17.0 toolz lightning==2.6.6 pytorch-lightning==2.6.6 \\
        lightning-utilities
    PYTHONPATH=peers python benchmarks/forecast_peers.py

(--no-deps, because some of them would bring another torch.) What is not installed is left out.

Windows lie at even places of the test block, the last fifth of the time. Networks learn from the training
block, the first seven tenths; models of one series are fitted to the 260 steps before every window, its past
and what came before it, so that they see later data than the networks do. Scores: CRPS, exact for normal
distributions and the fair estimate of 100 paths, and coverage of the 80 % interval; means over windows and
trainings. Windows overlap in their pasts: the interval is a bootstrap's over pairs of neighbouring windows,
of the mean over trainings; the trainings' own standard deviation stands beside it. Rows are kept in
benchmarks/results and made anew where the task, the windows, the seeds, a version or the side's file changed
(or with --again).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from forecasting.tasks import TASKS, Task, windows
from forecasts import interval
from rich.console import Console
from rich.table import Table

from niwaki.core.store import hash_json, read_json, write_json, write_text
from niwaki.deployment import machine

SIDES = ("ours", "classical", "gluonts_side")
HEAD = ("series", "forecast", "CRPS", "÷ seasonal naive", "80 % interval holds", "trainings", "CPU seconds")


def methods() -> tuple[dict[str, tuple[Any, bool, str]], list[str]]:
    """By name: what forecasts, whether it has seeds, what it depends on. And the packages that are absent."""
    found, absent = {}, []
    for side in SIDES:
        module = importlib.import_module(f"forecasting.{side}")
        present = importlib.util.find_spec(module.NEEDS) is not None
        if not present:
            absent.append(module.NEEDS)
        version = importlib.metadata.version(module.NEEDS) if present else ""
        code = hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
        for name, (forecast, seeded) in module.METHODS.items():
            if present or name == "seasonal naive":
                found[name] = (forecast, seeded, f"{version} {code}")
    return found, absent


def row_of(task: Task, name: str, forecast: Any, seeds: int, options: argparse.Namespace) -> dict[str, Any]:
    """Scores of every window and training, plain JSON."""
    asked = windows(task, options.windows)
    begin, scores = time.process_time(), []
    for seed in range(seeds):
        scores.append(forecast(task, asked, seed, quick=options.quick))
    return {
        "task": task.name,
        "method": name,
        "crps": [s["crps"].tolist() for s in scores],
        "coverage": [float(s["coverage"].mean()) for s in scores],
        "seconds": (time.process_time() - begin) / seeds,
        "steps": asked.steps,
    }


def cells(row: dict[str, Any], naive: float | None, unit: str) -> list[str]:
    crps = np.array(row["crps"])
    mean = float(crps.mean())
    low, high = interval(crps.mean(0), 2)  # of windows in time: neighbours are alike
    spread = [float(v) for v in crps.mean(1)]
    trained = f" (trainings ± {statistics.stdev(spread):.3f})" if len(spread) > 1 else ""
    return [
        f"{row['task']} ({unit})", row["method"], f"{mean:.3f} [{low:.3f}, {high:.3f}]{trained}",
        f"{mean / naive:.2f}" if naive else "–", f"{100 * statistics.mean(row['coverage']):.0f} %",
        str(len(spread)) if row["seeded"] else "–", f"{row['seconds']:.1f}",
    ]  # fmt: skip


def show(rows: list[dict[str, Any]], file: Path) -> None:
    table, text = Table(*HEAD), [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for name, task in TASKS.items():
        own = [row for row in rows if row["task"] == name]
        naive = next((float(np.mean(r["crps"])) for r in own if r["method"] == "seasonal naive"), None)
        for row in own:
            line = cells(row, naive, task.unit)
            table.add_row(*line)
            text.append(f"| {' | '.join(line)} |")
    Console(width=200).print(table)
    write_text(file.with_suffix(".md"), "\n".join(text) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*TASKS, []], help="series; all where none is named")
    parser.add_argument("--windows", type=int, default=12, help="test windows of each series (12)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network (3)")
    parser.add_argument("--again", action="store_true", help="rows that are there are made anew")
    parser.add_argument("--quick", action="store_true", help="two windows, a few steps, a file of its own")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/forecast_peers.json"))
    options = parser.parse_args()
    if options.quick:
        options.windows, options.seeds = 2, 1
        options.json = options.json.with_stem(f"{options.json.stem}-quick")
    say = Console(stderr=True)
    known, absent = methods()
    for package in absent:
        say.print(f"{package} is not installed and left out; the head of this file says how", style="red")
    rows = read_json(options.json)["rows"] if options.json.exists() else []
    for task in [TASKS[name] for name in options.names or TASKS]:
        for name, (forecast, seeded, code) in known.items():
            seeds = options.seeds if seeded else 1
            record = [task.data, task.season, options.windows, seeds, code, options.quick]
            key, place = hash_json(record), (task.name, name)
            there = any((r["task"], r["method"], r["key"]) == (*place, key) for r in rows)
            if there and not options.again:
                continue
            say.print(f"{task.name}: {name}", highlight=False)
            row = {**row_of(task, name, forecast, seeds, options), "key": key, "seeded": seeded}
            rows = [r for r in rows if (r["task"], r["method"]) != place] + [row]
            write_json(options.json, {"machine": machine(), "rows": rows})
    show(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
