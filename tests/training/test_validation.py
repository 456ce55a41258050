"""Held-out loss: what it is, that it leaves no trace, what stopping early and the best weights make of it."""

from __future__ import annotations

import pytest
import torch
from training_toys import Adversaries, Regression, TwoStages

from niwaki.core.contract import Phase
from niwaki.core.store import read_json, read_jsonl, read_tensors
from niwaki.data import Split
from niwaki.training import EarlyStopping, StageConfig, TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints
from niwaki.training.validation import History
from niwaki_runtime.errors import CallError

FP32 = {"precision": "fp32", "batch": 8, "lr": 0.01}


def held_out(spec) -> Split:
    return Split.of(spec, torch.randn(24, 4, generator=torch.Generator().manual_seed(5)))


def fresh(cls=Regression):
    torch.manual_seed(0)
    return cls()


def test_it_is_the_loss_of_the_averaged_weights_over_the_split(vectors, tmp_path):
    split, model = held_out(vectors.spec), fresh()
    config = TrainConfig(steps=6, ema=0.5, validate_every=3, loss_weights={"square": 0.5}, **FP32)
    result = fit(model, vectors, config, seed=0, directory=tmp_path, validation=split)
    with torch.no_grad():
        expected = 0.5 * (model.net(split.x).squeeze(1) - split.x.sum(1)).square().mean()
    assert result.last["validation/loss"] == pytest.approx(float(expected), rel=1e-5)
    assert [n for n in result.last if n.startswith("validation/")] == ["validation/loss"]
    lines = [line for line in read_jsonl(tmp_path / "metrics.jsonl") if "validation/loss" in line]
    assert [line["step"] for line in lines] == [3, 6]
    assert (result.best_step, result.best_loss) == (6, lines[-1]["validation/loss"])


def test_it_always_draws_the_same_and_leaves_no_trace(vectors):
    """Of a model that draws from `ctx.rng` and torch's generator, and whose loss writes to buffers."""
    split, watched, plain = held_out(vectors.spec), fresh(Adversaries), fresh(Adversaries)
    config = TrainConfig(steps=6, validate_every=2, ema=0.9, **FP32)
    fit(watched, vectors, config, seed=0, validation=split)
    fit(plain, vectors, config, seed=0)
    assert all(torch.equal(watched.state_dict()[n], v) for n, v in plain.state_dict().items())

    class Still(Regression):
        def validation_loss(self, batch, ctx):
            noise = torch.randn(batch.x.shape, generator=ctx.rng) + torch.rand(())
            return {"noise": (batch.x * noise).sum()}

    found = {
        fit(Still(), vectors, TrainConfig(steps=n, **FP32), seed=0, validation=split).best_loss
        for n in (1, 2, 3)
    }
    assert len(found) == 1


def test_at_most_so_many_batches_and_no_sample_twice(vectors):
    rows = []

    class Rows(Regression):
        def validation_loss(self, batch, ctx):
            assert not self.training
            assert ctx.progress == 1.0
            rows.append(batch.index.tolist())
            return super().validation_loss(batch, ctx)

    split = held_out(vectors.spec)
    for most, expected in ((16, 3), (2, 2)):
        rows.clear()
        fit(Rows(), vectors, TrainConfig(steps=1, validation_batches=most, **FP32), seed=0, validation=split)
        assert [len(r) for r in rows] == [8] * expected
        assert len({i for r in rows for i in r}) == 8 * expected


class Critic(Regression):
    def phases(self):
        return (Phase("fit", ("net",), validate=False),)


def test_what_measures_nothing_is_not_validated(vectors):
    split = held_out(vectors.spec)
    result = fit(Critic(), vectors, TrainConfig(steps=2, **FP32), seed=0, validation=split)
    assert not any(n.startswith("validation/") for n in result.last)
    for change in ({"early_stopping": {"patience": 1}}, {"keep_best": True}):
        for model, given in ((Critic(), split), (Regression(), None)):
            with pytest.raises(CallError, match=f"train.{next(iter(change))} needs a loss on held-out data"):
                fit(model, vectors, TrainConfig(steps=2, **FP32, **change), seed=0, validation=given)


def test_a_double_backward_is_validated_too(vectors):
    result = fit(
        fresh(Adversaries), vectors, TrainConfig(steps=2, **FP32), seed=0, validation=held_out(vectors.spec)
    )
    assert {"validation/critic", "validation/penalty", "validation/generator"} <= result.last.keys()


def test_only_the_phases_of_the_stage_are_validated(vectors):
    asked = set()

    class Asked(TwoStages):
        def loss(self, phase, batch, ctx):
            asked.update({(ctx.stage, phase)} if not self.training else ())
            return super().loss(phase, batch, ctx)

    stages = (StageConfig(name="codec", steps=2), StageConfig(name="prior", steps=2))
    config = TrainConfig(stages=stages, **FP32)
    fit(Asked(), vectors, config, seed=0, validation=held_out(vectors.spec))
    assert asked == {("codec", "codec"), ("prior", "prior")}


def test_the_history_follows_its_definition():
    history, losses = History(), [3.0, 2.0, 1.95, 1.9, 2.5, float("nan"), 1.0]
    improved = [history.add(v, k, min_delta=0.2) for k, v in enumerate(losses, 1)]
    assert improved == [True, True, True, True, False, False, True]
    assert (history.best, history.step, history.reference, history.waited) == (1.0, 7, 1.0, 0)
    waited = History()
    for k, v in enumerate(losses[:-1], 1):
        waited.add(v, k, min_delta=0.2)
    assert waited.waited == 4  # 1.95 and 1.9 undercut 2.0 by less than 0.2
    assert waited.exhausted(EarlyStopping(patience=4))
    assert not waited.exhausted(EarlyStopping(patience=5))
    assert not waited.exhausted(None)
    assert History.from_json(waited.to_json()) == waited
    assert History.from_json(History().to_json()) == History()


