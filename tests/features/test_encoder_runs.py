"""`niwaki train` of an encoder, from the recipe to the run; everything else about it is refused."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from niwaki.cli.main import status
from niwaki.core.contract import CallError, Real
from niwaki.core.store import read_json
from niwaki.data import Dataset
from niwaki.features import build, files_of, load_encoder
from niwaki.recipe import dump_recipe, load_recipe, recipe_from

TINY: dict[str, Any] = {
    "data": {"source": "digits"},
    "model": {"name": "simclr", "width": 16, "features": 16, "augment": {"rotate": 5}},
    "train": {"steps": 6, "batch": 32, "log_every": 2, "checkpoint_every": 3, "precision": "fp32"},
}
SENTENCE = "'simclr' is an encoder: it can be trained and used as features, not sampled"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from niwaki.api.train import train

    return train(recipe_from({**TINY, "name": "tiny"}), out=tmp_path_factory.mktemp("run") / "tiny").path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def test_the_own_recipe_is_whole_and_reads_back_the_same(tmp_path: Path) -> None:
    found = load_recipe("digits-simclr", ["train.steps=3"])
    assert found.model["name"] == "simclr"
    assert found.encodes
    assert found.model["augment"]["flip"] is False, "defaults are written out"
    (tmp_path / "again.yaml").write_text(dump_recipe(found))
    assert load_recipe(tmp_path / "again.yaml") == found
    assert not load_recipe("digits-gan").encodes


def test_train_writes_a_run_and_says_how_good_the_features_are(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert status(["train", str(recipe), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["steps"] == 6
    assert set(said["probe"]) == {"linear", "knn"}
    assert set(said["probe"]["knn"]) == {"validation", "test"}
    assert 0.3 < said["probe"]["knn"]["test"] <= 1.0
    assert read_json(out / "model" / "model.json")["kind"] == "encoder"
    finished = read_json(out / "stages" / "train.json")["finished"]
    assert status(["train", str(out)]) == 0
    assert "20 neighbours:" in capsys.readouterr().out
    assert read_json(out / "stages" / "train.json")["finished"] == finished, "nothing was left to do"
    weights = (out / "model" / "model.safetensors").read_bytes()
    assert status(["train", str(out), "--fresh"]) == 0
    assert (out / "model" / "model.safetensors").read_bytes() == weights, "the same recipe, the same weights"


def test_the_run_serves_as_features(run: Path, digits: Dataset) -> None:
    (extractor,) = build([str(run)], digits)
    assert extractor.dim == 16
    assert extractor.probe == read_json(run / "training.json")["probe"]
    assert load_encoder(run).config.width == 16


def test_an_encoder_of_bounded_values_serves_data_without_bounds_and_no_others(
    run: Path, digits: Dataset
) -> None:
    """Runs of the time when the range of vectors was what they happened to reach are still of use."""

    def within(low: float, high: float) -> Dataset:
        columns = {**digits.spec.columns, "x": replace(digits.spec.x, values=Real(low, high))}
        return replace(digits, spec=replace(digits.spec, columns=columns))

    assert build([str(run)], within(-math.inf, math.inf))[0].dim == 16
    with pytest.raises(CallError, match=r"in -1 … 1, the data have .* in 0 … 5"):
        build([str(run)], within(0.0, 5.0))


def test_features_named_by_their_place_are_known_by_their_files(run: Path, tmp_path: Path) -> None:
    assert files_of("random") == files_of("simclr") == files_of("nothing/there") == ""
    assert files_of("dinov2:facebook/dinov2-base") == ""
    shutil.copytree(run / "model", tmp_path / "model")
    first = files_of(str(run))
    assert len(first) == 64
    assert files_of(str(tmp_path)) == files_of(str(tmp_path / "model")) == first
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert files_of(str(tmp_path)) != first, "trained again"


def test_an_evaluation_depends_on_the_encoder_that_looked(run: Path, tmp_path: Path) -> None:
    from niwaki.workflow.reporter import Quiet
    from niwaki.workflow.run_context import RunContext
    from niwaki.workflow.run_directory import RunDirectory
    from niwaki.workflow.stages.evaluate import EvaluateStage

    shutil.copytree(run / "model", tmp_path / "encoder" / "model")
    made = {**TINY, "model": {"name": "dcgan"}, "name": "gan"}
    features = {"evaluate": {"features": ["random", str(tmp_path / "encoder")]}}

    def inputs(more: dict[str, Any]) -> dict[str, Any]:
        shutil.rmtree(tmp_path / "g", ignore_errors=True)
        run = RunDirectory.create(recipe_from({**made, **more}), tmp_path / "g")
        return EvaluateStage().inputs(RunContext(run, Quiet()))

    before = inputs(features)
    assert inputs(features) == before
    assert "features" not in inputs({}), "what runs recorded before still holds"
    weights = tmp_path / "encoder" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert inputs(features) != before


@pytest.mark.parametrize(
    "words",
    [["run"], ["evaluate"], ["compress"], ["export"], ["sample"]],
    ids=" ".join,
)
def test_what_needs_samples_is_refused(
    words: list[str], run: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "run.json").read_bytes()
    places = [run] if words == ["sample"] else [run, recipe]
    if words == ["export"]:
        places.append(run / "model")
    for place in places:
        assert status([*words, str(place)]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1] == f"niwaki: {SENTENCE}"
    assert (run / "run.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.yaml"], "nothing was made"


def test_a_recipe_cannot_ask_for_more(recipe: Path) -> None:
    with pytest.raises(CallError) as error:
        load_recipe(recipe, ["compress.steps=[{kind: quantize}]"])
    assert str(error.value) == f"{SENTENCE}; take 'compress' out of the recipe"
    with pytest.raises(CallError, match="there is no model 'simclt'; did you mean 'simclr'"):
        load_recipe(recipe, ["model.name=simclt"])
    with pytest.raises(CallError, match="did you mean 'rotate'"):
        load_recipe(recipe, ["model.augment.rotat=5"])


def test_data_that_it_cannot_look_at_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32))
    made = {"data": {"source": "arrays", "path": str(tmp_path / "x.npy")}, "model": {"name": "mae"}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**made, "train": {"steps": 3, "batch": 8}}))
    assert status(["train", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert "none; use 'simclr' or 'moco'" in capsys.readouterr().err


def test_models_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["models", "--json"]) == 0
    listed = {m["name"]: m for m in json.loads(capsys.readouterr().out)["models"]}
    for name in ("simclr", "moco", "mae"):
        assert listed[name]["family"] == "encoder"
        assert listed[name]["summary"].startswith("Learns")
    assert "momentum" in listed["moco"]["settings"]
