"""`begin_stage` sees the stage's data once before its first step; `prepare` sees every batch."""

from __future__ import annotations

import pytest
import torch
from training_toys import Regression, TwoStages

from niwaki.core.store import read_tensors
from niwaki.data import Feeder
from niwaki.training import NotFinite, StageConfig, TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints


class Crash(Exception):
    pass


class Scaled(TwoStages):
    """The codec's first weights and the scale of the codes follow from the data."""

    def __init__(self, at: int = -1) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.register_buffer("scale", torch.zeros(()))
        self.begun, self.at = [], at

    def begin_stage(self, ctx, batches):
        assert not torch.is_grad_enabled()
        self.begun.append((ctx.stage, ctx.step, [batches(k).index.tolist() for k in range(2)]))
        if ctx.stage == "codec":
            assert torch.equal(batches(0).x, batches(0).x)
            self.codec[0].weight.copy_(batches(0).x[:2])
        else:
            self.scale += self.codec[:2](batches(0).x).std() + torch.rand((), generator=ctx.rng)

    def loss(self, phase, batch, ctx):
        if ctx.step == self.at:
            raise Crash
        return super().loss(phase, batch, ctx)


STAGES = (StageConfig(name="codec", steps=6), StageConfig(name="prior", steps=6, batch=16, freeze=("codec",)))
CONFIG = TrainConfig(
    batch=8, lr=0.01, ema=0.9, log_every=3, checkpoint_every=4, stages=STAGES, precision="fp32"
)


def test_it_is_called_once_per_stage_with_the_batches_that_follow(vectors):
    model = Scaled()
    fit(model, vectors, CONFIG, seed=1)
    first, second = Feeder(vectors, 8, seed=1), Feeder(vectors, 16, seed=1)
    assert model.begun == [
        ("codec", 0, [first.index(k).tolist() for k in (0, 1)]),
        ("prior", 6, [second.index(k).tolist() for k in (3, 4)]),  # after 48 samples
    ]
    codes = model.codec[:2](second.batch(3).x)
    assert 0 <= model.scale - codes.std() < 1  # of the averaged codec, as the prior sees it; plus ctx.rng


def test_the_average_starts_from_what_it_set(vectors):
    """With a rate of 0 nothing moves, so the average is what `begin_stage` set, not what came before."""
    model = Scaled()
    fit(model, vectors, CONFIG.model_copy(update={"lr": 0.0}), seed=1)
    assert torch.equal(model.codec[0].weight, Feeder(vectors, 8, seed=1).batch(0).x[:2])


@pytest.mark.parametrize("at", [0, 2, 5, 6, 7, 9])
def test_resuming_does_not_repeat_it(vectors, tmp_path, at):
    fit(Scaled(), vectors, CONFIG, seed=1, directory=tmp_path / "whole")
    with pytest.raises(Crash):
        fit(Scaled(at), vectors, CONFIG, seed=1, directory=tmp_path / "cut")
    model = Scaled()
    fit(model, vectors, CONFIG, seed=1, directory=tmp_path / "cut", resume=True)
    assert [b[0] for b in model.begun] == (["prior"] if at < 8 else [])  # from the checkpoint at the border
    one, two = (
        read_tensors(list_checkpoints(tmp_path / d / "checkpoints")[-1] / "state.safetensors")
        for d in ("whole", "cut")
    )
    assert all(torch.equal(one[n], two[n]) for n in one)


class Augmented(Regression):
    """Adds noise with a strength that grows, kept in a buffer."""

    def __init__(self, at: int = -1) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.register_buffer("strength", torch.zeros(()))
        self.at, self.prepared, self.used = at, [], []

    def prepare(self, batch, ctx):
        assert not torch.is_grad_enabled()
        if ctx.step == self.at:
            raise Crash
        self.strength += 0.1
        noise = torch.randn(batch.x.shape, generator=ctx.rng) + torch.rand(())
        changed = batch.map(lambda t: t + self.strength * noise if t.is_floating_point() else t)
        self.prepared.append(changed.x.clone())
        return changed

    def loss(self, phase, batch, ctx):
        self.used.append(batch.x.clone())
        return super().loss(phase, batch, ctx)


def test_every_batch_is_prepared_once_before_it_is_cut(vectors):
    model = Augmented()
    fit(model, vectors, TrainConfig(steps=5, batch=8, accumulate=2, precision="fp32"), seed=0)
    assert len(model.prepared) == 5
    assert all(len(b) == 8 for b in model.prepared)
    assert torch.equal(torch.cat(model.used), torch.cat(model.prepared))
    assert model.strength == pytest.approx(0.5)


def test_preparing_resumes_bit_for_bit(vectors, tmp_path):
    config = TrainConfig(steps=9, batch=8, checkpoint_every=4, precision="fp32")
    whole, resumed = Augmented(), Augmented()
    fit(whole, vectors, config, seed=0, directory=tmp_path / "whole")
    with pytest.raises(Crash):
        fit(Augmented(at=6), vectors, config, seed=0, directory=tmp_path / "cut")
    fit(resumed, vectors, config, seed=0, directory=tmp_path / "cut", resume=True)
    assert all(torch.equal(resumed.state_dict()[n], v) for n, v in whole.state_dict().items())


def test_a_nan_made_by_prepare_is_told_from_one_in_the_data(vectors):
    class Broken(Regression):
        def prepare(self, batch, ctx):
            return batch.map(lambda t: t * float("nan") if ctx.step == 3 and t.is_floating_point() else t)

    with pytest.raises(NotFinite, match=r"what `prepare` made of the data, phase 'fit', step 4"):
        fit(Broken(), vectors, TrainConfig(steps=6, batch=8), seed=0)
