"""A study from its beginning to its best recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from toy_study import RATES, RECIPE, losses, search

import niwaki
from niwaki.core.contract import CallError, NiwakiError
from niwaki.evaluation.judges.samples import Samples
from niwaki.evaluation.judges.translation import Translation
from niwaki.recipe import load_recipe
from niwaki.workflow.tuning.study import Study

GAN: dict[str, Any] = {**RECIPE, "model": {"name": "mlp-gan", "width": 8, "latent": 4}}


def settings(record: Any) -> list[float]:
    return [row["settings"]["train.lr"] for row in record.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Seven trials, of which TPE chooses those after the third."""
    out = tmp_path_factory.mktemp("study") / "whole"
    recipe = {**RECIPE, "tune": {"startup": 3}}
    return out, search(out, recipe=recipe, trials=7)


def test_the_recipes_own_settings_come_first_and_the_best_is_the_lowest_loss(whole: Any) -> None:
    _, record = whole
    assert record.default == 0
    assert record.trials[0]["settings"] == {"train.lr": 1e-3}
    assert [row["state"] for row in record.trials] == ["complete"] * 7
    assert losses(record)[record.best] == min(losses(record))
    assert record.front == [record.best]


def test_the_best_recipe_is_whole_and_has_the_settings_of_its_trial(whole: Any) -> None:
    out, record = whole
    best = load_recipe(out / "best.yaml")
    assert best.train is not None
    assert best.train.lr == settings(record)[record.best]
    assert best.tune is None
    assert best.model == load_recipe(RECIPE).model
    again = niwaki.train(out / "best.yaml", out=out.parent / "again", progress=False)
    lines = [json.loads(line) for line in (again.path / "metrics.jsonl").read_text().splitlines()]
    held = [line["validation/loss"] for line in lines if "validation/loss" in line]
    assert held[-1] == losses(record)[record.best]  # the same bits as in the trial


def test_what_a_study_leaves(whole: Any) -> None:
    out, record = whole
    kept = json.loads((out / "tuning.json").read_text())
    assert kept["best"] == record.best
    assert kept["split"] == "validation"
    assert sum(record.importance["loss"].values()) == pytest.approx(1.0)
    for picture in ("importance.png", "slices.png"):
        with Image.open(out / picture) as image:
            assert min(image.size) > 100
    assert not (out / "front.png").exists()  # one objective has no front
    weights = sorted(place.parts[-3] for place in out.glob("trials/*/*/model"))
    assert weights == [f"{record.best:04d}"]
    assert not list(out.glob("trials/*/*/checkpoints"))


def test_a_study_that_stops_and_goes_on_suggests_what_one_without_a_break_does(
    whole: Any, tmp_path: Path
) -> None:
    _, record = whole
    recipe = {**RECIPE, "tune": {"startup": 3}}
    search(tmp_path / "study", recipe=recipe, trials=4)
    again = niwaki.tune(tmp_path / "study", trials=7, progress=False)
    assert settings(again) == settings(record)
    assert losses(again) == losses(record)
    other = search(tmp_path / "other", recipe={**RECIPE, "tune": {"startup": 3, "seed": 1}}, trials=3)
    assert settings(other)[0] == settings(record)[0]
    assert settings(other)[1:] != settings(record)[1:3]


def test_a_finished_study_does_nothing_more(whole: Any) -> None:
    out, record = whole
    before = (out / "journal.log").read_bytes()
    assert niwaki.tune(out, progress=False).trials == record.trials
    assert (out / "journal.log").read_bytes().startswith(before)


def test_a_directory_keeps_to_its_study(whole: Any, tmp_path: Path) -> None:
    out, _ = whole
    with pytest.raises(CallError, match=r"something else: .*train\.batch was 16 and is 8"):
        search(out, recipe={**RECIPE, "train": {**RECIPE["train"], "batch": 8}, "tune": {"startup": 3}})
    with pytest.raises(CallError, match=r"something else: tune\.n was 500 and is 60"):
        search(out, recipe={**RECIPE, "tune": {"startup": 3, "n": 60}})
    with pytest.raises(CallError, match="goes on as it began"):
        niwaki.tune(out, ["train.steps=3"], progress=False)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(CallError, match="other things than a study"):
        search(tmp_path)


