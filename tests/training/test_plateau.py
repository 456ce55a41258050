"""A learning rate that falls where held-out data get no better."""

from __future__ import annotations

import pytest
import torch
from training_toys import Regression

from niwaki.core.store import read_json, read_jsonl, read_tensors
from niwaki.data import Split
from niwaki.training import Interrupted, StageConfig, TrainConfig, fit
from niwaki.training.changed import undecided
from niwaki.training.checkpoint import list_checkpoints
from niwaki.training.identity import identity
from niwaki.training.schedules import build_schedule
from niwaki_runtime.errors import CallError

PLATEAU = {"name": "plateau", "factor": 0.5, "patience": 1}
CONFIG = TrainConfig(
    steps=24, batch=8, lr=0.3, schedule=PLATEAU, validate_every=2, log_every=1, checkpoint_every=6,
    precision="fp32",
)  # fmt: skip


def held_out(spec) -> Split:
    return Split.of(spec, torch.randn(24, 4, generator=torch.Generator().manual_seed(5)))


def fresh():
    torch.manual_seed(0)
    return Regression()


def test_two_cuts_by_hand():
    rate = build_schedule({"name": "plateau", "factor": 0.1, "patience": 2, "floor": 0.02})
    seen = [3.0, 2.0, 2.5, 2.0, 1.9, 1.9, 1.9, 1.9, 1.9]
    assert [rate(0, 1, seen[:n]) for n in range(10)] == pytest.approx([1] * 4 + [0.1] * 3 + [0.02] * 3)
    assert rate(0, 1, [float("nan")] * 2) == pytest.approx(0.1)  # what is no number is no progress


@pytest.mark.parametrize("higher", [False, True])
def test_cuts_are_those_of_torch(higher):
    """torch cuts after one bad validation more than it calls its patience."""
    generator = torch.Generator().manual_seed(3)
    for patience, rest, delta in ((1, 0, 0.0), (2, 3, 0.0), (3, 1, 0.2)):
        values = (torch.rand(80, generator=generator) + torch.linspace(1, 0, 80)).tolist()
        sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            sgd, mode="max" if higher else "min", factor=0.5, patience=patience - 1, cooldown=rest,
            threshold=delta, threshold_mode="abs", eps=0.0, min_lr=2.0**-9,
        )  # fmt: skip
        settings = {"factor": 0.5, "patience": patience, "rest": rest, "min_delta": delta, "floor": 2.0**-9}
        ours = build_schedule({"name": "plateau", "higher": higher, **settings})
        for n, value in enumerate(values, 1):
            theirs.step(value)
            assert ours(0, 1, values[:n]) == pytest.approx(sgd.param_groups[0]["lr"]), n


def test_the_rate_that_is_used_follows_the_validations(vectors, tmp_path):
    fit(fresh(), vectors, CONFIG, seed=0, directory=tmp_path, validation=held_out(vectors.spec))
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    losses = {line["step"]: line["validation/loss"] for line in lines if "validation/loss" in line}
    rates = {line["step"]: line["lr/fit"] for line in lines if "lr/fit" in line}
    rule = build_schedule(PLATEAU)
    for step, rate in rates.items():
        assert rate == 0.3 * rule(0, 1, [loss for at, loss in losses.items() if at < step])
    assert rates[24] < 0.3


def test_it_resumes_to_the_bit_and_counts_no_validation_of_an_end(vectors, tmp_path):
    split = held_out(vectors.spec)
    fit(fresh(), vectors, CONFIG, seed=0, directory=tmp_path / "whole", validation=split)

    def stop(step, total, last):
        if step == 13:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        fit(fresh(), vectors, CONFIG, seed=0, directory=tmp_path / "cut", validation=split, progress=stop)
    fit(fresh(), vectors, CONFIG, seed=0, directory=tmp_path / "cut", validation=split, resume=True)
    short = CONFIG.model_copy(update={"steps": 13})  # ends at a validation that 24 steps do not make
    fit(fresh(), vectors, short, seed=0, directory=tmp_path / "longer", validation=split)
    fit(fresh(), vectors, CONFIG, seed=0, directory=tmp_path / "longer", validation=split, resume=True)
    ends = [list_checkpoints(tmp_path / n / "checkpoints")[-1] for n in ("whole", "cut", "longer")]
    measured = [read_json(end / "state.json")["measured"] for end in ends]
    assert measured[0] == measured[1] == measured[2]
    assert [at for at, _ in measured[0]] == list(range(2, 25, 2))
    whole, *others = (read_tensors(end / "state.safetensors") for end in ends)
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in whole.items() if "sums" not in name)


def test_it_may_go_by_what_a_caller_measures(vectors):
    config = CONFIG.model_copy(update={"schedule": {**PLATEAU, "by": "score", "higher": True}})
    rates = []
    fit(
        fresh(), vectors, config, seed=0,
        validate=lambda model, step: {"score": min(step, 10)},
        progress=lambda step, total, last: rates.append(last["lr/fit"]),
    )  # fmt: skip
    assert (rates[11], rates[12], rates[-1]) == (0.3, 0.15, 0.3 * 2.0**-6)


def test_what_it_goes_by_belongs_to_the_training(vectors):
    other = CONFIG.model_copy(update={"validate_every": 3})
    assert identity(other) != identity(CONFIG)
    with pytest.raises(CallError, match="goes by 'loss' on held-out data, which is not measured"):
        fit(fresh(), vectors, CONFIG, seed=0)
    with pytest.raises(CallError, match="set 'validate_every'"):
        TrainConfig(schedule="plateau", checkpoint_every=0)
    stages = (StageConfig(name="a", steps=1, schedule="plateau"), StageConfig(name="b", steps=1))
    plain = undecided(TrainConfig(stages=stages, schedule="linear"))
    assert [plain.of_stage(stage).schedule for stage in plain.stages] == ["constant", "linear"]
