from __future__ import annotations

from pathlib import Path

import pytest

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import hash_json, read_json, write_json
from niwaki.recipe import Recipe, load_recipe, recipe_from
from niwaki.workflow.run_directory import RunDirectory


@pytest.fixture
def recipe() -> Recipe:
    return recipe_from(
        {"name": "tiny", "data": {"source": "digits"}, "model": {"name": "dcgan"}, "train": {"steps": 5}}
    )


def test_the_resolved_recipe_and_the_record_are_written(recipe: Recipe, tmp_path: Path) -> None:
    run = RunDirectory.create(recipe, tmp_path / "run")
    with run.hold():
        pass
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == recipe
    record = read_json(tmp_path / "run" / "run.json")
    assert record["name"] == "tiny"
    assert record["seed"] == 0
    assert {"niwaki", "torch", "numpy", "python"} <= record["versions"].keys()
    assert RunDirectory.open(tmp_path / "run").recipe == recipe


def test_the_default_place_is_runs_and_the_name(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = RunDirectory.create(recipe)
    assert (found.path, repr(found)) == (Path("runs/tiny"), "<run runs/tiny>")


def test_a_stage_holds_while_its_inputs_are_the_same_and_its_outputs_are_there(
    recipe: Recipe, tmp_path: Path
) -> None:
    run = RunDirectory.create(recipe, tmp_path / "run")
    inputs = {"train": {"steps": 5, "lr": 0.1}, "seed": 0}
    output = run.path / "out.txt"
    with run.hold():
        assert not run.holds("train", inputs)
        with run.working("train", inputs) as state:
            assert not run.holds("train", inputs), "a stage at work does not hold"
            output.write_text("done")
            state |= {"result": "abc", "outputs": (output,)}
    run = RunDirectory.open(tmp_path / "run")
    assert run.holds("train", {"seed": 0, "train": {"lr": 0.1, "steps": 5}}), "the order of keys is nothing"
    assert run.result("train") == "abc"
    changed = {"train": {"steps": 6, "lr": 0.1}, "seed": 0, "new": 1}
    assert not run.holds("train", changed)
    assert run.changed("train", changed) == ["train.steps", "new"]
    output.unlink()
    assert not run.holds("train", inputs)


def test_a_stage_that_fails_stays_started(recipe: Recipe, tmp_path: Path) -> None:
    run = RunDirectory.create(recipe, tmp_path / "run")
    with run.hold(), pytest.raises(ZeroDivisionError), run.working("train", {"a": 1}):
        _ = 1 / 0
    assert RunDirectory.open(tmp_path / "run").stage("train")["status"] == "started"


def test_places_that_are_no_runs_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(CallError, match="holds other things than a run"):
        RunDirectory.create(recipe, other)
    with pytest.raises(CallError, match="is a file"):
        RunDirectory.create(recipe, other / "thesis.txt")
    with pytest.raises(NiwakiError, match="cannot be made"):
        RunDirectory.create(recipe, other / "thesis.txt" / "run")
    with pytest.raises(CallError, match=r"is not a run directory \(it has no run.json\)"):
        RunDirectory.open(other)
    assert (other / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"format": 1, "legs": {', "is not readable JSON"),
        ("[]", "is not the record of a run"),
        ('{"legs": {}}', "is not the record of a run"),
        ('{"format": 99, "legs": {}}', "was written by a newer niwaki"),
    ],
)
def test_a_broken_record_is_one_sentence(recipe: Recipe, tmp_path: Path, text: str, sentence: str) -> None:
    run = RunDirectory.create(recipe, tmp_path / "run")
    with run.hold():
        pass
    (run.path / "run.json").write_text(text)
    for open_it in (lambda: RunDirectory.open(run.path), lambda: RunDirectory.create(recipe, run.path)):
        with pytest.raises(NiwakiError) as error:
            open_it()
        assert sentence in str(error.value)
        assert "\n" not in str(error.value)


def test_the_stages_of_a_run_of_the_first_edition_are_known(recipe: Recipe, tmp_path: Path) -> None:
    """Its `run.json` kept them; what a stage does now is written to a file of its own."""
    run = RunDirectory.create(recipe, tmp_path / "run")
    with run.hold():
        pass
    inputs = {"seed": 0}
    record = read_json(run.path / "run.json")
    legs = {"train": {"status": "done", "inputs": hash_json(inputs), "result": "abc", "outputs": []}}
    write_json(run.path / "run.json", {**record, "format": 1, "legs": legs})
    old = RunDirectory.open(run.path)
    assert old.holds("train", inputs)
    assert old.result("train") == "abc"
    assert old.stage("evaluate") == {"status": "missing"}
    with old.working("train", {"seed": 1}) as state:
        state["result"] = "def"
    assert RunDirectory.open(run.path).result("train") == "def"


def test_no_stage_writes_the_file_of_another(recipe: Recipe, tmp_path: Path) -> None:
    run = RunDirectory.create(recipe, tmp_path / "run")
    with run.working("train", {}) as state:
        state["result"] = "abc"
    before = (run.path / "stages" / "train.json").read_bytes()
    with run.working("evaluate", {}) as state:
        state["result"] = "def"
    assert (run.path / "stages" / "train.json").read_bytes() == before