def test_repeats_are_averaged_and_have_seeds_of_their_own(tmp_path: Path) -> None:
    record = search(tmp_path / "study", trials=1, repeats=2)
    (row,) = record.trials
    one, two = (found["loss"] for found in row["repeats"])
    assert one != two
    assert row["values"]["loss"] == pytest.approx((one + two) / 2)
    assert sorted(p.name for p in (tmp_path / "study/trials/0000").glob("seed-*")) == ["seed-0", "seed-1"]


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    ranges = {"train.clip": [0.0, 1.0], "train.lr": [1e-3, 1e30]}
    record = search(tmp_path / "study", ranges=ranges, trials=6, objectives=["loss"])
    failed = [row for row in record.trials if row["state"] == "fail"]
    assert failed
    assert all(row["settings"]["train.lr"] == 1e30 and "NaN or infinity" in row["why"] for row in failed)
    assert record.trials[record.best]["settings"]["train.lr"] == 1e-3


def test_settings_that_do_not_go_together_fail_alone(tmp_path: Path) -> None:
    ranges = {"train.batch": [16, 18], "train.accumulate": [1, 4]}
    record = search(tmp_path / "study", ranges=ranges, trials=8)
    for row in record.trials:
        refused = row["settings"] == {"train.batch": 18, "train.accumulate": 4}
        assert row["state"] == ("fail" if refused else "complete"), row
    assert any("multiple of devices" in row["why"] for row in record.trials)


def test_where_all_trials_fail_the_study_is_given_up(tmp_path: Path) -> None:
    recipe = {**RECIPE, "train": {**RECIPE["train"], "init_from": str(tmp_path / "nothing")}}
    with pytest.raises(NiwakiError, match=r"first 3 trials all failed, the last one because: .*nothing"):
        search(tmp_path / "study", recipe=recipe, trials=9)


def test_fidelity_and_diversity_make_a_front_and_the_test_split_is_not_touched(tmp_path: Path) -> None:
    recipe = {**RECIPE, "tune": {"n": 60}}
    record = search(tmp_path / "study", recipe=recipe, objectives=None, ranges={"train.lr": [1e-3, 1e-1]})
    assert [one["name"] for one in record.objectives] == ["fidelity", "diversity"]
    assert record.best in record.front
    points = [tuple(row["values"].values()) for row in record.trials]
    for number, point in enumerate(points):
        beaten = any(all(a >= b for a, b in zip(q, point, strict=True)) and q != point for q in points)
        assert beaten == (number not in record.front)
    recipes = sorted(p.name for p in (tmp_path / "study/front").iterdir())
    assert recipes == [f"trial-{number:04d}.yaml" for number in record.front]
    assert (tmp_path / "study/front.png").exists()
    assert Study.open(tmp_path / "study").targets[0].figure == "clipped density (random)"


def test_a_constraint_decides_what_is_best(tmp_path: Path) -> None:
    recipe = {**RECIPE, "tune": {"n": 60}}
    free = search(tmp_path / "free", recipe=recipe, trials=4)
    bound = sorted(losses(free))[1]  # all but the lowest keep it: what is better then misses it
    kept = search(tmp_path / "kept", recipe=recipe, trials=4, constraints=[f"loss >= {bound!r}"])
    assert losses(kept)[kept.best] == bound
    assert [row["keeps"] for row in kept.trials] == [loss >= bound for loss in losses(kept)]
    none = search(tmp_path / "none", recipe=recipe, trials=2, constraints=["loss <= -1000"])
    assert none.best is None
    assert not (tmp_path / "none/best.yaml").exists()


@pytest.mark.parametrize("rule", ["median", pytest.param("hyperband", marks=pytest.mark.slow)])
def test_a_hopeless_trial_is_ended_by_its_held_out_loss(rule: str, tmp_path: Path) -> None:
    recipe = {**RECIPE, "train": {**RECIPE["train"], "steps": 20, "validate_every": 2}}
    ranges = {"train.lr": [1e-2, 1e-7]}
    record = search(tmp_path / "study", recipe=recipe, ranges=ranges, trials=12, prune=rule)
    pruned = [row for row in record.trials if row["state"] == "pruned"]
    assert pruned
    assert all("falls behind" in row["why"] for row in pruned)
    assert any(row["settings"]["train.lr"] == 1e-7 for row in pruned)
    assert record.trials[record.best]["settings"]["train.lr"] == 1e-2


