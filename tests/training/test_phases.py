"""What a training step does: which phases, on which batches, moving which weights."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from training_toys import Adversaries, Regression, TwoStages

from niwaki.core.contract import Phase
from niwaki.data import Feeder
from niwaki.training import StageConfig, TrainConfig, fit
from niwaki.training.step import Stepper
from niwaki_runtime.errors import CallError

FP32 = {"precision": "fp32", "batch": 8, "log_every": 5, "ema": 0.0}


def test_phases_run_as_often_as_they_say(vectors):
    model = Adversaries(repeats=3, every=4)
    fit(model, vectors, TrainConfig(steps=10, **FP32), seed=0)
    counts = Counter(phase for phase, _, _ in model.seen)
    assert counts == {"critic": 30, "penalty": 3, "generator": 10}
    assert [step for phase, step, _ in model.seen if phase == "penalty"] == [0, 4, 8]
    assert model.steps == 10


def test_a_fresh_batch_is_the_next_of_the_stream_and_a_stale_one_that_of_the_run_before(vectors):
    model = Adversaries(repeats=2, every=2)
    fit(model, vectors, TrainConfig(steps=4, **FP32), seed=5)
    stream = Feeder(vectors, 8, seed=5)
    drawn = [index for phase, _, index in model.seen if phase == "critic"]
    assert drawn == [stream.index(k).tolist() for k in range(8)]
    for before, after in zip(model.seen, model.seen[1:], strict=False):
        if after[0] != "critic":
            assert after[2] == before[2]


class Witness(Adversaries):
    """Notes its weights and what requires gradients whenever a loss is asked for."""

    def __init__(self):
        super().__init__(repeats=1, every=1)
        self.notes = []

    def loss(self, phase, batch, ctx):
        weights = {n: p.detach().clone() for n, p in self.named_parameters()}
        self.notes.append((phase, weights, {n for n, p in self.named_parameters() if p.requires_grad}))
        return super().loss(phase, batch, ctx)


def test_a_phase_moves_its_own_weights_and_no_bit_of_the_others(vectors):
    model = Witness()
    fit(model, vectors, TrainConfig(steps=6, lr=0.01, weight_decay=0.1, optimizer="adamw", **FP32), seed=0)
    for (phase, before, open_), (_, after, _) in zip(model.notes, model.notes[1:], strict=False):
        own = "generator" if phase == "generator" else "critic"
        assert open_ == {n for n in before if n.startswith(own)}
        moved = {n for n in before if not torch.equal(before[n], after[n])}
        assert f"{own}.0.weight" in moved
        assert moved <= open_, phase


def test_a_training_is_the_loop_one_would_write(vectors):
    """Bit for bit, in float32: Adam over the shuffled stream with warm-up and cosine."""
    torch.manual_seed(0)
    model = Regression()
    plain = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    plain.load_state_dict(model.net.state_dict())
    fit(
        model, vectors, TrainConfig(steps=20, lr=0.01, schedule="constant", betas=(0.5, 0.99), **FP32), seed=3
    )
    opt = torch.optim.Adam(plain.parameters(), lr=0.01, betas=(0.5, 0.99), fused=True)
    stream = Feeder(vectors, 8, seed=3)
    for k in range(20):
        x = stream.batch(k).x
        opt.zero_grad()
        (plain(x).squeeze(1) - x.sum(1)).square().mean().backward()
        opt.step()
    for name, value in plain.state_dict().items():
        assert torch.equal(model.net.state_dict()[name], value), name


class Shared(Regression):
    def phases(self):
        return (
            Phase("a", ("net.0",), optimizer="one"),
            Phase("b", ("net",), fresh_batch=False, optimizer="one"),
        )


def test_phases_with_one_optimizer_share_its_moments(vectors):
    """Phase a trains the first layer, b all of them, with one Adam: its step count of the first layer is
    twice that of the last."""
    torch.manual_seed(0)
    model = Shared()
    plain = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    plain.load_state_dict(model.net.state_dict())
    fit(model, vectors, TrainConfig(steps=6, lr=0.01, schedule="constant", **FP32), seed=3)
    opt = torch.optim.Adam(plain.parameters(), lr=0.01, fused=True)
    stream = Feeder(vectors, 8, seed=3)
    for k in range(6):
        x = stream.batch(k).x
        for trained in (plain[0], plain):
            opt.zero_grad()
            gradients = torch.autograd.grad(
                (plain(x).squeeze(1) - x.sum(1)).square().mean(), list(trained.parameters())
            )
            for parameter, gradient in zip(trained.parameters(), gradients, strict=True):
                parameter.grad = gradient
            opt.step()
    assert opt.state[plain[0].weight]["step"] == 12
    assert opt.state[plain[2].weight]["step"] == 6
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.net.state_dict()[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_micro_batches_make_the_gradient_of_the_whole_batch(vectors, clip):
    ends = []
    for parts in (1, 2, 8):
        torch.manual_seed(0)
        model = Regression()
        config = TrainConfig(
            **{**FP32, "batch": 16, "log_every": 15},
            steps=15,
            lr=0.1,
            optimizer="sgd",
            accumulate=parts,
            clip=clip,
        )
        ends.append((model, fit(model, vectors, config, seed=1)))
    for model, result in ends[1:]:
        for name, value in ends[0][0].state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
        assert result.last["fit/square"] == pytest.approx(ends[0][1].last["fit/square"], rel=1e-5)


def test_clipping_bounds_the_step(vectors):
    """SGD without momentum moves by lr · gradient, so at most by lr · clip."""
    torch.manual_seed(0)
    model = Regression()
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    config = TrainConfig(
        **FP32, steps=1, lr=1.0, betas=(0.0, 0.9), optimizer="sgd", clip=0.01, schedule="constant"
    )
    result = fit(model, vectors, config, seed=0)
    moved = nn.utils.parameters_to_vector(model.parameters()).detach() - start
    assert result.last["fit/gradient_norm"] > 0.01
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


class Weighted(Regression):
    def loss(self, phase, batch, ctx):
        out = self.net(batch.x).float()
        return {"a": out.square().mean(), "b": (out - 3).square().mean()}


def test_terms_are_weighted_and_all_are_recorded(vectors):
    model = Weighted()
    config = TrainConfig(**FP32, steps=5, loss_weights={"a": 0.25})
    last = fit(model, vectors, config, seed=0).last
    assert last["fit/total"] == pytest.approx(0.25 * last["fit/a"] + last["fit/b"], rel=1e-6)
    with pytest.raises(CallError, match="did you mean 'a'"):
        fit(Weighted(), vectors, TrainConfig(**FP32, steps=5, loss_weights={"aa": 1.0}), seed=0)


def test_metrics_are_means_over_the_steps_since_the_last_line(vectors):
    every, coarse = [], []
    for log_every, into in ((1, every), (4, coarse)):
        torch.manual_seed(0)
        config = TrainConfig(**{**FP32, "log_every": log_every}, steps=8)
        show = lambda step, total, last, into=into: into.append((step, last["fit/square"]))  # noqa: E731
        fit(Regression(), vectors, config, seed=0, progress=lambda *a, show=show: a[2] and show(*a))
    values = dict(every)
    means = {s: v for s, v in coarse if s % 4 == 0}
    assert means[4] == pytest.approx(sum(values[s] for s in (1, 2, 3, 4)) / 4, rel=1e-6)
    assert means[8] == pytest.approx(sum(values[s] for s in (5, 6, 7, 8)) / 4, rel=1e-6)


class CountReads(TorchDispatchMode):
    """Counts the operations that hand a device value to Python."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            self.reads += 1
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device(vectors, monkeypatch):
    class Quiet(Adversaries):
        def loss(self, phase, batch, ctx):
            self.seen = []
            return super().loss(phase, type(batch)({"x": batch.x}, index=torch.zeros(0)), ctx)

    reads = []
    run = Stepper.run

    def counted(self, counters, watch=None):
        with CountReads() as mode:
            run(self, counters, watch)
        reads.append(mode.reads)

    monkeypatch.setattr(Stepper, "run", counted)
    fit(Quiet(), vectors, TrainConfig(**{**FP32, "ema": 0.9}, steps=4, clip=1.0, accumulate=2), seed=0)
    assert reads == [0, 0, 0, 0]


