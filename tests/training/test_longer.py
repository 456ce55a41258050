"""A training that is made longer, and what a checkpoint knows of the training that wrote it."""

from __future__ import annotations

import math

import pytest
import torch
from training_toys import Adversaries, TwoStages

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import DataSpec
from niwaki.core.store import read_json, write_json
from niwaki.data import Split
from niwaki.training import EarlyStopping, StageConfig, TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints
from niwaki.training.schedule import lr_factor
from niwaki_runtime.errors import CallError

CONFIG = TrainConfig(steps=13, batch=8, lr=0.01, warmup=3, clip=1.0, ema=0.9, log_every=4, checkpoint_every=5)


class Widths(BaseConfig):
    width: int = 4
    beta: float = 1.0


class Configured(Adversaries):
    """A model whose loss hangs on a setting that no weight shows."""

    def __init__(self, **values) -> None:
        super().__init__()
        self.config = Widths(**values)


def make(cls=Adversaries, **values):
    torch.manual_seed(0)
    return cls(**values)


def vectors_of(seed: int) -> Split:
    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(seed))
    return Split.of(DataSpec.of("vector", (4,)), x)


def longer(vectors, tmp_path, config, steps, cls=Adversaries, **more):
    """The model and the result of a training that is ended and then made longer."""
    fit(make(cls), vectors, config, seed=1, directory=tmp_path, **more)
    model = make(cls)
    result = fit(
        model, vectors, config.model_copy(update=steps), seed=1, directory=tmp_path, resume=True, **more
    )
    return model, result


@pytest.mark.parametrize(
    "schedule",
    [
        "constant",
        {"name": "step", "every": 4, "gamma": 0.5},
        {"name": "exponential", "halving": 5},
        {"name": "cosine", "floor": 1.0},
        {"name": "linear", "floor": 1.0},
    ],
)
def test_where_the_schedule_does_not_know_the_end_a_longer_training_has_the_bits_of_one_at_once(
    vectors, tmp_path, schedule
):
    config = CONFIG.model_copy(update={"schedule": schedule})
    model, result = longer(vectors, tmp_path / "longer", config, {"steps": 23})
    whole = make()
    at_once = fit(whole, vectors, config.model_copy(update={"steps": 23}), seed=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert result.steps == at_once.steps == 23
    assert result.last["lr/critic"] == at_once.last["lr/critic"]
    assert "13 of 13 steps are done, and there are 23 now" in result.notes[0]
    assert "as if 23 had been asked for at once" in result.notes[0]
    assert result.longer == ({"at": 13, "stage": "main", "then": 13, "now": 23},)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "one_cycle", "exponential", "cosine_restarts"])
def test_other_schedules_are_stretched_and_that_is_said_with_the_rates(vectors, tmp_path, schedule):
    config = CONFIG.model_copy(update={"schedule": schedule})
    _, result = longer(vectors, tmp_path, config, {"steps": 23})
    assert result.completed
    goes_on = lr_factor(13, 23, 3, schedule)
    said = f"{goes_on:.1%}" if goes_on >= 0.001 else f"{goes_on:.1g}"
    assert f"'{schedule}' is stretched over 23" in result.notes[0]
    assert f"goes on at {said}" in result.notes[0]
    assert "That is not the training of 23 steps at once" in result.notes[0]
    assert result.last["lr/critic"] == pytest.approx(0.01 * lr_factor(22, 23, 3, schedule), abs=1e-9)


