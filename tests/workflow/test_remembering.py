"""A model that was trained on from another one is judged by the data of that one, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import niwaki
from niwaki.cli.main import app
from niwaki.core.store import read_json
from niwaki.data import DataConfig, load
from niwaki.recipe import load_recipe
from niwaki.report.write import write_report
from niwaki.training import TrainConfig
from niwaki.workflow.remembering import remembered_from
from niwaki_runtime.errors import CallError

MODEL = {"name": "vae", "latent": 4, "width": 4, "conditional": False}
JUDGED = {"features": ["random"], "metrics": ["frechet", "precision", "recall"], "n": 64}
BASE: dict[str, Any] = {
    "name": "base", "data": {"source": "digits"}, "model": MODEL, "evaluate": JUDGED,
    "train": {"steps": 400, "batch": 64, "lr": 3e-3, "checkpoint_every": 0},
}  # fmt: skip
TUNED: dict[str, Any] = {
    **BASE, "name": "tuned", "data": {"source": "arrays", "path": "inverted.npz"},
    "train": {**BASE["train"], "steps": 100, "init_from": "runs/base", "remember": "runs/base"},
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").mkdir()
    for recipe in (BASE, TUNED):
        (tmp_path / "recipes" / f"{recipe['name']}.yaml").write_text(yaml.safe_dump(recipe))
    for name, side in (("inverted", 8), ("wide", 16)):
        levels = load(DataConfig(source="digits")).train.columns["x"].data[:400].numpy()
        x = np.kron(255 - 15 * levels, np.ones((1, 1, side // 8, side // 8), dtype=np.uint8))
        np.savez(tmp_path / f"{name}.npz", x=x.astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_it_is_the_comparison_by_the_data_before(here: Path) -> None:
    niwaki.train("recipes/tuned.yaml", progress=False)
    found = niwaki.evaluate("runs/tuned", progress=False)["remembered"]
    compared = niwaki.compare("runs/base", "runs/tuned", data="runs/base", progress=False)
    assert found["paired"] is True
    assert found["n"] == JUDGED["n"]
    for part in ("verdict", "before", "after"):
        assert found[part] == compared[part], part
    assert set(found["verdict"]) == {"fidelity", "diversity"}
    assert found["before"]["random"]["frechet"]["value"] < found["after"]["random"]["frechet"]["value"]
    write_report(Path("runs/tuned"))
    page = Path("runs/tuned/report.html").read_text()
    assert "What was remembered" in page
    said = CliRunner().invoke(app, ["evaluate", "runs/tuned"])
    assert said.exit_code == 0
    assert "What was remembered" in said.output
    stamp = read_json(Path("runs/tuned/stages/evaluate.json"))["finished"]
    niwaki.evaluate("runs/tuned", progress=False)
    assert read_json(Path("runs/tuned/stages/evaluate.json"))["finished"] == stamp
    config = load_recipe("recipes/tuned.yaml").train
    before = remembered_from(config)
    Path("runs/base/model/model.safetensors").write_bytes(b"another")
    assert remembered_from(config) != before


@pytest.mark.slow
def test_data_of_another_shape_are_left_out_with_the_reason(here: Path) -> None:
    other = {
        **TUNED,
        "train": {**TUNED["train"], "remember": {"source": "arrays", "path": "wide.npz"}},
    }
    niwaki.train(other, out="runs/tuned", progress=False)
    found = niwaki.evaluate("runs/tuned", progress=False)
    assert found["trained"]
    assert "left_out" in found["remembered"]
    write_report(Path("runs/tuned"))
    assert "Left out" in Path("runs/tuned/report.html").read_text()


def test_nothing_is_remembered_of_nothing() -> None:
    with pytest.raises(CallError, match="give 'init_from'"):
        TrainConfig(remember="runs/base")