@pytest.mark.parametrize("prune", ["auto", "none"])
def test_a_collapsed_trial_is_ended_also_with_two_objectives(prune: str, tmp_path: Path) -> None:
    """A generator that learns nothing reaches few clusters."""
    watch = {"every": 10, "samples": 64, "after": 0.0, "patience": 1}
    train = {**RECIPE["train"], "steps": 30, "lr": 1e-9, "watch": watch}
    recipe = {**GAN, "train": train, "tune": {"n": 60}}
    ranges = {"train.lr": [1e-9, 1e-10]}
    record = search(tmp_path / "study", recipe=recipe, ranges=ranges, objectives=None, trials=1, prune=prune)
    (row,) = record.trials
    if prune == "none":
        assert row["state"] == "complete"
    else:
        assert row["state"] == "pruned"
        assert "ended at step 10: " in row["why"]
        assert "clusters" in row["why"] or "alike" in row["why"] or "repeats" in row["why"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ranges": {}}, "nothing is to be varied"),
        ({"ranges": {"train.lrr": [1, 2]}}, r"'train\.lrr' cannot be 1: .*did you mean 'lr'"),
        ({"ranges": {"model.width": {"low": 0.5, "high": 8.0}}}, r"'model\.width' cannot be 0\.5"),
        ({"ranges": {"model.width": ["wide", 8]}}, r"'model\.width' cannot be \"wide\""),
        ({"ranges": {"train.lr": {"low": -1.0, "high": 1.0}}}, r"'train\.lr' cannot be -1\.0"),
        ({"objectives": ["fidelty"]}, "did you mean 'fidelity'"),
        ({"objectives": ["bits_per_dimension"], "constraints": ["quality > 3"]}, "is no constraint"),
        ({"objectives": ["fidelity", "loss"], "prune": "median"}, "trade-off of fidelity and loss"),
        ({"recipe": GAN}, "nothing measures 'mlp-gan' by a loss on held-out data"),
        ({"recipe": GAN, "objectives": ["fidelity"], "prune": "median"}, "nothing measures 'mlp-gan'"),
        ({"prune": "maybe"}, "prune"),
        ({"trials": 0}, "trials"),
        ({"workers": 0}, "at least one process"),
        ({"time": "soon"}, "no span of time"),
    ],
)
def test_what_is_refused_before_anything_is_trained(given: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(CallError, match=said):
        search(tmp_path / "study", **given)
    assert not (tmp_path / "study/trials").exists()


@pytest.mark.parametrize(
    ("wrong", "said"), [("fidellity", "did you mean 'fidelity'"), ("sharpness", "valid names: ")]
)
@pytest.mark.parametrize("key", ["objectives", "constraints"])
def test_a_wrong_figure_is_refused_before_any_judge_looks(
    key: str, wrong: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looks(*args: Any, **how: Any) -> None:
        raise AssertionError("a judge was asked")

    monkeypatch.setattr("niwaki.workflow.tuning.begin.judge_runner", looks)
    given = {"objectives": ["fidelity"], key: [f"{wrong} >= 1"] if key == "constraints" else [wrong]}
    with pytest.raises(CallError, match=f"no figure '{wrong}' to go by; {said}"):
        search(tmp_path / "study", recipe=GAN, **given)
    assert not (tmp_path / "study").exists()


def test_a_call_that_ended_before_the_study_began_is_in_nobodys_way(tmp_path: Path) -> None:
    """Judges may have looked at the untrained model, and their cache is in the directory then."""
    (tmp_path / "cache").mkdir()
    recipe = {**RECIPE, "tune": {"n": 50}}
    assert search(tmp_path, recipe=recipe, objectives=["fidelity"], trials=1).best == 0


def test_what_a_judge_says_it_may_say_of_a_model(tmp_path: Path) -> None:
    """The figures of judges that train something first are among those that they announce."""
    for word in ("frechet", "recall_random", "share_recognised_as_asked", "class_read_back_as_asked"):
        assert Samples.may_say(word)
    assert not Samples.may_say("bits_per_dimension")
    assert Translation.may_say("translate_ab_cycle_error")
    assert not Translation.may_say("cycle")


def test_a_range_beside_the_recipes_own_value_has_no_trial_of_it(tmp_path: Path) -> None:
    record = search(tmp_path / "study", ranges={"train.lr": [1e-2, 1e-4]}, trials=1)
    assert record.default is None


def test_no_trial_begins_for_which_there_is_no_time(tmp_path: Path) -> None:
    record = search(tmp_path / "study", trials=50, time=0.01)
    assert len(record.trials) == 0
    assert record.best is None


def test_without_optuna_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(CallError, match=r"pip install 'niwaki\[tune\]'"):
        search(tmp_path / "study", ranges=RATES)
