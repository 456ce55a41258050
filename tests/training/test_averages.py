"""Averages of weights are the weighted sums that their names say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from training_toys import Regression

from niwaki.training import StageConfig, TrainConfig, fit
from niwaki.training.averages import average_names, build_average, exponent_of, length_of
from niwaki.training.checkpoint import list_checkpoints
from niwaki.training.identity import identity
from niwaki_runtime.errors import CallError


class Recorded(Regression):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__()
        self.path = []

    def flat(self):
        return nn.utils.parameters_to_vector(self.parameters()).detach().double()

    def after_step(self, ctx):
        self.path.append(self.flat())


def weights_of(asked, total):
    """Share of the weights after each step in the last average: (1 − d) by Πd of the later steps."""
    decays = [build_average(asked, 0.0)(n, total) for n in range(total)]
    return np.array([(1 - d) * np.prod(decays[n + 1 :]) for n, d in enumerate(decays)])


@pytest.mark.parametrize(("share", "count"), [(0.25, 10), (1.0, 40), (0.001, 1), (0.33, 13)])
def test_the_tail_is_the_uniform_average_of_the_last_share(share, count):
    expected = np.r_[np.zeros(40 - count), np.full(count, 1 / count)]
    np.testing.assert_allclose(weights_of({"name": "tail", "share": share}, 40), expected, atol=1e-15)


@pytest.mark.parametrize("length", [0.05, 0.1, 0.2, 0.28])
def test_a_power_counts_each_step_by_the_integral_of_its_density(length):
    """(t^(γ+1) − (t−1)^(γ+1)) / T^(γ+1), whose standard deviation is the length that was asked for."""
    found, edges = weights_of({"name": "power", "length": length}, 500), np.arange(501) / 500
    np.testing.assert_allclose(found, np.diff(edges ** (exponent_of(length) + 1)), atol=1e-14)
    middles = (edges[1:] + edges[:-1]) / 2
    mean = (found * middles).sum()
    assert (found * (middles - mean) ** 2).sum() ** 0.5 == pytest.approx(length, abs=1e-4)


@pytest.mark.parametrize("gamma", [0.5, 6.94, 16.97])
def test_lengths_and_exponents_are_inverse(gamma):
    assert exponent_of(length_of(gamma)) == pytest.approx(gamma, rel=1e-9)
    known = {6.94: 0.10, 16.97: 0.05}  # Karras et al. 2024, Section 3.1
    assert length_of(gamma) == pytest.approx(known.get(gamma, length_of(gamma)), abs=1e-4)


@pytest.mark.parametrize("name", average_names())
def test_every_average_is_one_of_weights(name):
    """No share is negative; all of them, and that of the weights before the first step, add up to one."""
    decays = [build_average(name, 0.0)(n, 60) for n in range(60)]
    assert all(0.0 <= d <= 1.0 for d in decays)
    assert weights_of(name, 60).sum() + np.prod(decays) == pytest.approx(1.0)


@pytest.mark.parametrize("asked", ["tail", {"name": "tail", "share": 0.5}, {"name": "power", "length": 0.15}])
def test_a_trained_model_holds_the_average_that_was_asked_for(vectors, asked):
    model = Recorded()
    config = TrainConfig(steps=30, batch=8, lr=0.01, average=asked, precision="fp32")
    fit(model, vectors, config, seed=0)
    expected = sum(w * value for w, value in zip(weights_of(asked, 30), model.path, strict=True))
    torch.testing.assert_close(model.flat(), expected, rtol=1e-5, atol=1e-6)


def test_a_tail_goes_on_from_a_checkpoint_bit_for_bit(vectors, tmp_path):
    class Stopped(Exception):
        pass

    def stop(step, measured):
        if step == 18:
            raise Stopped

    config = TrainConfig(
        steps=24,
        batch=8,
        lr=0.01,
        average={"name": "tail", "share": 0.5},
        checkpoint_every=6,
        precision="fp32",
    )
    whole, broken, resumed = Recorded(), Recorded(), Recorded()
    fit(whole, vectors, config, seed=0)
    with pytest.raises(Stopped):
        fit(broken, vectors, config, seed=0, directory=tmp_path, validation=vectors, on_validation=stop)
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == "step-0000012"
    fit(resumed, vectors, config, seed=0, directory=tmp_path, resume=True, validation=vectors)
    assert torch.equal(resumed.flat(), whole.flat())


def test_a_stage_may_average_in_its_own_way(vectors):
    model = Recorded()
    stages = [StageConfig(name="a", steps=10), StageConfig(name="b", steps=8, average="tail")]
    fit(model, vectors, TrainConfig(batch=8, lr=0.01, stages=stages, precision="fp32"), seed=0)
    torch.testing.assert_close(model.flat(), torch.stack(model.path[-2:]).mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("tial", "no average 'tial'; did you mean 'tail'"),
        ({"name": "tail", "shares": 0.5}, "no setting 'shares'"),
        ({"name": "tail", "share": 0}, "'share' of the average 'tail'"),
        ({"name": "power", "length": 0.3}, "'length' of the average 'power'"),
    ],
)
def test_an_average_that_cannot_be_is_refused(asked, said):
    with pytest.raises(CallError, match=said):
        TrainConfig(average=asked)


def test_records_of_before_keep_their_identity():
    assert "average" not in identity(TrainConfig())
    assert identity(TrainConfig(average="tail"))["average"] == "tail"
