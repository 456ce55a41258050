"""Before a run: time, memory and money are told and nothing is written; a training is made as long as there
is time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import niwaki
from niwaki.core.contract import CallError
from niwaki.recipe import recipe_from
from niwaki.workflow import outlook
from niwaki.workflow.estimates import Expected
from niwaki.workflow.estimates.span import seconds_in
from niwaki.workflow.outlook import fit_into, look_ahead
from niwaki.workflow.stages.train import TrainStage

RECIPE: dict[str, Any] = {
    "name": "ahead",
    "data": {"source": "digits"},
    "model": {"name": "dcgan", "width": 8, "features": 8, "latent": 8},
    "train": {"steps": 200, "batch": 16, "ema": 0.5, "watch": None},
    "evaluate": {"features": ["random"], "n": 320},
}


@pytest.mark.parametrize(
    ("span", "seconds"),
    [("90s", 90), ("20m", 1200), ("1h", 3600), ("1h30m", 5400), ("1.5 h", 5400), ("2 min", 120), (45, 45),
     ("7", 7)],
)  # fmt: skip
def test_spans_of_time(span: Any, seconds: float) -> None:
    assert seconds_in(span) == seconds


@pytest.mark.parametrize("span", ["", "soon", "20 x", "-5m", "0s", "m", "1h foo"])
def test_what_is_no_span_of_time(span: str) -> None:
    with pytest.raises(CallError, match="is no span of time; write 90s, 20m or 1h30m"):
        seconds_in(span)


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = niwaki.estimate(RECIPE, price=3600.0)
    assert not list(tmp_path.iterdir())
    parts = {part["what"]: part["seconds"] for part in found["parts"]}
    assert parts["training"] > 0
    assert found["seconds"] == pytest.approx(sum(p["seconds"] or 0 for p in found["parts"]))
    assert found["cost"] == pytest.approx(found["seconds"])  # one a second
    assert found["parameters"] == sum(p.numel() for p in _model().parameters())
    assert 50e6 < found["memory_bytes"] < 64e9
    assert "export" in found["unknown"]
    alone = niwaki.estimate(RECIPE, training=True)
    assert [part["what"] for part in alone["parts"]] == ["training"]
    assert alone["cost"] is None


def _model() -> Any:
    from niwaki.core.contract import DataSpec
    from niwaki.models import build

    settings = {k: v for k, v in RECIPE["model"].items() if k != "name"}
    return build("dcgan", settings, DataSpec.of("image", (1, 8, 8), levels=17, classes=10))


def test_nothing_is_due_in_a_finished_training(tmp_path: Path) -> None:
    made = niwaki.train(RECIPE, ("train.steps=3",), out=tmp_path / "run")
    found = niwaki.estimate(made.path, training=True)
    assert found["parts"] == []
    assert found["seconds"] == 0.0
    assert found["parameters"] is None


def known(monkeypatch: pytest.MonkeyPatch, training: float | None, rest: float = 0.0) -> None:
    """Timings as they are told, in the place of those of this machine."""
    parts = [Expected("training", training), Expected("making samples", rest, besides=("features",))]
    monkeypatch.setattr(outlook, "expected_parts", lambda context, due: parts)


@pytest.mark.parametrize(
    ("budget", "training", "rest", "steps"),
    [(100.0, 50.0, 0.0, 400), (100.0, 400.0, 0.0, 50), (100.0, 50.0, 60.0, 160), (30.0, 50.0, 20.0, 40)],
)
def test_as_many_steps_as_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, budget: float, training: float, rest: float, steps: int
) -> None:
    """200 steps take `training`; what is left of the budget beside the rest is theirs."""
    known(monkeypatch, training, rest)
    made, overrides = fit_into(budget, RECIPE, stages=lambda: (TrainStage(),), out=tmp_path / "run")
    assert made.train.steps == steps  # type: ignore[union-attr]
    assert overrides == ()
    assert made.model_copy(update={"train": None}) == recipe_from(RECIPE).model_copy(update={"train": None})  # type: ignore[union-attr]


def test_stages_keep_their_proportions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    staged = {**RECIPE, "train": {"stages": [{"name": "a", "steps": 300}, {"name": "b", "steps": 100}]}}
    known(monkeypatch, 10.0)
    made, _ = fit_into(5.0, staged, stages=lambda: (TrainStage(),), out=tmp_path / "run")
    assert [stage.steps for stage in made.train.stages] == [150, 50]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("training", "rest", "said"),
    [(10.0, 95.0, "what comes after the training takes about 1.5 min of the about 1.5 min already"),
     (None, 0.0, "cannot be timed beforehand")],
)  # fmt: skip
def test_too_little_time_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, training: float | None, rest: float, said: str
) -> None:
    known(monkeypatch, training, rest)
    with pytest.raises(CallError, match=said):
        fit_into(100.0, RECIPE, stages=lambda: (TrainStage(),), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_training_that_began_keeps_its_steps(tmp_path: Path) -> None:
    made = niwaki.train(RECIPE, ("train.steps=3",), out=tmp_path / "run")
    again = niwaki.train(made.path, time="10m")
    assert again.recipe.train is not None
    assert again.recipe.train.steps == 3


def test_a_training_lasts_as_long_as_it_may(tmp_path: Path) -> None:
    """As told by its own timing: the steps follow the budget."""
    short = niwaki.train(RECIPE, out=tmp_path / "short", time=0.5)
    long = niwaki.train(RECIPE, out=tmp_path / "long", time=5.0)
    assert short.recipe.train is not None
    assert long.recipe.train is not None
    assert short.recipe.train.steps < long.recipe.train.steps


def test_looking_ahead_of_a_run_goes_on_from_where_it_is(tmp_path: Path) -> None:
    made = niwaki.train(RECIPE, ("train.steps=3",), out=tmp_path / "run")
    before = sorted(p.name for p in made.path.rglob("*"))
    seen = look_ahead(made.path, stages=lambda: (TrainStage(fresh=True),))
    assert [part.what for part in seen.parts] in (["training"], [])
    assert sorted(p.name for p in made.path.rglob("*")) == before
