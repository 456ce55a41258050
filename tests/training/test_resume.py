"""A training that was stopped, crashed or broken goes on as if nothing had happened: bit for bit."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from training_toys import Adversaries, Regression, TwoStages

from niwaki.core.store import read_json, read_jsonl, read_tensors
from niwaki.data import Feeder
from niwaki.training import Interrupted, StageConfig, TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints
from niwaki_runtime.errors import CallError, NiwakiError

CONFIG = TrainConfig(
    steps=23, batch=8, lr=0.01, warmup=3, clip=1.0, ema=0.9, accumulate=2, log_every=4, checkpoint_every=5
)


class Crash(Exception):
    pass


class Failing:
    """The stream of batches, until one of them cannot be had."""

    def __init__(self, split, at: int):
        self.feeder, self.at = Feeder(split, 8, seed=1), at

    def batch(self, k):
        if k == self.at:
            raise Crash
        return self.feeder.batch(k)


def make(cls=Adversaries):
    torch.manual_seed(0)
    return cls()


def log_of(directory):
    return [
        {k: v for k, v in line.items() if k != "seconds"} for line in read_jsonl(directory / "metrics.jsonl")
    ]


def same_end(a, b):
    """Every tensor of the last checkpoints, optimizer moments and running sums among them, and every
    metric."""
    one, two = (read_tensors(list_checkpoints(d / "checkpoints")[-1] / "state.safetensors") for d in (a, b))
    assert one.keys() == two.keys()
    assert {n.split("/")[0] for n in one} == {"model", "ema", "optimizer", "sums"}
    for name in one:
        assert torch.equal(one[name], two[name]), name
    assert log_of(a) == log_of(b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted training."""
    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(7))
    from niwaki.core.contract import DataSpec
    from niwaki.data import Split

    directory = tmp_path_factory.mktemp("whole")
    model = make()
    fit(model, Split.of(DataSpec.of("vector", (4,)), x), CONFIG, seed=1, directory=directory)
    return directory, model


@pytest.mark.parametrize("crashes", [(2,), (11, 20, 30), (45,)])
def test_a_crash_leaves_no_trace(vectors, whole, tmp_path, crashes):
    for at in crashes:
        with pytest.raises(Crash):
            fit(
                make(), vectors, CONFIG, seed=1, directory=tmp_path, resume=True, batches=Failing(vectors, at)
            )
    torch.manual_seed(99)  # neither the fresh model's weights nor the global generator matter
    model = Adversaries()
    result = fit(model, vectors, CONFIG, seed=1, directory=tmp_path, resume=True)
    assert result.completed
    assert result.steps == 23
    same_end(whole[0], tmp_path)
    for name, value in whole[1].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_equal_seeds_give_equal_bits_and_others_do_not(vectors, whole):
    again, other = make(), make()
    fit(again, vectors, CONFIG, seed=1)
    fit(other, vectors, CONFIG, seed=2)
    for name, value in whole[1].state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert not torch.equal(other.generator[0].weight, again.generator[0].weight)


def test_a_completed_training_returns_at_once(vectors, whole):
    model = Adversaries()
    calls = []
    result = fit(
        model,
        vectors,
        CONFIG,
        seed=1,
        directory=whole[0],
        resume=True,
        progress=lambda *a: calls.append(a),
        batches=Failing(vectors, 0),
    )
    assert result.completed
    assert result.steps == 23
    assert not calls
    assert result.last == fit(make(), vectors, CONFIG, seed=1).last
    for name, value in whole[1].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_step_with_the_state_saved(vectors, whole, tmp_path, number):
    class Signalled(Failing):
        def batch(self, k):
            if k == 14:
                os.kill(os.getpid(), number)
            return self.feeder.batch(k)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"after step 8 of 23; resume it from") as stopped:
        fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, batches=Signalled(vectors, -1))
    assert signal.getsignal(number) is before
    assert stopped.value.step == 8  # two batches a step: the fifteenth belongs to the eighth
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == "step-0000008"
    fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, resume=True)
    same_end(whole[0], tmp_path)


def test_a_second_signal_ends_at_once(vectors, tmp_path):
    class Impatient(Failing):
        def batch(self, k):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            return self.feeder.batch(k)

    with pytest.raises(KeyboardInterrupt):
        fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, batches=Impatient(vectors, -1))


def damaged(kind, path):
    weights, record = path / "state.safetensors", path / "state.json"
    if kind == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "byte":
        data = bytearray(weights.read_bytes())
        data[-50] ^= 1
        weights.write_bytes(data)
    elif kind == "missing":
        weights.unlink()
    else:
        record.write_text(record.read_text()[:40])


