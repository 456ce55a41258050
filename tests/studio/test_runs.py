"""The page of runs: a folder that grows, courses that are read as they come, and what tells runs apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from niwaki.workflow.lock import is_locked, locked


def run(path: Path, rate: float = 0.001, steps: int = 3) -> Path:
    (path / "stages").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"format": 2, "name": path.name, "created": "2026"}))
    recipe = {"name": path.name, "data": {"source": "digits"}, "model": {"name": "mlp-gan"}}
    recipe["train"] = {"optimizers": {"default": {"name": "adamw", "lr": rate}}}
    (path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    rows = [{"step": i, "stage": "main", "loss": 1.0 / i, "nan": float("nan")} for i in range(1, steps + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_folder_of_runs_begins_with_their_page_and_shows_those_that_come(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    server = opened(tmp_path / "runs")
    first = server.client.get("/", follow_redirects=True)
    assert first.url.path == "/runs"
    assert ">Samples</a>" not in first.text, "there is no model yet"
    assert server.client.get("/runs/table").json()["runs"] == []
    place = run(tmp_path / "runs" / "one")
    (found,) = server.client.get("/runs/table").json()["runs"]
    assert (found["path"], found["name"], found["going"]) == (str(place), "one", False)
    with locked(place):
        assert is_locked(place)
        (found,) = server.client.get("/runs/table").json()["runs"]
        assert found["going"]
    assert not is_locked(place)


def test_courses_come_row_by_row(opened: Callable[..., Any], tmp_path: Path) -> None:
    place = run(tmp_path / "runs" / "one")
    server = opened(tmp_path / "runs")
    found = server.post("/runs/courses", runs={str(place): 0}).json()
    assert found["names"] == ["loss"]
    course = found["runs"][str(place)]
    assert course["rows"][1] == {"step": 2, "stage": "main", "loss": 0.5}
    with (place / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 0.2}\n')
    later = server.post("/runs/courses", runs={str(place): course["at"]}).json()
    assert later["runs"][str(place)]["rows"] == [{"step": 4, "loss": 0.2}]


def test_settings_that_differ_are_named_and_other_directories_are_not_read(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    one, other = run(tmp_path / "runs" / "one"), run(tmp_path / "runs" / "other", rate=0.01)
    apart = run(tmp_path / "apart")
    server = opened(tmp_path / "runs")
    found = server.post("/runs/differences", runs=[str(one), str(other)]).json()["settings"]
    assert found == {"train.optimizers.default.lr": ["0.001", "0.01"]}
    for path, body in (("courses", {str(apart): 0}), ("differences", [str(apart)]), ("courses", {})):
        refused = server.post(f"/runs/{path}", runs=body)
        assert refused.status_code == 400
        assert "run" in refused.json()["error"]["message"]
