"""Too little data: said before the work, and in an inconclusive verdict after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from niwaki.api.run import run
from niwaki.core.store import read_json
from niwaki.data import DataConfig, load
from niwaki.evaluation import EvaluateConfig
from niwaki.evaluation.equivalence.margins import enough
from niwaki.recipe import recipe_from
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.judging import undecided
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.sufficiency import lacking


def pictures(path: Path, count: int) -> Path:
    x = np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    np.savez(path, x=x)
    return path


class Notes(Quiet):
    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.stages: list[str] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.stages.append(name)

    def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None: ...

    def note(self, text: str) -> None:
        self.found.append((self.stages[-1], text))


@pytest.mark.parametrize(
    ("count", "fractions", "n", "said"),
    [
        (
            40,
            (0.7, 0.1, 0.2),
            50,
            "at least 21 test samples are needed, and there are 8 of 40 in all: give 105",
        ),
        (90, (0.7, 0.1, 0.2), 60, "or more samples, or raise the last of data.fractions"),
        (60, (0.8, 0.1, 0.1), 50, "there are 6 of 60 in all: give 210 or more"),
        (40, (0.7, 0.1, 0.2), None, "evaluate.n is 8 (as many as there are test samples): set evaluate.n=42"),
        (60, (0.4, 0.3, 0.3), 50, ""),
        (140, (0.7, 0.1, 0.2), 50, ""),
        (300, (0.7, 0.1, 0.2), None, ""),
    ],
)
def test_what_is_lacking_is_said_in_the_recipes_keys(
    tmp_path: Path, count: int, fractions: tuple[float, float, float], n: int | None, said: str
) -> None:
    path = str(pictures(tmp_path / "d.npz", count))
    data = DataConfig.model_validate({"source": "arrays", "path": path, "fractions": fractions})
    context = EvaluationContext(data, EvaluateConfig(features=("random",), n=n))
    assert said in lacking(context)
    assert bool(lacking(context)) == bool(said)
    splits = load(data)
    assert enough(len(splits.test), len(splits.validation), context.n) == (not said)


@pytest.mark.parametrize(
    ("verdicts", "axes"),
    [
        ({"samples": {"left_out": "too few"}}, {"fidelity", "diversity"}),
        (
            {"likelihood": {"left_out": "no program"}, "samples": {"left_out": "too few"}},
            {"fidelity", "diversity"},
        ),
        ({"predictions": {"left_out": "too few"}}, {"fidelity"}),
        ({}, set()),
        ({"samples": {}}, set()),
    ],
)  # fmt: skip
def test_without_any_verdict_it_is_inconclusive_with_the_reason(verdicts: Any, axes: set[str]) -> None:
    found = undecided(verdicts)
    assert found.keys() == axes
    assert all(v["outcome"] == "inconclusive" and "too few" in v["text"] for v in found.values())


def test_a_run_that_cannot_judge_says_so_first_and_still_reports(tmp_path: Path) -> None:
    recipe = recipe_from(
        {
            "name": "few",
            "data": {"source": "arrays", "path": str(pictures(tmp_path / "d.npz", 60))},
            "model": {"name": "dcgan", "width": 8, "features": 16, "latent": 8},
            "train": {"steps": 2, "batch": 8},
            "evaluate": {"features": ["random"], "n": 50, "metrics": ["frechet"]},
            "export": {"repeats": 1, "memory": False, "batches": [1]},
        }
    )
    heard = Notes()
    made = run(recipe, out=tmp_path / "few", reporter=heard)
    first = next(stage for stage, text in heard.found if "this run will be inconclusive" in text)
    assert first == "data", "before anything is trained"
    verdict = read_json(made.path / "verdict.json")["verdict"]
    assert {axis: v["outcome"] for axis, v in verdict.items()} == {
        "fidelity": "inconclusive",
        "diversity": "inconclusive",
    }
    assert "test samples are too few for a verdict" in verdict["fidelity"]["text"]
    assert "inconclusive" in (made.path / "report.html").read_text()
