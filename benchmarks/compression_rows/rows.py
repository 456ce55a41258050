"""The rows of one model's table, each made and judged once and then found again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from compression_rows.artefact import Artefact, opened
from compression_rows.engine_peers import nncf_alone, onnxruntime_static
from compression_rows.found import BUDGETS, found_by_search, search_settings
from compression_rows.plans import made_by_plan, plans, pruning_of
from compression_rows.quality import figures, judged
from compression_rows.subject import Subject
from compression_rows.timing import BATCHES
from compression_rows.torch_pruning_peer import pruned_alone, pruned_and_nncf, tuning_steps
from compression_rows.torchao_networks import WAYS
from compression_rows.torchao_peer import torchao_way
from niwaki.core.contract import first_line
from niwaki.core.store import hash_json, jsonable, read_json, write_json

__all__ = ["COMPILED", "EAGER", "Row", "carried_out", "crashed", "kept", "rows", "slug"]

EAGER, COMPILED = "torch eager float32", "torch.compile bf16"
Made = tuple[Artefact, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One way to sample the model.

    group:    `baseline`, `plan` (our steps), `search` (plans that it found) or `peer`
    make:     (subject, directory of the row) → what was made, and what is worth knowing about it
    settings: what decides it, as JSON
    apart:    made in a process of its own, for it is known to crash
    """

    name: str
    group: str
    make: Callable[[Subject, Path], Made] = field(repr=False, compare=False)
    settings: Any = None
    apart: bool = False


def rows(subject: Subject) -> list[Row]:
    """All rows, the baselines first."""
    found = [
        Row(EAGER, "baseline", partial(_torch, engine="eager")),
        Row(COMPILED, "baseline", partial(_torch, engine="compiled"), apart=True),
        Row("onnxruntime, float32", "baseline", partial(_float, engine="onnxruntime")),
        Row("openvino, float32", "baseline", partial(_float, engine="openvino")),
    ]
    for plan in plans(subject):
        found.append(Row(plan.name, "plan", partial(_plan, plan=plan), jsonable(list(plan.steps))))
    if subject.name in BUDGETS:
        found.append(Row("found by the search", "search", found_by_search, search_settings(subject)))
    cut = [tuning_steps(subject), pruning_of(subject)]
    found += [
        Row("NNCF PTQ alone", "peer", nncf_alone),
        Row("onnxruntime static int8", "peer", onnxruntime_static),
        *(Row(f"torchao {w} + compile", "peer", torchao_way(w), apart=True) for w in WAYS),
        Row("torch-pruning + finetune", "peer", pruned_alone, cut),
        Row("torch-pruning + NNCF PTQ", "peer", pruned_and_nncf, cut),
    ]
    return found


def _torch(subject: Subject, directory: Path, *, engine: str) -> Made:
    return Artefact("torch", str(subject.saved), engine, sampling=str(subject.bundle)), {
        "bytes": subject.bytes
    }


def _float(subject: Subject, directory: Path, *, engine: str) -> Made:
    return Artefact("bundle", str(subject.bundle), engine), {}


def _plan(subject: Subject, directory: Path, *, plan: Any) -> Made:
    return made_by_plan(subject, plan, directory)


def slug(name: str) -> str:
    """A name as a file's: `prune + finetune` → `prune-finetune`."""
    words = "".join(c if c.isalnum() else " " for c in name).split()
    return "-".join(words).lower()


def _file(subject: Subject, row: Row) -> Path:
    return subject.directory / "rows" / f"{slug(row.name)}.json"


def _key(subject: Subject, row: Row) -> str:
    return hash_json([subject.key, row.name, row.settings])


def kept(subject: Subject, row: Row) -> dict[str, Any] | None:
    """The record of a row that was made before, from the same weights, data and settings.

    A plan of ours that failed is tried again: it is ours to repair.
    """
    file = _file(subject, row)
    known = read_json(file) if file.exists() else None
    if not known or known.get("key") != _key(subject, row):
        return None
    return None if row.group == "plan" and "failure" in known else known


def carried_out(subject: Subject, row: Row, threads: int) -> dict[str, Any]:
    """Make a row, judge it, keep the record. A failure is a record, too: it is what a user would meet."""
    began = time.perf_counter()
    record: dict[str, Any] = {"name": row.name, "group": row.group, "settings": row.settings}
    directory = subject.directory / "rows" / slug(row.name)
    shutil.rmtree(directory, ignore_errors=True)  # the bytes of a row are those of its folder
    try:
        artefact, notes = row.make(subject, directory)
        record |= {"artefact": artefact.to_json(), "notes": notes}
        record["bytes"] = notes.get("bytes", artefact.bytes())
        if row.name == EAGER:
            record["quality"] = figures(subject.judgement.section)
        else:
            bundle = opened(artefact, threads)
            for n in BATCHES:  # what is timed later must work first
                bundle.sample(n, seed=1, batch=n)
            bundle.usual_batch = max(BATCHES)  # what compiles does so once for each size
            record["quality"] = judged(subject, bundle)
    except Exception as error:  # peers raise whatever they like
        record["failure"] = f"{type(error).__name__}: {first_line(error)[:300]}"
    record["seconds"] = time.perf_counter() - began
    write_json(_file(subject, row), jsonable({**record, "key": _key(subject, row)}))
    return record


def crashed(subject: Subject, row: Row, code: int) -> dict[str, Any]:
    """The record of a row whose process ended without one."""
    text = f"the process was ended by signal {-code}" if code < 0 else f"the process ended with {code}"
    record = {"name": row.name, "group": row.group, "settings": row.settings, "failure": text}
    write_json(_file(subject, row), {**record, "key": _key(subject, row)})
    return record
