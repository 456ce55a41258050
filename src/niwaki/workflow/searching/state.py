"""What the phases of a search share, and what it leaves on disk so that it goes on where it stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from niwaki.compression.search.budget import Budget
from niwaki.compression.search.choices import Choices, Template
from niwaki.compression.search.units import Units
from niwaki.core.store import hash_json, hash_tensors, read_json, write_json
from niwaki.deployment import machine
from niwaki.models.io import model_record
from niwaki.workflow.engine_choice import engine_beforehand
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.searching.affording import Afforded, afford
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.clock import Clock
from niwaki.workflow.searching.rehearsal import Rehearsal
from niwaki.workflow.searching.workers import Workers

__all__ = ["ASKED", "Search"]


ASKED = "asked.json"
"""What the last call wanted: for whoever watches."""
_BEGUN = "begun.json"
_FORM = 3
"""Of what is kept; what another form has kept is not read."""


@dataclass
class Search:
    """One search.

    run:        where the result goes: the run of the model that is given
    limits:     the budget in units, by key
    candidates: tried ones, by name
    workers:    further processes that candidates are tried in; None tries them here
    asked:      how many of them the call has asked for
    afforded:   how many samples of the model there is time for
    ways:       to sample with fewer evaluations: choices of that alone
    """

    run: RunContext
    budget: Budget
    clock: Clock
    template: Template
    units: Units
    rehearsal: Rehearsal
    limits: dict[str, float] = field(default_factory=dict)
    candidates: dict[str, Candidate] = field(default_factory=dict)
    workers: Workers | None = None
    asked: int = 1
    afforded: Afforded = field(default_factory=lambda: afford(0.0, 0, 0.0, least=0))
    ways: tuple[Choices, ...] = ()

    @cached_property
    def key(self) -> str:
        """Of all that measured plans and candidates depend on; the budget is not of it."""
        model, export = self.run.model, self.run.recipe.export
        engine = [engine_beforehand(export), export.precision, export.threads]
        return hash_json(
            [_FORM, model_record(model), hash_tensors(model.state_dict()), self.run.dataset.fingerprint]
            + [engine, machine()["cpu"], self.run.seed, self._judged_by, self.template]
        )

    @property
    def _judged_by(self) -> dict[str, Any]:
        """But for how many pairs the verdict rests on, which nothing that is kept depends on."""
        return self.run.config.model_dump(mode="json", exclude={"n"})

    @property
    def path(self) -> Path:
        return self.run.run.path / "study" / self.key[:16]

    def directory(self, candidate: Candidate) -> Path:
        return self.path / "candidates" / candidate.name

    @property
    def width(self) -> int:
        """Candidates that are tried side by side."""
        return 1 if self.workers is None else self.workers.width

    def close_workers(self) -> None:
        """From here on candidates are tried in this process."""
        workers, self.workers = self.workers, None
        if workers is not None:
            workers.close()

    # what is kept

    def tell_asked(self) -> None:
        """Leave what is searched for where others can read it."""
        record = {"budget": str(self.budget), "limits": dict(self.limits), "seconds": self.clock.seconds}
        write_json(self.path / ASKED, {**record, "began": time.time() - self.clock.spent})

    def begin(self, candidate: Candidate) -> None:
        """Remember how far it is to be trained: a later call goes on with a training that was ended."""
        write_json(self.directory(candidate) / _BEGUN, list(candidate.trained))

    def begun(self, candidate: Candidate) -> int | None:
        """Steps of the training after those that it has ended, where one was begun and not ended."""
        file = self.directory(candidate) / _BEGUN
        steps = tuple(read_json(file)) if file.exists() else ()
        more = len(steps) == len(candidate.trained) + 1 and steps[:-1] == candidate.trained
        return int(steps[-1]) if more else None

    def enter(self, candidate: Candidate) -> None:
        """Keep it as it now is."""
        self.candidates[candidate.name] = candidate
        write_json(self.directory(candidate) / "candidate.json", candidate)
        (self.directory(candidate) / _BEGUN).unlink(missing_ok=True)

    def reopen(self) -> None:
        """Candidates of earlier calls."""
        for file in sorted((self.path / "candidates").glob("*/candidate.json")):
            found = Candidate.from_json(read_json(file))
            self.candidates[found.name] = found

    def known(self, choices: Choices) -> Candidate:
        """The candidate with these choices: that of earlier calls as it is, or a new one."""
        fresh = Candidate(choices)
        return self.candidates.get(fresh.name, fresh)
