"""Candidates side by side: further processes open the same run, and try what they are sent.

All of a call are ended before anything else goes on, so that nothing runs while bundles are timed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import hash_json, hash_tensors, read_json, write_json
from niwaki.models.io import load_model, model_record
from niwaki.recipe import Recipe
from niwaki.workflow.executors import Executor, WorkerLost, executor, results
from niwaki.workflow.lock import waiting_lock
from niwaki.workflow.reasons import reason
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.searching.attempt import Attempt, Attempted, attempt
from niwaki.workflow.searching.rehearsal import Rehearsal

__all__ = ["Workers", "try_in_worker"]


class Workers:
    """The processes of one search.

    path: where all that they need of it is written
    """

    def __init__(self, path: Path, run: RunContext, rehearsal: Rehearsal, executor: Executor) -> None:
        self.width, self._executor, self._reporter = executor.width, executor, run.reporter
        self._opening = path / "opening.json"
        write_json(
            self._opening,
            {
                "run": str(run.run.path.absolute()),
                "recipe": run.recipe.model_dump(mode="json"),
                "cache": None if run.cache is None else str(Path(run.cache).absolute()),
                "seed": rehearsal.seed,
                "n": rehearsal.n,
                "checked": rehearsal.checked,
                "model": _identity(run.model),
                "data": run.dataset.fingerprint,
            },
        )

    @classmethod
    def begin(cls, path: Path, run: RunContext, rehearsal: Rehearsal, on: str, width: int) -> Workers:
        """Start them. Raises NiwakiError where they cannot open the run."""
        seconds = 24 * 3600.0
        made = cls(path, run, rehearsal, executor(on, width, folder=path / on, seconds=seconds))
        if on == "processes":  # a cluster's are new for each call
            run.reporter.stage("workers", f"{width} processes open the model and what judges it")
            try:
                made._ask([None] * width)
            except BaseException:
                made.close()
                raise
        return made

    def attempts(self, asked: Sequence[Attempt]) -> list[Attempted]:
        """All of them, side by side. Where a worker is lost twice, that is the attempt's reason."""
        return self._ask(asked)

    def close(self) -> None:
        self._executor.shutdown()

    def _ask(self, asked: Sequence[Attempt | None]) -> list[Attempted]:
        words = [
            json.dumps({"opening": str(self._opening.absolute()), "attempt": one and one.to_json()})
            for one in asked
        ]
        out = []
        for answer in results(self._executor, try_in_worker, words, self._reporter.update):
            if isinstance(answer, WorkerLost):
                if not any(asked):
                    raise answer
                out.append(Attempted(reason=str(answer)))
                continue
            record = json.loads(answer)
            if "refused" in record:
                raise NiwakiError(f"the workers cannot go on: {record['refused']}")
            out.append(Attempted.from_json(record))
        return out


def try_in_worker(words: str) -> str:
    """What a worker does: JSON of the attempt → JSON of what came of it."""
    asked = json.loads(words)
    torch.set_num_threads(1)
    try:
        file = Path(asked["opening"])
        run, rehearsal = _opened(file, file.stat().st_mtime_ns)
    except (NiwakiError, OSError) as error:
        return json.dumps({"refused": reason(error)})
    if asked["attempt"] is None:
        return json.dumps(Attempted().to_json())
    one = Attempt.from_json(asked["attempt"])
    with waiting_lock(one.directory):  # a worker whose search was killed may still be at it
        return json.dumps(attempt(run, rehearsal, one).to_json())


@lru_cache(maxsize=1)
def _opened(file: Path, written: int) -> tuple[RunContext, Rehearsal]:
    """The run as the search has opened it. Raises NiwakiError where model or data are others."""
    record: dict[str, Any] = read_json(file)
    recipe = Recipe.model_validate(record["recipe"])
    if recipe.data.source == "memory":
        raise NiwakiError(
            "the data are in memory, where other processes cannot read them; name a source, or leave "
            "workers out"
        )
    directory = RunDirectory.create(recipe, record["run"])
    model = load_model(directory.model)
    model.shipped = recipe.export.programs or model.shipped
    run = RunContext(directory, Quiet(), given=model)
    run.cache = None if record["cache"] is None else Path(record["cache"])
    if run.dataset.fingerprint != record["data"]:
        raise NiwakiError("the data that a worker reads are others than those of the search")
    if _identity(model) != record["model"]:
        raise NiwakiError("the model that a worker reads is another one than that of the search")
    rehearsal = Rehearsal(run, model, n=record["n"], seed=record["seed"], checked=record["checked"])
    rehearsal.losses(model)  # margins, and what the judges see of the model
    return run, rehearsal


def _identity(model: GenerativeModel) -> str:
    return hash_json([model_record(model), hash_tensors(model.state_dict())])