class Scripted(Regression):
    """A validation loss that is written down beforehand, by step."""

    curve = (5.0, 4.0, 1.0, 2.0, 3.0, 4.0, 0.5, 9.0, 9.0, 9.0, 9.0, 9.0)
    crash = -1

    def validation_loss(self, batch, ctx):
        return {"fit": torch.tensor(self.curve[ctx.step - 1])}

    def loss(self, phase, batch, ctx):
        if ctx.step == self.crash:
            raise KeyError("crash")
        return super().loss(phase, batch, ctx)


def test_early_stopping_ends_after_patience(vectors, tmp_path):
    config = TrainConfig(
        steps=12, validate_every=1, early_stopping={"patience": 2}, checkpoint_every=5, **FP32
    )
    totals = []
    result = fit(
        fresh(Scripted), vectors, config, seed=0, directory=tmp_path, validation=held_out(vectors.spec),
        progress=lambda step, total, last: totals.append((step, total)),
    )  # fmt: skip
    assert (result.steps, result.best_step, result.best_loss) == (5, 3, 1.0)
    assert totals[-1] == (5, 5)
    again = fit(
        fresh(Scripted),
        vectors,
        config,
        seed=0,
        directory=tmp_path,
        validation=held_out(vectors.spec),
        resume=True,
    )
    assert (again.steps, again.best_step) == (5, 3)
    assert read_jsonl(tmp_path / "metrics.jsonl")[-1]["step"] == 5


def test_a_stage_that_ends_early_hands_over_to_the_next(vectors, tmp_path):
    stages = (
        StageConfig(name="a", steps=10, early_stopping={"patience": 2}),
        StageConfig(name="b", steps=3),
    )
    config = TrainConfig(stages=stages, validate_every=1, checkpoint_every=4, **FP32)
    for crash in (-1, 4, 5, 6):
        directory = tmp_path / str(crash)
        model, split = fresh(Scripted), held_out(vectors.spec)
        model.crash = crash
        if crash >= 0:
            with pytest.raises(KeyError):
                fit(model, vectors, config, seed=0, directory=directory, validation=split)
            model = fresh(Scripted)
        result = fit(model, vectors, config, seed=0, directory=directory, validation=split, resume=crash >= 0)
        assert (result.steps, result.best_step) == (8, 7)
        lines = read_jsonl(directory / "metrics.jsonl")
        assert [line["stage"] for line in lines if "validation/loss" in line] == ["a"] * 5 + ["b"] * 3
    a, b = (
        read_tensors(list_checkpoints(tmp_path / d / "checkpoints")[-1] / "state.safetensors")
        for d in ("-1", "5")
    )
    assert all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("kept", [True, False])
def test_the_best_weights_are_what_training_returns(vectors, tmp_path, kept):
    """Those of step 7: the same as of a training whose path is cut there (constant rate)."""
    config = TrainConfig(
        steps=12, validate_every=1, keep_best=True, schedule="constant", ema=0.5, keep=1, **FP32
    )
    split, best = held_out(vectors.spec), fresh(Scripted)
    result = fit(best, vectors, config, seed=0, directory=tmp_path if kept else None, validation=split)
    short = fresh()
    fit(short, vectors, config.model_copy(update={"steps": 7, "keep_best": False}), seed=0)
    assert (result.best_step, result.best_loss, result.steps) == (7, 0.5, 12)
    assert all(torch.equal(best.state_dict()[n], v) for n, v in short.state_dict().items())
    if kept:
        paths = list_checkpoints(tmp_path / "checkpoints")
        assert [p.name for p in paths] == ["step-0000007", "step-0000012"]
        one, two = (read_tensors(p / "state.safetensors") for p in paths)
        for name in (n for n in one if n.split("/")[0] in ("model", "ema", "optimizer")):
            assert torch.equal(one[name], two[name]), name  # weights and moments belong together
        assert read_json(paths[-1] / "state.json")["validations"]["step"] == 7


@pytest.mark.parametrize("crash", [2, 3, 4, 7, 8, 11])
def test_the_best_is_found_again_after_a_crash(vectors, tmp_path, crash):
    config = TrainConfig(
        steps=12, validate_every=1, keep_best=True, early_stopping={"patience": 4}, ema=0.5, keep=1,
        checkpoint_every=5, **FP32,
    )  # fmt: skip
    split, whole, resumed = held_out(vectors.spec), fresh(Scripted), fresh(Scripted)
    one = fit(whole, vectors, config, seed=0, directory=tmp_path / "whole", validation=split)
    broken = fresh(Scripted)
    broken.crash = crash
    if crash < one.steps:
        with pytest.raises(KeyError):
            fit(broken, vectors, config, seed=0, directory=tmp_path / "cut", validation=split)
    two = fit(resumed, vectors, config, seed=0, directory=tmp_path / "cut", validation=split, resume=True)
    assert (
        (one.steps, one.best_step, one.best_loss) == (two.steps, two.best_step, two.best_loss) == (11, 7, 0.5)
    )
    assert all(torch.equal(whole.state_dict()[n], v) for n, v in resumed.state_dict().items())