def test_a_stopped_training_can_be_longer_or_shorter_but_not_than_what_is_done(vectors, tmp_path):
    config = CONFIG.model_copy(update={"schedule": "constant"})
    fit(make(), vectors, config, seed=1, directory=tmp_path)
    for path in list_checkpoints(tmp_path / "checkpoints")[-1:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()  # as if it had been stopped after step 10
    with pytest.raises(CallError, match=r"train\.steps was 13 and is 10"):
        fit(make(), vectors, config.model_copy(update={"steps": 10}), seed=1, directory=tmp_path, resume=True)
    model, whole = make(), make()
    fit(model, vectors, config.model_copy(update={"steps": 12}), seed=1, directory=tmp_path, resume=True)
    fit(whole, vectors, config.model_copy(update={"steps": 12}), seed=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_the_last_of_several_stages_can_be_longer_and_no_earlier_one(vectors, tmp_path):
    def config(first: int, second: int) -> TrainConfig:
        stages = (
            StageConfig(name="codec", steps=first),
            StageConfig(name="prior", steps=second, freeze=("codec",)),
        )
        return TrainConfig(batch=8, lr=0.01, ema=0.9, schedule="constant", stages=stages)

    fit(make(TwoStages), vectors, config(6, 5), seed=1, directory=tmp_path)
    with pytest.raises(CallError, match=r"train\.stages\.0\.steps was 6 and is 7"):
        fit(make(TwoStages), vectors, config(7, 5), seed=1, directory=tmp_path, resume=True)
    model, whole = make(TwoStages), make(TwoStages)
    result = fit(model, vectors, config(6, 9), seed=1, directory=tmp_path, resume=True)
    fit(whole, vectors, config(6, 9), seed=1)
    assert result.steps == 15
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_training_that_early_stopping_ended_is_not_made_longer_in_silence(vectors, tmp_path):
    config = CONFIG.model_copy(update={"early_stopping": EarlyStopping(patience=1), "validate_every": 2})
    never = {"validate": lambda model, step: {"loss": 1.0}, "validation": vectors}
    fit(make(), vectors, config, seed=1, directory=tmp_path, **never)
    with pytest.raises(CallError, match=r"train\.steps was 13 and is 23"):
        fit(
            make(), vectors, config.model_copy(update={"steps": 23}), seed=1,
            directory=tmp_path, resume=True, **never,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": 8}, "the data (data.content) are not those that it was trained on"),
        ({"model": {"beta": 77.0}}, "model.beta was 1.0 and is 77.0"),
        (
            {"model": {"width": 5, "beta": 2.0}},
            "model.width was 4 and is 5 and model.beta was 1.0 and is 2.0",
        ),
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"config": {"batch": 16}}, "train.batch was 8 and is 16"),
        ({"config": {"loss_weights": {"critic": 2.0}}}, "train.loss_weights.critic was absent and is 2.0"),
        ({"config": {"ema": 0.8, "steps": 23}}, "train.ema was 0.9 and is 0.8"),
    ],
)
def test_what_a_training_was_made_from_is_in_its_checkpoint(tmp_path, change, said):
    fit(make(Configured), vectors_of(7), CONFIG, seed=1, directory=tmp_path)
    with pytest.raises(CallError) as refused:
        fit(
            make(Configured, **change.get("model", {})),
            vectors_of(change.get("data", 7)),
            CONFIG.model_copy(update=change.get("config", {})),
            seed=change.get("seed", 1),
            directory=tmp_path,
            resume=True,
        )
    assert said in str(refused.value)


def test_what_the_caller_says_of_a_training_is_compared_by_its_keys(tmp_path):
    about = {
        "data": {"source": "digits", "seed": 0, "content": "a" * 64},
        "init_from": {"runs/vae": "b" * 64},
    }
    fit(make(), vectors_of(7), CONFIG, seed=1, directory=tmp_path, about={**about, "code": "1"})
    other = {**about, "data": {**about["data"], "seed": 1}, "init_from": {"runs/vae": "c" * 64}}
    with pytest.raises(
        CallError, match=r"data\.seed was 0 and is 1 and the content of init_from\.runs/vae is"
    ):
        fit(make(), vectors_of(7), CONFIG, seed=1, directory=tmp_path, resume=True, about=other)
    found = fit(
        make(), vectors_of(7), CONFIG, seed=1, directory=tmp_path, resume=True, about={**about, "code": "2"}
    )
    assert "other code of the model" in found.notes[0]


def test_a_checkpoint_of_an_older_niwaki_is_resumed_with_a_note(tmp_path):
    fit(make(), vectors_of(7), CONFIG, seed=1, directory=tmp_path)
    for path in list_checkpoints(tmp_path / "checkpoints"):
        record = read_json(path / "state.json")
        del record["identity"]["about"]
        write_json(path / "state.json", record)
    found = fit(make(), vectors_of(7), CONFIG, seed=1, directory=tmp_path, resume=True)
    assert "written by an older niwaki" in found.notes[0]
    assert math.isfinite(found.last["critic/loss"]) if "critic/loss" in found.last else found.last
