"""Runs beside each other: lines, differences of recipes, courses, a DVC pipeline."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from PIL import Image

import niwaki
from niwaki.workflow.code_version import code_version
from niwaki.workflow.runs.comparing import settings_that_differ
from niwaki.workflow.runs.listing import Line, find_runs, line_of, list_runs, sort_lines
from niwaki_runtime.errors import CallError, NiwakiError


def a_run(path: Path, *, lr: float = 1e-3, loss: float = 1.0, **record: object) -> Path:
    """What `niwaki run` leaves of a finished run, as far as a list of runs reads it."""
    path.mkdir(parents=True)
    recipe = {"name": path.name, "seed": 3, "data": {"source": "digits"}, "model": {"name": "vae"}}
    recipe["train"] = {"steps": 10, "lr": lr}
    write = lambda name, value: (path / name).write_text(json.dumps(value))  # noqa: E731
    write("run.json", {"format": 2, "created": record.get("created", "2026-01-01"), "name": path.name})
    (path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    write("training.json", {"version": 2, "steps": 10, "parameters": 1234})
    rows = [{"step": k, "all/loss": loss / (k + 1), "lr/all": lr} for k in range(10)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure = {"name": "bits per value", "value": loss, "better": "lower"}
    section = {"judge": "likelihood", "title": "likelihood", "figures": [figure]}
    write("evaluation.json", {"version": 2, "sections": [section]})
    measured = {"before": {"bytes": 1000}, "after": {"bytes": 250}}
    write("export.json", {"version": 2, "measured": measured})
    verdict = {"fidelity": {"outcome": "no loss", "text": "…"}, "diversity": {"outcome": "loss", "text": "…"}}
    write("verdict.json", {"version": 2, "verdict": verdict})
    (path / "stages").mkdir()
    done = ("train", "evaluate", "compress", "export", "verdict", "report")[: int(record.get("stages", 6))]
    for name in done:
        state = {"status": "done", "seconds": 2.0, "result": "abcdef" * 8}
        (path / "stages" / f"{name}.json").write_text(json.dumps(state))
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    a_run(tmp_path / "runs" / "first", loss=2.0, created="2026-01-01T10:00")
    a_run(tmp_path / "runs" / "study" / "second", lr=1e-2, loss=1.0, created="2026-01-02T10:00", stages=2)
    return tmp_path / "runs"


def test_a_line_says_what_a_run_came_to(two):
    line = line_of(two / "first")
    assert (line.name, line.model, line.data, line.seed) == ("first", "vae", "digits", 3)
    assert (line.status, line.steps, line.parameters, line.seconds) == ("done", 10, 1234, 12.0)
    assert (line.bytes, line.smaller) == (250, 4.0)
    assert line.verdict == {"fidelity": "no loss", "diversity": "loss"}
    assert line.figures == {"bits per value": {"value": 2.0, "better": "lower", "judge": "likelihood"}}
    assert line.versions["model"] == "abcdefabcdef"


def test_runs_are_found_at_any_depth_and_once(two):
    found = find_runs([two, two / "first", two / "study"])
    assert [path.name for path in found] == ["first", "second"]
    with pytest.raises(CallError, match="not a folder"):
        find_runs([two / "nowhere"])


def test_an_unfinished_run_names_the_next_stage_and_a_failed_one_its_error(two):
    assert line_of(two / "study" / "second").status == "next: compress"
    failure = {"version": 2, "stage": "compress", "error": "no layer can be cut"}
    (two / "first" / "failure.json").write_text(json.dumps(failure))
    assert line_of(two / "first").status == "failed: compress: no layer can be cut"


def test_a_broken_record_has_a_line_and_spoils_no_other(two):
    (two / "first" / "training.json").write_text("{")
    found = niwaki.runs(two, sort="name")
    assert [line["status"].split(":")[0] for line in found["runs"]] == ["unreadable", "next"]


def test_the_newest_or_the_best_come_first(two):
    names = lambda key: [line.name for line in sort_lines(list_runs([two]), key)]  # noqa: E731
    assert names("created") == ["second", "first"]
    assert names("bits per value") == ["second", "first"]  # lower is better
    assert names("name") == ["first", "second"]
    with pytest.raises(CallError, match="cannot be sorted by 'byte'; did you mean 'bytes'"):
        names("byte")


def test_lines_without_a_figure_come_last():
    lines = [Line(Path(n), n, bytes=b) for n, b in (("none", None), ("large", 9), ("small", 1))]
    assert [line.name for line in sort_lines(lines, "bytes")] == ["small", "large", "none"]


def test_only_settings_that_differ_are_compared(two):
    assert settings_that_differ(list_runs([two])) == {"train.lr": [1e-3, 1e-2]}


def test_the_third_run_is_compared_too(two):
    a_run(two / "third", lr=1e-3)
    recipe = two / "third" / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "export: {engine: onnxruntime}\n")
    found = settings_that_differ(list_runs([two]))
    assert found["train.lr"] == [1e-3, 1e-2, 1e-3]
    (key,) = set(found) - {"train.lr"}
    assert key.startswith("export")
    assert found[key][:2] == [None, None]


def test_courses_are_drawn_into_one_picture(two, tmp_path):
    found = niwaki.runs(two, plot=tmp_path / "courses.png")
    assert found["plotted"] == ["all/loss", "lr/all"]
    with Image.open(tmp_path / "courses.png") as picture:
        assert min(picture.size) > 200
    with pytest.raises(CallError, match="no run has a figure 'loss'; there are all/loss"):
        niwaki.runs(two, plot=tmp_path / "x.svg", figures=["loss"])
    with pytest.raises(CallError, match="pictures are written as"):
        niwaki.runs(two, plot=tmp_path / "x.txt")
    assert not (tmp_path / "x.svg").exists()


def test_runs_without_a_course_are_not_drawn(two, tmp_path):
    for file in two.rglob("metrics.jsonl"):
        file.unlink()
    with pytest.raises(NiwakiError, match="no course to draw"):
        niwaki.runs(two, plot=tmp_path / "x.png")


def test_a_pipeline_has_a_stage_for_every_run(two, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    recipe = two / "first" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("source: digits", "source: folder\n  path: ./pictures"))
    niwaki.runs(two, sort="name", dvc="dvc.yaml")
    stages = yaml.safe_load((tmp_path / "dvc.yaml").read_text())["stages"]
    assert list(stages) == ["first", "second"]
    first = stages["first"]
    assert first["cmd"] == "niwaki run runs/first"
    assert first["deps"] == ["runs/first/recipe.yaml", "pictures"]
    assert {"runs/first/first.niwaki": {"persist": True}} in first["outs"]
    assert {"runs/first/verdict.json": {"cache": False}} in first["metrics"]


def test_stages_of_equal_names_are_told_apart(two, tmp_path):
    shutil.copytree(two / "first", two / "again" / "first")
    found = niwaki.runs(two, dvc=tmp_path / "dvc.yaml")
    stages = yaml.safe_load((tmp_path / "dvc.yaml").read_text())["stages"]
    assert len(stages) == len(found["runs"]) == 3


def test_the_code_is_the_commit_of_the_checkout_and_whether_it_changed(tmp_path):
    git = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-c", "user.name=x", "-c", "user.email=x@y", *words],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert code_version(tmp_path) == {}
    git("init", "-q")
    (tmp_path / "model.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=tmp_path, text=True).strip()
    code_version.cache_clear()
    assert code_version(tmp_path) == {"commit": commit, "changed": False}
    (tmp_path / "model.py").write_text("x = 2\n")
    code_version.cache_clear()
    assert code_version(tmp_path) == {"commit": commit, "changed": True}