@pytest.mark.parametrize("kind", ["cut", "byte", "missing", "record"])
def test_a_broken_checkpoint_falls_back_to_the_one_before_and_says_so(vectors, whole, tmp_path, kind):
    with pytest.raises(Crash):
        fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, batches=Failing(vectors, 30))
    assert [p.name for p in list_checkpoints(tmp_path / "checkpoints")] == ["step-0000010", "step-0000015"]
    damaged(kind, list_checkpoints(tmp_path / "checkpoints")[-1])
    result = fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, resume=True)
    assert len(result.notes) == 1
    assert "step-0000015 is broken and was passed over" in result.notes[0]
    same_end(whole[0], tmp_path)


def test_with_all_checkpoints_broken_nothing_is_started_over(vectors, tmp_path):
    with pytest.raises(Crash):
        fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, batches=Failing(vectors, 30))
    for path in list_checkpoints(tmp_path / "checkpoints"):
        damaged("cut", path)
    with pytest.raises(NiwakiError, match="is whole"):
        fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, resume=True)


def test_what_a_kill_left_half_written_is_cleared_away(vectors, whole, tmp_path):
    with pytest.raises(Crash):
        fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, batches=Failing(vectors, 30))
    half = tmp_path / "checkpoints" / ".step-0000020.abc.partial"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    with open(tmp_path / "metrics.jsonl", "a") as log:
        log.write('{"step": 16, "stage": "ma')
    fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, resume=True)
    assert not half.exists()
    same_end(whole[0], tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.02}, r"because train\.lr was 0\.01 and is 0\.02; change it back"),
        ({"steps": 20}, r"train\.steps was 23 and is 20"),
        (
            {"steps": 50, "batch": 16},
            r"train\.batch was 8 and is 16 and train\.steps was|train\.batch was 8 and is 16",
        ),
    ],
)
def test_another_config_is_refused_by_name(vectors, whole, change, message):
    config = CONFIG.model_copy(update=change)
    with pytest.raises(CallError, match=message):
        fit(make(), vectors, config, seed=1, directory=whole[0], resume=True)


def test_another_model_seed_or_an_occupied_directory_is_refused(vectors, whole):
    with pytest.raises(CallError, match=r"because weights\.pool was float32\(5, 4\) and is absent"):
        fit(make(Regression), vectors, CONFIG, seed=1, directory=whole[0], resume=True)
    with pytest.raises(CallError, match="seed was 1 and is 2"):
        fit(make(), vectors, CONFIG, seed=2, directory=whole[0], resume=True)
    with pytest.raises(CallError, match="already holds a training"):
        fit(make(), vectors, CONFIG, seed=1, directory=whole[0])
    with pytest.raises(CallError, match="needs the directory"):
        fit(make(), vectors, CONFIG, seed=1, resume=True)


def test_how_often_is_logged_may_change(vectors, whole, tmp_path):
    with pytest.raises(Crash):
        fit(make(), vectors, CONFIG, seed=1, directory=tmp_path, batches=Failing(vectors, 30))
    model = make()
    config = CONFIG.model_copy(update={"log_every": 1, "checkpoint_every": 2, "keep": 1})
    fit(model, vectors, config, seed=1, directory=tmp_path, resume=True)
    assert len(list_checkpoints(tmp_path / "checkpoints")) == 1
    for name, value in whole[1].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("at", [5, 9, 10, 11, 17])
def test_stages_resume_in_their_midst_and_at_their_border(vectors, tmp_path, at):
    stages = (StageConfig(name="codec", steps=10), StageConfig(name="prior", steps=10, freeze=("codec",)))
    config = TrainConfig(batch=8, lr=0.01, ema=0.9, log_every=3, checkpoint_every=4, stages=stages)
    fit(make(TwoStages), vectors, config, seed=1, directory=tmp_path / "whole")
    with pytest.raises(Crash):
        fit(
            make(TwoStages), vectors, config, seed=1, directory=tmp_path / "cut", batches=Failing(vectors, at)
        )
    result = fit(make(TwoStages), vectors, config, seed=1, directory=tmp_path / "cut", resume=True)
    same_end(tmp_path / "whole", tmp_path / "cut")
    assert result.frozen.keys() == {"prior/codec"}


def test_the_record_says_what_it_holds(whole):
    record = read_json(list_checkpoints(whole[0] / "checkpoints")[-1] / "state.json")
    assert (record["step"], record["batches"], record["stage"]) == (23, 46, "main")
    assert record["rng"] == {"kind": "counter", "seed": 1, "step": 23}
    assert json.dumps(record)
