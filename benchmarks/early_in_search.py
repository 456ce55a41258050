"""What early rejection saves where samples are dear: plans of one run, judged on all samples and in blocks.

    python benchmarks/early_in_search.py RUN
    python benchmarks/early_in_search.py runs/digits-ddpm -n 1000 --json early.json
    python benchmarks/early_in_search.py runs/digits-vae --slow 20

Plans are not trained: rounded to 8 and to 4 bits, some channels cut, fewer evaluations of the network. Each
is judged twice by the same judges, margins and seed (`niwaki.workflow.searching.rehearsal`): on n samples, as
`niwaki search` does where samples are cheap, and in blocks of 100 until the early test is decided.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from niwaki.api.search import context_of_run
from niwaki.compression.search.budget import Budget
from niwaki.compression.search.choices import FLOAT, Choices
from niwaki.compression.search.units import Units
from niwaki.core.store import write_json
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.clock import Clock
from niwaki.workflow.searching.rehearsal import Rehearsal
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.template import template_of
from niwaki.workflow.searching.trying import carry_out


def plans(units: Units, few: tuple[int, ...]) -> list[Choices]:
    out = [units.uniform(0.0, 8, origin="int8"), units.uniform(0.0, 4, origin="4 bits")]
    if units.couplings:
        out += [units.uniform(r, FLOAT, origin=f"{r:.0%} cut") for r in (0.125, 0.25, 0.375, 0.5, 0.75)]
        out += [units.uniform(r, 4, origin=f"{r:.0%} cut, 4 bits") for r in (0.125, 0.25, 0.5)]
    return out + [units.uniform(0.0, FLOAT, evaluations=k, origin=f"{k} evaluations") for k in few]


def slowed(run: Callable[..., Any], ms: float) -> Callable[..., Any]:
    """The same, as dear a model as one whose samples take so many milliseconds more each."""

    def slow(program: Any, n: int, **options: Any) -> Any:
        time.sleep(n * ms / 1e3)
        return run(program, n, **options)

    return slow


def judged(search: Search, choices: Choices, n: int, slow: float) -> dict[str, Any]:
    made = carry_out(search, Candidate(choices), exports=False).model
    made.run = slowed(made.run, slow)  # type: ignore[method-assign]
    row: dict[str, Any] = {"plan": choices.origin, "n": n}
    for name, blocks in (("all", False), ("blocks", True)):
        began = time.monotonic()
        losses, drawn = search.rehearsal.losses_of(made, n=n, blocks=blocks)
        row[name] = {
            "drawn": drawn,
            "seconds": round(time.monotonic() - began, 2),
            "losses": {a: [round(x.value, 3), x.outcome] for a, x in losses.items()},
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", type=float, default=0.0, help="milliseconds that a sample takes more")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        run = context_of_run(args.run, (), Path(scratch) / "run", Quiet())
        template = template_of(run.model, None)
        units = Units(run.model, template, seed=run.seed)
        rehearsal = Rehearsal(run, run.model, n=args.n, seed=(9 << 40) + args.seed)
        search = Search(run, Budget.parse("size=/2"), Clock(1e6), template, units, rehearsal)
        rehearsal.losses(run.model)  # margins, and the samples before
        for choices in plans(units, template.evaluations):
            rows.append(judged(search, choices, args.n, args.slow))
            print(rows[-1], flush=True)
            if args.json:
                write_json(args.json, rows)
    table = Table("plan", "fidelity / diversity lost", "outcomes", "in blocks", "drawn", "seconds", "of")
    for row in rows:
        every, some = row["all"], row["blocks"]
        table.add_row(
            row["plan"],
            " / ".join(f"{value:.2f}" for value, _ in every["losses"].values()),
            *(", ".join(outcome for _, outcome in one["losses"].values()) for one in (every, some)),
            str(some["drawn"]),
            f"{some['seconds']:.1f}",
            f"{every['seconds']:.1f}",
        )
    drawn = sum(row["blocks"]["drawn"] for row in rows) / sum(row["n"] for row in rows)
    took = [sum(row[name]["seconds"] for row in rows) for name in ("blocks", "all")]
    Console(width=120).print(table)
    print(f"{drawn:.0%} of the samples, {took[0] / took[1]:.0%} of the time")


if __name__ == "__main__":
    main()
