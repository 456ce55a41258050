"""Damaged files for everything that reads files of other people: only clean errors are allowed.

    python benchmarks/fuzz.py                    # 100 000 inputs over all kinds of files, about ten minutes
    python benchmarks/fuzz.py --inputs 5000 --only recipe --only picture
    python benchmarks/fuzz.py --only csv --number 731   # that input again, with its traceback

Every input is a valid file with damage (`fuzzing/mutations.py`), read by the call that a user's file would
meet (`fuzzing/targets.py`). A reader may succeed, or raise a NiwakiError of one line. Failures are: any other
exception, a hang, more than 3 GiB of new memory, a crash of the process, a program started, the network
reached, something unpickled, a file written outside of its own folder.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzzing.guard import Escape, Hang, forbid, limit_memory, within
from fuzzing.targets import TARGETS, Target, inputs

OUT = Path("benchmarks/results/fuzz.json")
LONGEST = 1000
"""Characters of a message; a longer one is no sentence."""


def fault_of(target: Target, path: Path, room: Path) -> str:
    """What went wrong where nothing may: empty where the file was read, or refused in a sentence."""
    from niwaki_runtime.errors import NiwakiError

    try:
        with (
            within(target.seconds, room),
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            target.read(path)
    except NiwakiError as error:
        text = str(error)
        if not text.strip() or "\n" in text.strip() or len(text) > LONGEST:
            return f"the message is no sentence: {text[:200]!r}"
    except Hang:
        return f"longer than {target.seconds:g} s"
    except Escape as error:
        return f"escaped: {error}"
    except SystemExit as error:
        return f"left the process with {error.code}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [f for f in where if "niwaki" in f.filename] or where
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        return f"{type(error).__name__} at {at}: {str(error)[:160]}"
    return ""


def work(target: Target, numbers: range, seed: int, room: Path) -> None:
    """In a process of its own: the number of every input before it is read, JSON where it fails."""
    examples = target.make(room)
    own = room / "read"
    own.mkdir(exist_ok=True)
    for name in sorted(examples):  # imports and caches first, and valid files must be read
        (own / name).write_bytes(examples[name])
        fault = fault_of(replace(target, seconds=300), own / name, room)  # imports, and work that is kept
        if fault:
            print(json.dumps({"number": -1, "example": name, "fault": f"a valid file: {fault}"}), flush=True)
    if numbers.start == 0:
        print(json.dumps({"ready": True}), flush=True)
    forbid()
    limit_memory()
    for number, name, data in itertools.islice(inputs(target, examples, seed), numbers.start, numbers.stop):
        (own / name).unlink(missing_ok=True)
        (own / name).write_bytes(data)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        fault = fault_of(target, own / name, room)
        if fault:
            print(json.dumps({"number": number, "example": name, "fault": fault}), flush=True)


def watch(target: Target, count: int, seed: int) -> list[dict[str, Any]]:
    """Runs `work` until all inputs are read; where its process dies, that input is a failure."""
    failures: list[dict[str, Any]] = []
    start = 0
    while start < count:
        room = Path(tempfile.mkdtemp(prefix="fuzz-"))
        command = [sys.executable, __file__, "--only", target.name, "--work", f"{start}:{count}",
                   "--room", str(room), "--seed", str(seed)]  # fmt: skip
        for folder in ("cache", "tmp"):
            (room / folder).mkdir()
        places = {"NIWAKI_CACHE": str(room / "cache"), "TMPDIR": str(room / "tmp"), "HF_HUB_OFFLINE": "1"}
        with open(room / "stderr", "w") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **places}
            )
        at = start - 1
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().isdigit():
                at = int(line)
            elif line.startswith("{"):
                found = json.loads(line)
                if "fault" in found:
                    failures.append({"target": target.name, **found})
        process.wait()
        error = (room / "stderr").read_text(errors="replace").strip().splitlines()
        shutil.rmtree(room, ignore_errors=True)
        if process.returncode == 0:
            break
        fault = f"the process died ({process.returncode}): {error[-1] if error else ''}"
        failures.append({"target": target.name, "number": at, "fault": fault})
        if at < start:  # it never came to its first input
            break
        start = at + 1
    return failures


def again(target: Target, number: int, seed: int) -> None:
    """One input, with its traceback."""
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        examples = target.make(room)
        _, name, data = next(itertools.islice(inputs(target, examples, seed), number, None))
        (room / "read").mkdir(exist_ok=True)
        (room / "read" / name).write_bytes(data)
        kept = Path(tempfile.mkdtemp()) / name
        kept.write_bytes(data)
        print(f"{target.name} {number}: {kept}")
        target.read(room / "read" / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", action="append", choices=sorted(TARGETS), help="a kind of file; again for more"
    )
    parser.add_argument("--number", type=int, help="read this one input again, and show what it raises")
    parser.add_argument("--json", type=Path, default=OUT)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--room", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    targets = [TARGETS[name] for name in args.only or TARGETS]
    if args.work:
        first, last = map(int, args.work.split(":"))
        work(targets[0], range(first, last), args.seed, args.room)
        return 0
    if args.number is not None:
        again(targets[0], args.number, args.seed)
        return 0
    from rich.console import Console
    from rich.table import Table

    from niwaki.core.store import write_json

    console = Console()
    missing = [t for t in targets if any(importlib.util.find_spec(n) is None for n in t.needs)]
    targets = [t for t in targets if t not in missing]
    for target in missing:
        console.print(f"{target.name} is left out: {', '.join(target.needs)} is not installed")
    whole = sum(t.share for t in targets)
    table, rows = Table("file", "inputs", "failures", "seconds"), []
    failures: list[dict[str, Any]] = []
    for target in targets:
        count, began = max(1, round(args.inputs * target.share / whole)), time.monotonic()
        console.print(f"[dim]{target.name}: {count} inputs …[/dim]")
        found = watch(target, count, args.seed)
        failures += found
        rows.append({"target": target.name, "inputs": count, "failures": len(found)})
        table.add_row(target.name, str(count), str(len(found)), f"{time.monotonic() - began:.0f}")
    console.print(table)
    kinds = Counter((f["target"], f["fault"].split(": ")[0]) for f in failures)
    for (name, kind), n in kinds.most_common(40):
        first = next(f for f in failures if f["target"] == name and f["fault"].split(": ")[0] == kind)
        console.print(f"{name}: {n} × {first['fault']} (number {first['number']})", markup=False)
    write_json(args.json, {"seed": args.seed, "rows": rows, "failures": failures})
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
