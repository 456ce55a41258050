"""What a run was trained from is asked before anything is done, and no training is given up unasked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from niwaki.api.compress import compress
from niwaki.api.evaluate import evaluate
from niwaki.api.export import export
from niwaki.api.run import run
from niwaki.api.train import train
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_json
from niwaki.recipe import load_recipe, recipe_from
from niwaki.training.checkpoint import list_checkpoints
from niwaki.workflow.load import load
from niwaki.workflow.run_directory import RunDirectory


def recipe(folder: Path, steps: int = 6, **train: Any) -> Any:
    return recipe_from(
        {
            "name": "tiny",
            "data": {"source": "folder", "path": str(folder), "size": 8},
            "model": {"name": "vae", "width": 4, "latent": 2, "hidden": 8},
            "train": {"steps": steps, "batch": 8, "checkpoint_every": 3, "log_every": 3, **train},
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures and a finished run on them."""
    where = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for kind in ("a", "b"):
        (where / "pictures" / kind).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(
                where / "pictures" / kind / f"{i}.png"
            )
    train(recipe(where / "pictures", schedule="constant"), out=where / "run")
    return where


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; the recipe names the copied pictures."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "run" / "recipe.yaml").read_text().replace(str(made), str(tmp_path))
    (tmp_path / "run" / "recipe.yaml").write_text(text)
    return tmp_path


