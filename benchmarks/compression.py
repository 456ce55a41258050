"""What compression gains and costs: every step alone, the best plan, and the peers, by `PROTOCOL.md`.

    python benchmarks/compression.py                          # all models; finished rows are kept
    python benchmarks/compression.py --only glyphs-gan        # one model
    python benchmarks/compression.py --rows "prune" "NNCF"    # rows whose names begin so, and the baselines
    python benchmarks/compression.py --make                   # make and judge; nothing is timed
    python benchmarks/compression.py --quick                  # a try-out: little training, few rounds

Making and judging needs no quiet machine, timing does: `--make` first, then the same without. All rows of a
model are timed in one process, in turns. Prints one table per model; JSON and Markdown in
benchmarks/results/compression/.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compression_rows.artefact import Artefact
from compression_rows.markdown import markdown
from compression_rows.models import MODELS, subject
from compression_rows.rows import Row, carried_out, crashed, kept, rows
from compression_rows.subject import Subject
from compression_rows.table import table
from compression_rows.timing import latencies, peak_memory
from rich.console import Console

from niwaki.core.contract import NiwakiError
from niwaki.core.store import hash_json, jsonable, read_json, write_json, write_text
from niwaki.deployment import machine

RESULTS = Path("benchmarks/results/compression")


def chosen(subject: Subject, wanted: list[str]) -> list[Row]:
    """The baselines, and the rows whose names begin with one of `wanted` (all of them without)."""
    found = rows(subject)
    return [r for r in found if not wanted or r.group == "baseline" or r.name.startswith(tuple(wanted))]


def made(subject: Subject, row: Row, options: argparse.Namespace, say: Console) -> dict[str, Any]:
    """The record of a row: the one that is kept, or a new one."""
    known = None if options.again and (row.name in options.rows or not options.rows) else kept(subject, row)
    if known is not None:
        return known
    say.print(f"{subject.name}: {row.name} …", highlight=False)
    began = time.perf_counter()
    if row.apart and not options.here:
        command = [sys.executable, __file__, "--only", subject.name, "--one", row.name]
        command += ["--threads", str(options.threads), *(["--quick"] if options.quick else [])]
        subject.saved, subject.bundle, subject.margins  # noqa: B018  (made here once, not in every process)
        code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        found = kept(subject, row) or crashed(subject, row, code)
    else:
        found = carried_out(subject, row, options.threads)
    failure = f": {found['failure']}" if "failure" in found else ""
    say.print(f"  {time.perf_counter() - began:.0f} s{failure}", highlight=False)
    return found


def measured(
    subject: Subject, records: list[dict[str, Any]], options: argparse.Namespace, say: Console
) -> None:
    """Latency and memory of all rows, in place; found again where the same rows were measured before."""
    artefacts = {r["name"]: Artefact(**r["artefact"]) for r in records if "failure" not in r}
    keys = sorted(r["key"] for r in records if "failure" not in r)
    key = hash_json([keys, options.rounds, options.threads])
    file = subject.directory / "timing.json"
    known = read_json(file) if file.exists() else {}
    if known.get("key") != key or options.again:
        say.print(f"{subject.name}: latency of {len(artefacts)} ways, in turns", highlight=False)
        began = time.perf_counter()

        def step(done: int, total: int) -> None:
            if done % 10 == 0:
                say.print(f"  {done} of {total} rounds, {time.perf_counter() - began:.0f} s", highlight=False)

        latency = latencies(artefacts, rounds=options.rounds, threads=options.threads, progress=step)
        say.print(f"{subject.name}: memory in fresh processes", highlight=False)
        memory: dict[str, int | None] = {}
        for name, artefact in artefacts.items():
            try:
                repeats = 1 if options.quick else 3
                memory[name] = peak_memory(artefact, threads=options.threads, repeats=repeats)
            except NiwakiError as error:
                say.print(f"  {name}: {error}", style="red", highlight=False)
                memory[name] = None
        known = {"key": key, "latency": latency, "memory": memory}
        write_json(file, known)
    for record in records:
        if record["name"] in artefacts:
            record["latency"] = known["latency"].get(record["name"], {})
            record["memory_bytes"] = known["memory"][record["name"]]


def one_model(name: str, options: argparse.Namespace, say: Console) -> dict[str, Any]:
    """Everything about one model, as JSON."""
    found = subject(name, options.quick, lambda text: say.print(text, highlight=False))
    records = [
        {**made(found, row, options, say), "key": hash_json([found.key, row.name, row.settings])}
        for row in chosen(found, options.rows)
    ]
    if not options.make:
        measured(found, records, options, say)
    return {
        "model": name,
        "quick": options.quick,
        "n": found.n,
        "seed": found.seed,
        "rounds": options.rounds,
        "threads": options.threads,
        "tokens": found.model.spec.shape[0] if found.tokens else 0,
        "machine": machine(),
        "rows": records,
    }


def single(options: argparse.Namespace) -> int:
    """One row in this process, for the one that started it."""
    found = subject(options.only[0], options.quick, lambda text: None)
    row = next(r for r in rows(found) if r.name == options.one)
    carried_out(found, row, options.threads)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rows", nargs="+", default=[], help="beginnings of names; baselines come along")
    parser.add_argument("--make", action="store_true", help="make and judge the rows, time nothing")
    parser.add_argument("--again", action="store_true", help="make kept rows anew")
    parser.add_argument("--quick", action="store_true", help="a try-out: its figures mean nothing")
    parser.add_argument("--here", action="store_true", help="no process of its own for what may crash")
    parser.add_argument("--rounds", type=int, default=0, help="timed calls per figure (30)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 30)
    if options.one:
        return single(options)
    say = Console(stderr=True)
    shown = Console() if sys.stdout.isatty() else Console(width=220)
    failed = 0
    for name in options.only:
        try:
            found = one_model(name, options, say)
        except NiwakiError as error:
            say.print(f"{name}: {error}", style="red", highlight=False)
            failed = 1
            continue
        shown.print(table(found))
        out = RESULTS / f"{'quick-' if options.quick else ''}{name}.json"
        write_json(out, jsonable(found))
        write_text(out.with_suffix(".md"), markdown(found))
        say.print(f"figures in {out}", highlight=False)
    return failed


if __name__ == "__main__":
    sys.exit(main())