def test_weight_decay_spares_biases(vectors):
    model = Regression()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}

    model.loss = lambda phase, batch, ctx: {"zero": sum(p.sum() for p in model.parameters()) * 0.0}
    config = TrainConfig(**FP32, steps=1, lr=0.1, optimizer="adamw", weight_decay=0.1, schedule="constant")
    fit(model, vectors, config, seed=0)
    for name, parameter in model.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.1) if parameter.dim() > 1 else before[name]
        torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize(
    ("model", "config", "message"),
    [
        (Regression, {"optimizer": "adm"}, "no optimizer 'adm'; did you mean 'adam'"),
        (Regression, {"lr": {"other": 0.1}}, "lacks 'fit'"),
        (TwoStages, {}, "list them under train.stages"),
        (
            TwoStages,
            {"stages": (StageConfig(name="codec", steps=1),)},
            "stage 'prior' that train.stages does not",
        ),
        (
            TwoStages,
            {"stages": [StageConfig(name=n, steps=1) for n in ("codec", "prior", "extra")]},
            "nothing to train in the stage 'extra'",
        ),
        (Regression, {"stages": [StageConfig(name="a", steps=1, freeze=("nett",))]}, "did you mean 'net'"),
        (Regression, {"stages": [StageConfig(name="a", steps=1, freeze=("net",))]}, "no parameters left"),
        (Regression, {"device": "cuda:99"}, "train.device is 'cuda:99'"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(vectors, model, config, message):
    with pytest.raises(CallError, match=message):
        fit(model(), vectors, TrainConfig(**{**FP32, "steps": 2, **config}), seed=0)


def test_a_batch_that_cannot_be_cut_is_refused():
    with pytest.raises(CallError, match="multiple of devices"):
        TrainConfig(batch=10, accumulate=3)


class Sharing(Adversaries):
    """Its first phase leaves a mark for each part of a batch; the others read it."""

    def __init__(self):
        super().__init__(repeats=2, every=1)
        self.marks = []

    def loss(self, phase, batch, ctx):
        self.marks.append((phase, ctx.step, batch.index.tolist(), dict(ctx.shared)))
        if phase == "critic":
            ctx.shared["first"] = batch.index[0].detach()
        return super().loss(phase, batch, ctx)


def test_phases_share_what_is_about_the_same_part_of_the_same_batch_and_nothing_else(vectors):
    model = Sharing()
    fit(model, vectors, TrainConfig(steps=3, accumulate=2, **FP32), seed=0)
    for phase, _, index, shared in model.marks:
        if phase == "critic":
            assert shared == {}  # a fresh batch: whatever was about the one before is gone
        else:
            assert shared["first"] == index[0]
