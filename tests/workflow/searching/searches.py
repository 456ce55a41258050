"""Runs and searches as they lie on the disk, without one that was carried out."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from niwaki.compression.search.choices import Choices
from niwaki.core.store import write_json
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.rehearsal import Loss
from niwaki.workflow.searching.state import ASKED

LIMITS = {"size": 20e3, "latency": 0.5}


def candidate(ratio: float, size: float, value: float, outcome: str) -> Candidate:
    losses = {"fidelity": Loss(value, (value - 0.2, value + 0.2), outcome)}
    made = Candidate(Choices({"stem": ratio}, {"stem": 8}, origin=f"{ratio:g} of the width"))
    made.predicted, made.losses = {"latency": size / 50e3}, losses
    made.measured = {"size": size}
    return made


def searched(runs: Path, name: str = "one") -> tuple[Path, Path]:
    """A run with a search that goes on, and the search's study."""
    search = run(run(runs / name) / "search")
    study = search / "study" / "0123"
    study.mkdir(parents=True)
    (study / ASKED).write_text(
        json.dumps({"budget": "size=20kB", "limits": LIMITS, "seconds": 60, "began": 0})
    )
    return search, study


def enter(study: Path, made: Candidate) -> None:
    write_json(study / "candidates" / made.name / "candidate.json", made)


def run(path: Path, rate: float = 0.001, steps: int = 3) -> Path:
    (path / "stages").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"format": 2, "name": path.name, "created": "2026"}))
    recipe = {"name": path.name, "data": {"source": "digits"}, "model": {"name": "mlp-gan"}}
    recipe["train"] = {"optimizers": {"default": {"name": "adamw", "lr": rate}}}
    (path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    rows = [{"step": i, "stage": "main", "loss": 1.0 / i, "nan": float("nan")} for i in range(1, steps + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
