"""A stage may change what makes sense within it: batch size, optimizers, schedule, precision …"""

from __future__ import annotations

import pytest
import torch
from training_toys import Adversaries, Regression, TwoStages

from niwaki.core.contract import Phase
from niwaki.core.store import read_json, read_tensors
from niwaki.data import Feeder
from niwaki.training import StageConfig, TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints
from niwaki_runtime.errors import CallError


class Crash(Exception):
    pass


class Witness(Adversaries):
    """Belongs to all stages; falls over when `at` batches were drawn."""

    def __init__(self, at: int = -1) -> None:
        torch.manual_seed(0)
        super().__init__(repeats=2, every=3)
        self.at, self.drawn = at, []

    def prepare(self, batch, ctx):
        if len(self.drawn) == self.at:
            raise Crash
        self.drawn.append((ctx.stage, batch.index.tolist()))
        return batch


STAGES = (
    StageConfig(name="small", steps=7, ema=0.5),
    StageConfig(name="large", steps=6, batch=24, accumulate=3, lr=0.02, clip=0.5, schedule="linear", ema=0.0),
    StageConfig(name="last", steps=5, batch=4, optimizers={"critic": {"name": "sgd"}}, warmup=2, ema=0.9),
)
CONFIG = TrainConfig(batch=8, lr=0.01, log_every=4, checkpoint_every=4, stages=STAGES, precision="fp32")


def test_every_sample_comes_once_per_epoch_whatever_the_batch_sizes(vectors):
    """The batches of all stages, one after the other, are the shuffled stream without a gap or an overlap."""
    model = Witness()
    fit(model, vectors, CONFIG, seed=3)
    assert {s: len(b) for s, b in model.drawn} == {"small": 8, "large": 24, "last": 4}
    seen = [i for _, batch in model.drawn for i in batch]
    stream = Feeder(vectors, 1, seed=3)
    assert seen == [int(stream.index(k)) for k in range(len(seen))]


@pytest.mark.parametrize("at", [9, 13, 14, 15, 22, 26, 27, 33])
def test_resuming_across_stages_of_different_batch_sizes_leaves_no_trace(vectors, tmp_path, at):
    fit(Witness(), vectors, CONFIG, seed=3, directory=tmp_path / "whole")
    with pytest.raises(Crash):
        fit(Witness(at), vectors, CONFIG, seed=3, directory=tmp_path / "cut")
    fit(Witness(), vectors, CONFIG, seed=3, directory=tmp_path / "cut", resume=True)
    one, two = (
        read_tensors(list_checkpoints(tmp_path / d / "checkpoints")[-1] / "state.safetensors")
        for d in ("whole", "cut")
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_the_record_counts_the_samples_of_all_stages(vectors, tmp_path):
    fit(Witness(), vectors, CONFIG, seed=3, directory=tmp_path)
    record = read_json(list_checkpoints(tmp_path / "checkpoints")[-1] / "state.json")
    assert record["samples"] == 2 * (7 * 8 + 6 * 24 + 5 * 4)
    assert record["position"] == {"stage": 2, "start": 13, "ended": True}


def test_a_stage_with_its_own_settings_is_the_training_with_them(vectors):
    """One stage with everything changed against a training that says so from the start."""
    changes = {"batch": 16, "lr": 0.05, "optimizer": "sgd", "warmup": 3, "clip": 0.1, "ema": 0.8}
    changes |= {"schedule": {"name": "one_cycle"}, "accumulate": 2, "loss_weights": {"square": 0.5}}
    ends = []
    for config in (
        TrainConfig(steps=9, precision="fp32", **changes),
        TrainConfig(stages=(StageConfig(name="main", steps=9, precision="fp32", **changes),)),
    ):
        torch.manual_seed(0)
        model = Regression()
        fit(model, vectors, config, seed=0)
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])


def test_an_average_that_is_turned_off_follows_the_weights(vectors):
    """After a stage with ema 0 the averaged weights are the weights, to the bit."""
    stages = (StageConfig(name="a", steps=5, ema=0.9), StageConfig(name="b", steps=5, ema=0.0))
    averaged, plain = Regression(), Regression()
    plain.load_state_dict(averaged.state_dict())
    fit(averaged, vectors, TrainConfig(batch=8, stages=stages), seed=0)
    never = (StageConfig(name="a", steps=5), StageConfig(name="b", steps=5))
    fit(plain, vectors, TrainConfig(batch=8, stages=never, ema=0.0), seed=0)
    assert all(torch.equal(averaged.state_dict()[n], v) for n, v in plain.state_dict().items())


def test_precision_changes_from_stage_to_stage(vectors):
    kinds = []

    class Typed(Regression):
        def loss(self, phase, batch, ctx):
            kinds.append((ctx.stage, self.net(batch.x).dtype))
            return super().loss(phase, batch, ctx)

    stages = (StageConfig(name="a", steps=1, precision="bf16"), StageConfig(name="b", steps=1))
    fit(Typed(), vectors, TrainConfig(batch=8, stages=stages, precision="fp32"), seed=0)
    assert kinds == [("a", torch.bfloat16), ("b", torch.float32)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"devices": 2}, CallError, "'devices', which holds for the whole training"),
        ({"checkpoint_every": 2}, CallError, "'checkpoint_every', which holds for the whole training"),
        ({"clp": 2}, CallError, "no setting 'clp'; did you mean 'clip'"),
        ({"clip": -2}, CallError, "the stage 'a': 'clip' must be at least 0, not -2"),
        ({"batch": 3, "accumulate": 2}, CallError, "the stage 'a': batch 3 must be a multiple"),
    ],
)
def test_what_a_stage_cannot_have_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        TrainConfig(stages=(StageConfig(name="a", steps=1, **change),))


class InTwoOfThree(Regression):
    def phases(self):
        return (
            Phase("fit", ("net",), stage=("a", "c")),
            Phase("other", ("net.0",), stage="b", optimizer="fit"),
        )

    def loss(self, phase, batch, ctx):
        self.asked = [*getattr(self, "asked", []), (ctx.stage, phase)]
        return super().loss(phase, batch, ctx)


def test_a_phase_may_belong_to_several_stages(vectors):
    model = InTwoOfThree()
    stages = tuple(StageConfig(name=n, steps=1) for n in "abc")
    fit(model, vectors, TrainConfig(batch=8, stages=stages), seed=0)
    assert model.asked == [("a", "fit"), ("b", "other"), ("c", "fit")]
    with pytest.raises(CallError, match=r"has a stage 'c' that train.stages does not name"):
        fit(InTwoOfThree(), vectors, TrainConfig(batch=8, stages=stages[:2]), seed=0)


def test_what_is_frozen_in_the_whole_training_is_frozen_in_every_stage(vectors):
    model = TwoStages()
    before = model.codec[0].weight.detach().clone()
    stages = (StageConfig(name="codec", steps=3), StageConfig(name="prior", steps=3))
    config = TrainConfig(batch=8, lr=0.1, stages=stages, freeze=("codec.0",))
    result = fit(model, vectors, config, seed=0)
    assert torch.equal(model.codec[0].weight, before)
    assert result.frozen.keys() == {"codec/codec.0", "prior/codec.0"}
