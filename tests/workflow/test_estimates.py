"""What is said of the time before the work: real steps are timed, by a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from training.training_toys import Adversaries

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import Split
from niwaki.deployment.timing import seconds_of_rounds
from niwaki.recipe import recipe_from
from niwaki.training import TrainConfig
from niwaki.workflow.estimates import Expected, Timed, told
from niwaki.workflow.estimates import timed as module
from niwaki.workflow.estimates.timed import Watch, seconds_of_training
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.run_context import open_run
from niwaki.workflow.stages.ahead import due_stages, tell_time
from niwaki.workflow.stages.compress import CompressStage
from niwaki.workflow.stages.evaluate import EvaluateStage
from niwaki.workflow.stages.export import ExportStage
from niwaki.workflow.stages.report import ReportStage
from niwaki.workflow.stages.train import TrainStage, fresh_model
from niwaki.workflow.stages.verdict import VerdictStage

RECIPE: dict[str, Any] = {
    "name": "timed",
    "data": {"source": "digits"},
    "model": {"name": "dcgan", "width": 8, "features": 8, "latent": 8},
    "train": {"steps": 100, "batch": 16, "ema": 0.5},
    "evaluate": {"features": ["random"], "n": 320},
    "compress": {
        "steps": [{"kind": "prune", "ratio": 0.5}, {"kind": "finetune", "steps": 50, "batch": 16}],
        "measure": False,
    },
    "export": {"repeats": 10, "memory": False},
}


class Hearing(Quiet):
    """A reporter that reads what is said beforehand, and how often it was asked for."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def ahead(self, estimate: Callable[[], str]) -> None:
        self.said.append(estimate())


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ([Expected("training", 100.0)], "training about 1.5 min"),
        (
            [Expected("training", 100.0), Expected("making samples", 25.0, besides=("features",))],
            "about 2 min for what can be timed now: training about 1.5 min, making samples about 25 s; "
            "on top, not known yet: features",
        ),
        (
            [Expected("training", 60.0), Expected("making samples", 15.0), Expected("making samples", 15.0)],
            "about 1.5 min for what can be timed now: training about 1 min, making samples about 30 s",
        ),
        ([Expected("training", None), Expected("verdict", None)], ""),
        (
            [Expected("training", None), Expected("evaluation", 20.0, before=True)],
            "evaluation about 20 s as before; on top, not known yet: training",
        ),
        ([Expected("fine-tuning", 0.0, besides=("quantize",))], ""),
        ([], ""),
    ],
)
def test_the_sentence_adds_up_what_is_known_and_names_what_is_not(
    parts: list[Expected], sentence: str
) -> None:
    assert told(parts) == sentence


def clock(each: float) -> Callable[[], float]:
    """A clock that goes on by `each` whenever it is looked at."""
    now = [0.0]

    def look() -> float:
        now[0] += each
        return now[0]

    return look


@pytest.mark.parametrize(("each", "steps"), [(0.01, 7), (0.5, 5), (2.0, 2)])
def test_a_watched_training_ends_when_its_steps_are_timed(each: float, steps: int) -> None:
    watch, done = Watch(clock(each)), 0
    with pytest.raises(Exception, match=r"^$"):  # noqa: PT012
        for done in range(1, 100):
            watch(done, 100, {})
    assert done == steps
    assert watch.each == pytest.approx(each)


def test_steps_before_those_of_interest_are_left_out() -> None:
    watch = Watch(clock(1.0), after=2)
    for done in (1, 2, 3):
        watch(done, 10, {})
    assert watch.seen == [(3, 3.0)]


def test_a_rare_phase_is_among_the_steps_that_are_timed() -> None:
    """A step takes 0.01 s, every sixteenth 0.17 s: 0.02 s on average, which six steps would not tell."""
    now = [0.0]
    watch = Watch(lambda: now[0], cycle=16)
    with suppress(module._Enough):
        for step in range(100):
            now[0] += 0.17 if step % 16 == 0 else 0.01
            watch(step + 1, 100, {})
    assert watch.seen[-1][0] == 17
    assert watch.each == pytest.approx(0.02)


