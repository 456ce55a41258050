"""What is written in a run directory reaches every tracker once, in order, whatever one of them does."""

from __future__ import annotations

import json
import shutil

import pytest

from niwaki.recipe import load_recipe
from niwaki.tracking import Following, TrackConfig, Tracker, tracker, tracker_names
from niwaki.tracking.following import leaves
from niwaki_runtime.errors import CallError

HEARD: list[tuple] = []


@tracker("heard")
class Heard(Tracker):
    needs, extra = "json", "heard"

    def __init__(self, about):
        HEARD.append(("open", about.identity))

    def scalars(self, step, values):
        HEARD.append((step, dict(values)))

    def picture(self, name, step, png):
        HEARD.append((name, step, png))

    def text(self, name, step, text):
        HEARD.append((name, step, text))

    def summary(self, values):
        HEARD.append(("summary", dict(values)))

    def close(self):
        HEARD.append(("close",))


@tracker("faulty")
class Faulty(Heard):
    def scalars(self, step, values):
        raise OSError("the disk is full")


@pytest.fixture(autouse=True)
def silence():
    HEARD.clear()


def follow(run, *names, notes=None):
    configs = [TrackConfig(name=name) for name in names]
    return Following(run, "mine", {"seed": 1}, configs, (notes if notes is not None else []).append)


def write(run, *lines):
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_every_line_is_handed_on_once_and_only_its_finite_numbers(tmp_path):
    write(tmp_path, {"step": 10, "stage": "main", "loss": 2.0}, {"step": 10, "validation/loss": 3})
    with follow(tmp_path, "heard") as following:
        following.look(always=True)
        following.look(always=True)
    assert HEARD[1:] == [(10, {"loss": 2.0}), (10, {"validation/loss": 3.0}), ("close",)]


def test_what_a_resumed_training_writes_again_is_passed_over(tmp_path):
    lines = [{"step": s, "loss": float(s)} for s in (10, 20, 30)]
    write(tmp_path, *lines)
    with follow(tmp_path, "heard"):
        pass
    write(tmp_path, *lines[:2])  # cut back to the checkpoint
    with follow(tmp_path, "heard") as following:
        following.look(always=True)
        write(tmp_path, *lines, {"step": 40, "loss": 40.0})
    steps = [heard[0] for heard in HEARD if isinstance(heard[0], int)]
    assert steps == [10, 20, 30, 40]
    assert len({heard[1] for heard in HEARD if heard[0] == "open"}) == 1  # one run to the tracker


def test_a_training_begun_anew_is_another_run(tmp_path):
    write(tmp_path, {"step": 10, "loss": 1.0})
    with follow(tmp_path, "heard") as following:
        following.look(always=True)
        following.forget()
        write(tmp_path, {"step": 10, "loss": 2.0})
    assert [h for h in HEARD if isinstance(h[0], int)] == [(10, {"loss": 1.0}), (10, {"loss": 2.0})]
    assert len({heard[1] for heard in HEARD if heard[0] == "open"}) == 2


def step_of_plan(run, name, key, *lines, done=False):
    """A training within a step of a plan, or, where it is done, what such a step leaves."""
    folder = run / "compressed" / "steps" / name
    shutil.rmtree(folder, ignore_errors=True)
    place = folder if done else folder / "training"
    place.mkdir(parents=True)
    (folder / "begun.json").write_text(json.dumps({"key": key}))
    write(place, *lines)


def test_trainings_of_a_plan_follow_on_that_of_the_run_and_no_line_comes_twice(tmp_path):
    lines = [{"step": s, "stage": "main", "loss": float(s)} for s in (5, 10, 15)]
    write(tmp_path, {"step": 100, "loss": 1.0})
    step_of_plan(tmp_path, "2-finetune", "a", *lines[:2])
    with follow(tmp_path, "heard"):
        pass
    step_of_plan(tmp_path, "2-finetune", "a", lines[0])  # cut back to its checkpoint, then written again
    with follow(tmp_path, "heard") as following:
        following.look(always=True)
        step_of_plan(tmp_path, "2-finetune", "a", *lines, done=True)
        following.look(always=True)
        step_of_plan(tmp_path, "10-finetune", "b", lines[0])
    heard = [(h[0], next(iter(h[1].items()))) for h in HEARD if isinstance(h[0], int)]
    assert heard == [
        (100, ("loss", 1.0)),
        (105, ("compress/2-finetune/loss", 5.0)),
        (110, ("compress/2-finetune/loss", 10.0)),
        (115, ("compress/2-finetune/loss", 15.0)),
        (120, ("compress/10-finetune/loss", 5.0)),
    ]


def test_another_plan_is_another_training_and_one_of_an_older_model_is_nobodys(tmp_path):
    write(tmp_path, {"step": 100, "loss": 1.0})
    step_of_plan(tmp_path, "1-distill", "a", {"step": 5, "loss": 5.0})
    with follow(tmp_path, "heard") as following:
        following.look(always=True)
        step_of_plan(tmp_path, "1-distill", "b", {"step": 5, "loss": 6.0})
        following.look(always=True)
        following.forget()
        write(tmp_path, {"step": 50, "loss": 2.0})
        following.look(always=True)
        step_of_plan(tmp_path, "1-distill", "c", {"step": 5, "loss": 7.0})
    heard = [(h[0], *h[1].values()) for h in HEARD if isinstance(h[0], int)]
    assert heard == [(100, 1.0), (105, 5.0), (110, 6.0), (50, 2.0), (55, 7.0)]


def test_a_tracker_that_fails_is_told_once_and_stops_neither_the_work_nor_the_others(tmp_path):
    write(tmp_path, {"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0})
    notes: list[str] = []
    with follow(tmp_path, "faulty", "heard", notes=notes):
        pass
    assert notes == ["tracking by faulty has stopped (OSError: the disk is full)"]
    assert [heard[0] for heard in HEARD if isinstance(heard[0], int)] == [1, 2]


def test_a_record_becomes_its_finite_numbers_and_short_words():
    record = {"a": {"b": 1, "c": float("nan")}, "d": "loss", "e": [1, 2], "f": True, "g": "x" * 1000}
    assert leaves(record, "verdict") == {"verdict/a/b": 1.0, "verdict/d": "loss", "verdict/f": "true"}


def test_a_recipe_names_trackers_with_or_without_settings():
    recipe = load_recipe("digits-gan", ["track=[tensorboard, {name: wandb, project: trees}]"])
    assert [(one.name, one.project) for one in recipe.track] == [
        ("tensorboard", "niwaki"),
        ("wandb", "trees"),
    ]
    assert "track" not in load_recipe("digits-gan").to_yaml()  # what was written before keeps its form
    assert {"mlflow", "tensorboard", "trackio", "wandb"} <= set(tracker_names())


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("track=[tensorbord]", "there is no tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ("track=[heard, heard]", "names 'heard' twice"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused_in_a_sentence(said, error):
    with pytest.raises(CallError, match=error.replace("?", r"\?")):
        load_recipe("digits-gan", [said])


def test_what_is_not_installed_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(Heard, "needs", "no_such_module")
    with pytest.raises(CallError, match=r"needs the package 'no_such_module'; install it by pip install"):
        follow(tmp_path, "heard").check()
