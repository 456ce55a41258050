"""A run that fails leaves a report that begins with the failure and claims nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from niwaki.api.report import report
from niwaki.api.run import run
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_json
from niwaki.recipe import recipe_from
from niwaki.workflow.stages.compress import CompressStage
from niwaki.workflow.stages.evaluate import EvaluateStage
from niwaki.workflow.stages.export import ExportStage
from niwaki.workflow.stages.train import TrainStage
from niwaki.workflow.stages.verdict import VerdictStage

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits"},
    "model": {"name": "dcgan", "width": 8, "features": 16, "latent": 8},
    "train": {"steps": 4, "batch": 32, "log_every": 2, "ema": 0.5},
    "evaluate": {"features": ["random"], "n": 200, "metrics": ["frechet", "copying_test"]},
    "compress": {"steps": [{"kind": "prune", "ratio": 0.5}], "measure": False},
    "export": {"repeats": 1, "memory": False, "batches": [1]},
}


def page(path: Path) -> str:
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", (path / "report.html").read_text(), flags=re.DOTALL)
    return " ".join(text.split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(recipe_from(TINY), out=tmp_path_factory.mktemp("finished") / "tiny").path


CHANGE = {
    EvaluateStage: "evaluate.seed=9",
    CompressStage: "compress.steps.0.ratio=0.3",
    ExportStage: "export.repeats=2",
    VerdictStage: "export.threads=1",
}


@pytest.mark.parametrize(
    "error", [NiwakiError("the disk is <full>"), pytest.param(KeyError("surprise"), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("stage", list(CHANGE))
def test_the_report_begins_with_the_failure(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Any, error: Exception
) -> None:
    """Also where an earlier call left a verdict: it was of another recipe."""
    path = tmp_path / "tiny"
    shutil.copytree(finished, path)

    def work(self: Any, context: Any, state: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(stage, "work", work)
        if stage is VerdictStage:  # measuring with other threads is not what is tried here
            patch.setattr(ExportStage, "run", lambda self, context, again=False: False)
        with pytest.raises(type(error)):
            run(path, [CHANGE[stage]])
    said = page(path)
    assert f"This run failed in the stage “{stage.name}”" in said
    assert said.index("This run failed") < 200
    assert ("the disk is &lt;full&gt;" if isinstance(error, NiwakiError) else "surprise") in said
    for claim in ("may be released", "lost no", "no loss", "The bundle is"):
        assert claim not in said
    assert "not measured" in said.lower()
    assert read_json(path / "failure.json")["stage"] == stage.name
    report(path)
    assert "This run failed" in page(path), "writing the page again does not hide it"


def test_the_next_run_that_ends_well_takes_it_away(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny"
    shutil.copytree(finished, path)
    with monkeypatch.context() as patch:
        patch.setattr(VerdictStage, "work", lambda *_: 1 / 0)
        (path / "stages" / "verdict.json").unlink()
        with pytest.raises(ZeroDivisionError):
            run(path)
    assert "This run failed" in page(path)
    run(path)
    assert "This run failed" not in page(path)
    assert not (path / "failure.json").exists()


def test_a_call_that_is_refused_writes_no_report(tmp_path: Path, finished: Path) -> None:
    before = (finished / "report.html").read_bytes()
    with pytest.raises(CallError):
        run(finished, ["train.lr=1"])
    assert (finished / "report.html").read_bytes() == before
    with pytest.raises(CallError):
        run(
            recipe_from({**TINY, "data": {"source": "folder", "path": str(tmp_path / "none")}}),
            out=tmp_path / "r",
        )
    assert not (tmp_path / "r" / "report.html").exists()


def test_a_training_that_fails_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(self: Any, context: Any, state: Any) -> None:
        raise NiwakiError("a loss was NaN")

    monkeypatch.setattr(TrainStage, "work", work)
    with pytest.raises(NiwakiError, match="NaN"):
        run(recipe_from(TINY), out=tmp_path / "tiny")
    assert "This run failed in the stage “train” a loss was NaN" in page(tmp_path / "tiny")