def test_the_cycle_is_that_of_the_phases_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    cycles: list[int] = []

    def look(**settings: Any) -> Watch:
        cycles.append(settings["cycle"])
        return Watch(**settings)

    monkeypatch.setattr(module, "Watch", look)
    split = Split.of(DataSpec.of("vector", (4,)), torch.zeros(32, 4), None)
    config = TrainConfig(steps=40, batch=8, watch=None, device="cpu", precision="fp32")
    for every in (3, 7):
        assert seconds_of_training(lambda k=every: Adversaries(every=k), split, config) is not None
    assert cycles == [3, 7]


def test_steps_that_are_told_again_or_not_begun_are_no_steps() -> None:
    watch = Watch(clock(1.0))
    for done in (0, 1, 1):
        watch(done, 10, {})
    assert watch.each is None


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    return open_run(recipe_from(RECIPE), (), tmp_path / "timed", Hearing())


def by_step(monkeypatch: pytest.MonkeyPatch, each: float) -> None:
    """Every look at the clock is `each` seconds later: a training looks once a step."""
    monkeypatch.setattr(module, "Watch", lambda **settings: Watch(clock(each), **settings))


def test_a_training_is_as_long_as_its_steps(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    by_step(monkeypatch, 0.25)
    state = torch.get_rng_state()
    make = lambda: fresh_model(opened.recipe, opened.dataset)  # noqa: E731
    split, config = opened.dataset.train, opened.recipe.train
    before = torch.random.get_rng_state()
    assert seconds_of_training(make, split, config) == pytest.approx(100 * 0.25)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(state, before)
    short = config.model_copy(update={"steps": 5})
    assert seconds_of_training(make, split, short) == 0.0, "it is over before it is timed"
    for settings in ({"compile": True}, {"devices": 2}):
        assert seconds_of_training(make, split, config.model_copy(update=settings)) is None
    judged = {"early_stopping": {"patience": 2}, "validate_every": 50}
    stopping = TrainConfig.model_validate({**config.model_dump(), **judged})
    assert seconds_of_training(make, split, stopping) == pytest.approx(100 * 0.25)


def test_every_stage_of_a_training_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_step(monkeypatch, 0.25)
    stages = [
        {"name": "codes", "steps": 40, "keep_best": True, "validate_every": 20},
        {"name": "prior", "steps": 60, "freeze": ["encoder", "codebook", "decoder"]},
    ]
    model = {"name": "vqvae", "codes": 8, "dim": 4, "width": 8, "prior_width": 8, "prior_layers": 1}
    train = {"batch": 16, "early_stopping": {"patience": 3}, "stages": stages}
    recipe = recipe_from({"data": {"source": "digits"}, "model": model, "train": train})
    opened = open_run(recipe, (), tmp_path / "staged", Hearing())
    make = lambda: fresh_model(recipe, opened.dataset)  # noqa: E731
    assert seconds_of_training(make, opened.dataset.train, recipe.train) == pytest.approx(100 * 0.25)


def test_a_step_of_a_plan_is_timed_where_it_trains(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Timed(lambda: fresh_model(opened.recipe, opened.dataset), opened.dataset)
    prune, finetune = opened.recipe.compress.steps
    assert timed.step(prune) == 0.0
    by_step(monkeypatch, 2.0)
    found = timed.step(finetune)
    assert found is not None
    assert found == pytest.approx(50 * 2.0, rel=0.99)  # progress may be told every few steps


def test_the_time_of_rounds_is_that_of_their_calls() -> None:
    # 5 warm calls and 10 rounds of a pause, a call and one before it
    assert seconds_of_rounds([0.1], rounds=10) == pytest.approx(0.5 + 10 * (0.02 + 0.2))
    # long calls: two, and ten alone
    assert seconds_of_rounds([1.0], rounds=10) == pytest.approx(2 + 10 * 1.02)
    # after a minute none begins, but five are taken
    assert seconds_of_rounds([10.0, 20.0], rounds=30) == pytest.approx(60 + 5 * 30.04)


STAGES = (EvaluateStage(), CompressStage(), ExportStage(), VerdictStage(), ReportStage())


def test_what_is_due_is_the_first_that_does_not_hold_and_all_after_it(opened: Any) -> None:
    names = [stage.name for stage in due_stages(opened, (TrainStage(), *STAGES))]
    assert names == ["train", "evaluate", "compress", "export", "verdict", "report"]
    bare = open_run(recipe_from({**RECIPE, "compress": None}), (), opened.run.path, Hearing())
    names = [stage.name for stage in due_stages(bare, (TrainStage(), *STAGES))]
    assert names == ["train", "evaluate", "export", "verdict", "report"]


def test_nothing_is_timed_for_a_report_alone_nor_where_nobody_reads(opened: Any) -> None:
    tell_time(opened, [ReportStage()])
    assert opened.reporter.said == []
    opened.reporter = Quiet()

    class Untimed(EvaluateStage):
        def expected(self, context: Any, timed: Any) -> Any:
            raise AssertionError("timed for nobody")

    tell_time(opened, [Untimed()])


def test_a_stage_whose_time_cannot_be_told_costs_nothing(opened: Any) -> None:
    class Broken(EvaluateStage):
        def time(self, context: Any, timed: Any) -> Any:
            raise RuntimeError("no")

    class Known(EvaluateStage):
        def time(self, context: Any, timed: Any) -> Any:
            return (Expected("evaluation of another kind", 30.0),)

    tell_time(opened, [Known(), Broken()])
    assert opened.reporter.said == [
        "evaluation of another kind about 30 s; on top, not known yet: evaluation"
    ]


def test_a_run_says_first_what_can_be_timed_and_names_the_rest(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_step(monkeypatch, 0.25)
    tell_time(opened, due_stages(opened, (TrainStage(), *STAGES)))
    (said,) = opened.reporter.said
    assert "training about 25 s" in said
    assert "making samples" in said
    assert "fine-tuning at most" in said
    assert "timing at most" in said
    assert said.endswith("on top, not known yet: features, metrics and margins, prune, export, the verdict")


@pytest.mark.parametrize("seconds", [0.0, 2.5])  # a stage may be over within a tick of the clock
def test_what_a_stage_took_before_is_said_while_its_settings_are_the_same(
    opened: Any, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("niwaki.workflow.run_directory.time.monotonic", lambda: seconds * next(clock))
    with opened.run.hold():
        for stage in (TrainStage(), *STAGES):
            with opened.run.working(stage.name, stage.inputs(opened)) as state:
                state["result"] = stage.name
    assert due_stages(opened, STAGES) == []
    again = open_run(opened.run.path, ("evaluate.n=400",), None, Hearing())
    due = due_stages(again, STAGES)
    assert [stage.name for stage in due] == ["evaluate", "compress", "export", "verdict", "report"]
    timed = Timed(lambda: fresh_model(again.recipe, again.dataset), again.dataset)
    before = {stage.name: [part.before for part in stage.expected(again, timed)] for stage in due[:-1]}
    assert before == {"evaluate": [False], "compress": [True], "export": [True], "verdict": [False]}


def test_a_training_that_is_refused_is_refused_before_anything_is_timed(opened: Any) -> None:
    with opened.run.hold(), opened.run.working("train", TrainStage().inputs(opened)) as state:
        (opened.run.model).mkdir()
        (opened.run.model / "model.safetensors").write_bytes(b"weights")
        state["outputs"] = (opened.run.model,)
    longer = open_run(opened.run.path, ("train.steps=101",), None, Hearing())
    with pytest.raises(CallError, match=r"train\.steps was 100 and is 101"):
        due_stages(longer, (TrainStage(), *STAGES))
    fresh = due_stages(longer, (TrainStage(fresh=True), *STAGES))
    assert [stage.name for stage in fresh][:2] == ["train", "evaluate"]
