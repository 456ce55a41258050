"""Faults from outside, over all verbs that write or train: SIGKILL, a full disk, a second process, a damaged
checkpoint, a clock that is set, NaN in the data, a killed child.

    python benchmarks/faults.py                      # 200 kills, 40 full disks, 26 pairs of calls …
    python benchmarks/faults.py --only train --fault kill
    python benchmarks/faults.py --quick              # a tenth of it

Every trial begins with the same folder (a tiny recipe, its run), in a child that is forked from this process:
what is imported is there already, nothing else is. After the fault the same call is made again, and must end
with what it leaves undisturbed: the same files with the same bits (weights, samples, verdicts; what a clock
says is left out), none of them damaged in between, nothing finished done again, nothing temporary left over.

Half of the kills come at a moment of the call's time, half before one of its changes of files, both drawn by
`--seed`. A disk is a file system in memory that is filled up but for a share of what the call needs; where
none can be mounted, a limit of the files' sizes takes its place. Rows whose code, seed and number are the
same are kept in benchmarks/results/faults.json; the table is printed, and lies beside as Markdown.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import gc
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from faulting.children import preload, start, threads
from faulting.clocks import misdated
from faulting.damaged import damaged
from faulting.full_disk import filled, small_disk
from faulting.kills import killed
from faulting.not_finite import not_finite
from faulting.orphaned import orphaned
from faulting.subject import Subject
from faulting.two_processes import beside
from faulting.verbs import STARTERS, TRAINING, VERBS, Verb, call, write_inputs

OUT = Path("benchmarks/results/faults.json")
TRIALS = {"kill": 200, "disk": 40, "two": 26, "checkpoint": 24, "clock": 24, "nan": 24, "child": 8}
NAMES = {
    "kill": "SIGKILL", "disk": "full disk", "two": "second process", "checkpoint": "damaged checkpoint",
    "clock": "clock set", "nan": "NaN", "child": "child killed",
}  # fmt: skip
PAIRS = (
    ("train", "train"), ("train", "run"), ("train", "doctor"), ("train --resume", "sample"),
    ("evaluate", "report"), ("evaluate", "export"), ("evaluate", "compress"), ("report", "sample BUNDLE"),
    ("sample", "sample"), ("evaluate FILES", "evaluate FILES"),
    ("niwaki-runtime extract", "niwaki-runtime extract"), ("compress", "compress"), ("tune", "tune"),
)  # fmt: skip
"""Calls that work, and the ones that come beside them."""

OTHERS = {"doctor": Verb("doctor", ("niwaki", "doctor", "recipe.yaml"), None), **STARTERS}
OF_TRAININGS: dict[str, Callable[[Subject, random.Random, int], tuple[str, list[str]]]] = {
    "checkpoint": lambda one, rng, number: damaged(one, rng),
    "clock": lambda one, rng, number: misdated(one, rng, kills=number % 2 == 1),
    "nan": lambda one, rng, number: not_finite(one, rng),
    "child": lambda one, rng, number: orphaned(one, rng),
}
WITHOUT_CHECKPOINTS = ("evaluate, a judge trained",)
MANY = 10
"""Kills that a verb gets which takes a second or two: such ones come first."""
Trial = Callable[[random.Random, int], tuple[str, list[str]]]


def shares(total: int, names: list[str]) -> dict[str, int]:
    """How many of the trials each verb gets."""
    whole = sum(VERBS[name].share for name in names)
    return {name: max(1, round(total * VERBS[name].share / whole)) for name in names}


def finished_run(room: Path) -> Path:
    """A folder with a finished run, made in the place where all trials work; its modules are loaded here."""
    place, whole, names = room / "place", room / "whole", room / "modules.json"
    place.mkdir()
    write_inputs(place)

    def work() -> int:
        code = call(VERBS["run"].words)()
        for verb in VERBS.values():
            if verb.name in ("evaluate FILES", "compare", "sample", "niwaki-runtime sample", "tune"):
                code = code or call(verb.words)()
        names.write_text(json.dumps(sorted(sys.modules)))
        return code

    environment = {"NIWAKI_CACHE": str(place / "cache"), "TMPDIR": str(place / "tmp")}
    ended = start(work, room / "first", place=place, environment=environment).wait()
    if ended.status != 0:
        raise RuntimeError(f"the run fails undisturbed: {ended.err}")
    for name in ("made", "cache", "study"):
        shutil.rmtree(place / name, ignore_errors=True)
    (place / "cache").mkdir()
    shutil.copytree(place, whole)
    preload(json.loads(names.read_text()))
    gc.collect()
    gc.freeze()
    return whole


def row(name: str, fault: str, trials: int, seed: int, one: Trial) -> dict[str, Any]:
    """All trials of a verb and a fault."""
    came: Counter[str] = Counter()
    failures, began = [], time.monotonic()
    for number in range(trials):
        how, wrong = one(random.Random(f"{seed}/{name}/{fault}/{number}"), number)
        came[how] += 1
        if wrong:
            failures.append({"number": number, "wrong": wrong[:8]})
    return {
        "verb": name, "fault": fault, "trials": trials, "right": trials - len(failures), "came": dict(came),
        "failures": failures, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


@contextmanager
def trials_of(name: str, fault: str, room: Path, subject: Callable[[str], Subject]) -> Iterator[Trial]:
    """What one trial is."""
    if fault == "two":
        first, second = map(subject, name.split(" + "))
        yield lambda rng, number: beside(first, second, rng)
        return
    one = subject(name)
    if fault in OF_TRAININGS:
        yield lambda rng, number: OF_TRAININGS[fault](one, rng, number)
        return
    if fault == "kill":
        yield lambda rng, number: killed(one, rng, by_clock=number % 2 == 0)
        return
    with small_disk(room / "place") as mounted:
        yield lambda rng, number: filled(one, rng, mounted=mounted)


def wanted(options: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Verb, fault and number of trials of every row."""
    part = 0.1 if options.quick else 1.0
    total = {fault: n if options.trials is None else options.trials for fault, n in TRIALS.items()}
    names = options.only or list(VERBS)
    found = [
        (name, fault, n)
        for fault in ("kill", "disk")
        for name, n in shares(max(1, round(part * total[fault])), [n for n in names if n in VERBS]).items()
    ]
    pairs = [pair for pair in PAIRS if not options.only or pair[0] in options.only]
    each = max(1, round(part * total["two"] / len(PAIRS)))
    found += [(" + ".join(pair), "two", each) for pair in pairs]
    for fault in OF_TRAININGS:
        hit = [n for n in (STARTERS if fault == "child" else TRAINING) if n in names or not options.only]
        hit = [n for n in hit if fault != "checkpoint" or n not in WITHOUT_CHECKPOINTS]
        found += [(n, fault, max(1, round(part * total[fault] / len(hit)))) for n in hit]
    chosen = [one for one in found if one[1] in options.fault]
    return sorted(
        chosen,
        key=lambda one: min([VERBS[v].share for v in one[0].split(" + ") if v in VERBS], default=0) < MANY,
    )