def state_of(path: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def replace_a_picture(place: Path) -> None:
    path = place / "pictures" / "a" / "3.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def add_a_picture(place: Path) -> None:
    shutil.copy(place / "pictures" / "a" / "3.png", place / "pictures" / "b" / "99.png")


def nothing(place: Path) -> None:
    pass


def drop_checkpoints(place: Path) -> None:
    shutil.rmtree(place / "run" / "checkpoints")


CHANGES: list[tuple[Callable[[Path], None], list[str], str]] = [
    (nothing, ["data.seed=1"], "data.seed was 0 and is 1"),
    (nothing, ["model.beta=77"], "model.beta was 1.0 and is 77.0"),
    (nothing, ["seed=5"], "seed was 0 and is 5"),
    (nothing, ["train.batch=16"], "train.batch was 8 and is 16"),
    (nothing, ["train.lr=0.1"], "train.lr was 0.0002 and is 0.1"),
    (nothing, ["data.size=4"], "data.size was 8 and is 4"),
    (replace_a_picture, [], "the data (data.content) are not those that it was trained on"),
    (add_a_picture, [], "the data (data.content) are not those that it was trained on"),
    (drop_checkpoints, ["model.beta=77"], "model.beta was 1.0 and is 77.0"),
    (drop_checkpoints, ["train.steps=9"], "train.steps was 6 and is 9"),
]


@pytest.mark.parametrize("verb", [train, run])
@pytest.mark.parametrize(("change", "overrides", "said"), CHANGES)
def test_a_finished_training_is_not_given_up_for_another_one(
    place: Path, verb: Any, change: Callable[[Path], None], overrides: list[str], said: str
) -> None:
    change(place)
    before = state_of(place / "run")
    with pytest.raises(CallError) as refused:
        verb(place / "run", overrides)
    assert "holds a finished training, and " in str(refused.value)
    assert said in str(refused.value)
    assert "--fresh" in str(refused.value)
    assert state_of(place / "run") == before, "a refused call changes nothing"


@pytest.mark.parametrize(("change", "overrides", "said"), CHANGES[:8])
def test_a_stopped_training_is_resumed_with_what_it_was_made_from_alone(
    place: Path, change: Callable[[Path], None], overrides: list[str], said: str
) -> None:
    stop(place / "run")
    change(place)
    before = state_of(place / "run")
    with pytest.raises(CallError) as refused:
        train(place / "run", overrides, resume=True)
    assert "cannot be resumed because" in str(refused.value)
    assert said in str(refused.value)
    with pytest.raises(CallError, match="was stopped at step 3, and "):
        run(place / "run", overrides)
    assert state_of(place / "run") == before


def stop(run_path: Path) -> None:
    """As if the process had been killed after its third step."""
    from niwaki.core.store import write_json

    shutil.rmtree(list_checkpoints(run_path / "checkpoints")[-1])
    shutil.rmtree(run_path / "model")
    (run_path / "training.json").unlink()
    state = read_json(run_path / "stages" / "train.json")
    kept = {key: state[key] for key in ("inputs", "made_from")}
    write_json(run_path / "stages" / "train.json", {"status": "started", **kept})


def test_a_finished_training_is_trained_on_to_the_bits_of_one_at_once(place: Path) -> None:
    with pytest.raises(CallError, match="a finished training of 6 steps, and the recipe now asks for 9"):
        train(place / "run", ["train.steps=9"])
    with pytest.raises(CallError, match="add --resume to train on"):
        run(place / "run", ["train.steps=9"])
    assert load_recipe(place / "run").train.steps == 6  # type: ignore[union-attr]
    train(place / "run", ["train.steps=9"], resume=True)
    train(recipe(place / "pictures", 9, schedule="constant"), out=place / "whole")
    files = [place / name / "model" / "model.safetensors" for name in ("run", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    record = read_json(place / "run" / "training.json")
    assert (record["steps"], record["longer"][0]["at"]) == (9, 6)
    assert load_recipe(place / "run").train.steps == 9  # type: ignore[union-attr]
    assert RunDirectory.open(place / "run").stage("train")["made_from"]["train"]["steps"] == 9


@pytest.mark.parametrize("verb", [compress, evaluate, export])
@pytest.mark.parametrize(
    ("change", "overrides", "said"),
    [
        (nothing, ["train.lr=0.1", "compress.steps=[{kind: prune}]"], "train.lr was 0.0002 and is 0.1"),
        (nothing, ["model.beta=77", "compress.steps=[{kind: prune}]"], "model.beta was 1.0 and is 77.0"),
        (replace_a_picture, ["compress.steps=[{kind: prune}]"], "the data (data.content) are not those"),
    ],
)
def test_verbs_that_do_not_train_take_no_model_for_another(
    place: Path, verb: Any, change: Callable[[Path], None], overrides: list[str], said: str
) -> None:
    change(place)
    before = state_of(place / "run")
    with pytest.raises(CallError, match="was trained by another recipe, for") as refused:
        verb(place / "run", overrides)
    assert said in str(refused.value)
    assert state_of(place / "run") == before


def test_a_stopped_training_can_be_resumed_to_another_length(place: Path) -> None:
    stop(place / "run")
    with pytest.raises(CallError, match="stopped at step 3 of 6 steps, and the recipe now asks for 9"):
        run(place / "run", ["train.steps=9"])
    train(place / "run", ["train.steps=9"], resume=True)
    train(recipe(place / "pictures", 9, schedule="constant"), out=place / "whole")
    files = [place / name / "model" / "model.safetensors" for name in ("run", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_lost_model_comes_back_from_the_checkpoints_of_its_training(place: Path) -> None:
    file = place / "run" / "model" / "model.safetensors"
    before = file.read_bytes()
    shutil.rmtree(file.parent)
    train(place / "run")
    assert file.read_bytes() == before


def test_fresh_begins_again(place: Path) -> None:
    train(place / "run", ["train.steps=3", "model.beta=2"], fresh=True)
    assert read_json(place / "run" / "training.json")["steps"] == 3
    with pytest.raises(CallError, match="choose one of them"):
        train(place / "run", fresh=True, resume=True)


def test_another_recipe_or_a_given_model_does_not_take_the_place_of_a_training(place: Path) -> None:
    other = recipe_from(
        {"name": "other", "data": {"source": "digits"}, "model": {"name": "dcgan"}, "train": {"steps": 3}}
    )
    before = state_of(place / "run")
    with pytest.raises(CallError, match="holds a finished training, and data"):
        train(other, out=place / "run")
    model = load(place / "run")
    with pytest.raises(CallError, match="trained itself; choose another --out"):
        compress(model, data=load_recipe(place / "run").data, out=place / "run")
    assert state_of(place / "run") == before


def test_a_plan_that_was_not_carried_out_is_not_exported(place: Path) -> None:
    """Before anything is written: a float bundle in its place would be taken for the small one."""
    with pytest.raises(NiwakiError, match=r"not carried out yet: run `niwaki compress .* or export .*model"):
        export(place / "run", ["compress.steps=[{kind: quantize}]"])
    assert not list((place / "run").glob("*.niwaki"))
