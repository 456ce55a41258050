from __future__ import annotations

from pathlib import Path

import pytest

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_json
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
    assert RunDirectory.create(recipe).path == Path("runs/tiny")


def test_a_leg_holds_while_its_inputs_are_the_same_and_its_outputs_are_there(
    recipe: Recipe, tmp_path: Path
) -> None:
    run = RunDirectory.create(recipe, tmp_path / "run")
    inputs = {"train": {"steps": 5, "lr": 0.1}, "seed": 0}
    output = run.path / "out.txt"
    with run.hold():
        assert not run.holds("train", inputs)
        with run.working("train", inputs, (output,)) as record:
            assert not run.holds("train", inputs), "a leg at work does not hold"
            output.write_text("done")
            record["result"] = "abc"
    run = RunDirectory.open(tmp_path / "run")
    assert run.holds("train", {"seed": 0, "train": {"lr": 0.1, "steps": 5}}), "the order of keys is nothing"
    assert run.result("train") == "abc"
    changed = {"train": {"steps": 6, "lr": 0.1}, "seed": 0, "new": 1}
    assert not run.holds("train", changed)
    assert run.changed("train", changed) == ["train.steps", "new"]
    output.unlink()
    assert not run.holds("train", inputs)


def test_a_leg_that_fails_stays_started(recipe: Recipe, tmp_path: Path) -> None:
    run = RunDirectory.create(recipe, tmp_path / "run")
    with run.hold(), pytest.raises(ZeroDivisionError), run.working("train", {"a": 1}, ()):
        _ = 1 / 0
    assert RunDirectory.open(tmp_path / "run").leg("train")["status"] == "started"


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
        ('{"format": 1}', "is not the record of a run"),
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