def code_key() -> str:
    """Hash of everything that trials run through."""
    from niwaki.core.store import hash_file, hash_json

    roots = [Path(sys.modules[name].__path__[0]) for name in ("niwaki", "niwaki_runtime", "faulting")]
    files = [p for root in roots for p in sorted(root.rglob("*")) if p.suffix in (".py", ".j2", ".css")]
    return hash_json([[path.name, hash_file(path)] for path in (*files, Path(__file__))])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", action="append", choices=[*VERBS, *STARTERS], help="a verb; again for more")
    parser.add_argument("--fault", action="append", choices=list(TRIALS), help="a fault; again for more")
    parser.add_argument("--trials", type=int, help="of each fault, over all verbs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--again", action="store_true", help="make kept rows anew")
    parser.add_argument("--json", type=Path, default=OUT)
    options = parser.parse_args()
    options.fault = options.fault or list(TRIALS)
    from rich.console import Console

    import niwaki_runtime  # noqa: F401
    from niwaki.core.store import hash_json, read_json, write_json, write_text

    say = Console(stderr=True, highlight=False)
    code = code_key()
    known = {r["key"]: r for r in read_json(options.json)["rows"]} if options.json.exists() else {}
    rows, room = [], Path(tempfile.mkdtemp(prefix="faults-"))
    whole: list[Path] = []

    @cache
    def subject(name: str) -> Subject:
        made = Subject({**VERBS, **OTHERS}[name], room / "place", whole[0], room)
        say.print(f"{name}: {made.whole.seconds:.1f} s, {made.whole.changes} changes of files", style="dim")
        return made

    try:
        for name, fault, trials in wanted(options):
            key = hash_json([name, fault, trials, options.seed, code])
            if key not in known or options.again:
                if not whole:
                    whole.append(finished_run(room))
                    if threads() > 1:
                        say.print("more than one thread before a fork", style="red")
                say.print(f"{name}, {NAMES[fault]}: {trials} trials …", style="dim")
                with trials_of(name, fault, room, subject) as one:
                    known[key] = {
                        "key": key,
                        "code": code,
                        "seed": options.seed,
                        **row(name, fault, trials, options.seed, one),
                    }
                for failure in known[key]["failures"]:
                    say.print(
                        f"  {failure['number']}: {'; '.join(failure['wrong'])}", style="red", markup=False
                    )
                write_json(options.json, {"rows": list(known.values())})
            rows.append(known[key])
    finally:
        shutil.rmtree(room, ignore_errors=True)
    table = markdown(rows)
    print(table)
    write_json(options.json, {"rows": [r for r in known.values() if r.get("code") == code]})
    write_text(options.json.with_suffix(".md"), table)
    return int(any(found["failures"] for found in rows))


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = ["| verb | fault | trials | right | what came of it |", "|---|---|---|---|---|"]
    for found in rows:
        came = ", ".join(f"{n} {how}" for how, n in sorted(found["came"].items(), key=lambda item: -item[1]))
        lines.append(
            f"| {found['verb']} | {NAMES[found['fault']]} | {found['trials']} | {found['right']} | {came} |"
        )
    for fault, name in NAMES.items():
        those = [found for found in rows if found["fault"] == fault]
        if those:
            trials, right = (sum(found[key] for found in those) for key in ("trials", "right"))
            lines.append(f"| **all** | {name} | **{trials}** | **{right}** | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
