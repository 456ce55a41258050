"""The averaged weights are the closed form of their recursion."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from training_toys import Adversaries, Regression

from niwaki.training import TrainConfig, fit
from niwaki.training.ema import Ema
from niwaki.training.schedule import ema_decay


def test_the_average_of_a_sequence_is_its_weighted_sum():
    """e_n = Πd·e_0 + Σ_i (1 − d_i) Π_{j>i} d_j · p_i, in float64."""
    model = nn.Linear(3, 2).double()
    ema = Ema(model)
    ema.follow(ema.values)
    decays, values = [0.1, 0.5, 0.9, 0.99], [model.weight.detach().clone()]
    for decay in decays:
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3, dtype=torch.float64))
        values.append(model.weight.detach().clone())
        ema.update(decay)
    expected = math.prod(decays) * values[0]
    for i, decay in enumerate(decays):
        expected = expected + (1 - decay) * math.prod(decays[i + 1 :]) * values[i + 1]
    torch.testing.assert_close(ema.values["weight"], expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(ema.values["bias"], model.bias)  # what does not move stays to the bit


def test_swapping_is_undone_to_the_bit():
    model = nn.Linear(3, 2)
    ema = Ema(model)
    before = model.weight.detach().clone()
    with torch.no_grad():
        ema.values["weight"].fill_(2.0)
    with ema.swapped():
        assert torch.equal(model.weight, torch.full((2, 3), 2.0))
    assert torch.equal(model.weight, before)


class Recorded(Regression):
    def __init__(self):
        super().__init__()
        self.path = [self.flat()]

    def flat(self):
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()

    def after_step(self, ctx):
        self.path.append(self.flat())


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_a_trained_model_holds_the_average_of_its_path(vectors, decay):
    model = Recorded()
    fit(model, vectors, TrainConfig(steps=30, batch=8, lr=0.01, ema=decay, precision="fp32"), seed=0)
    average = model.path[0].double()
    for n, value in enumerate(model.path[1:]):
        d = ema_decay(decay, n)
        average = d * average + (1 - d) * value.double()
    torch.testing.assert_close(model.flat().double(), average, rtol=1e-5, atol=1e-6)
    assert not model.training


def test_without_averaging_the_last_weights_remain(vectors):
    model = Recorded()
    fit(model, vectors, TrainConfig(steps=5, batch=8, ema=0, precision="fp32"), seed=0)
    assert torch.equal(model.flat(), model.path[-1])


def test_validation_sees_the_average_in_evaluation_mode_and_leaves_no_trace(vectors):
    config = TrainConfig(steps=9, batch=8, ema=0.9, validate_every=3, precision="fp32")
    plain, watched = Adversaries(), Adversaries()
    watched.load_state_dict(plain.state_dict())
    seen = []

    def validate(model, step):
        assert not model.training
        assert not any(m.training for m in model.modules())
        seen.append((step, model.generator[0].weight.detach().clone()))
        torch.randn(3)  # a validation may draw what it likes
        return {"value": float(step)}

    result = fit(watched, vectors, config, seed=0, validate=validate)
    fit(plain, vectors, config, seed=0)
    assert [step for step, _ in seen] == [3, 6, 9]
    assert result.last["validation/value"] == 9.0
    assert torch.equal(seen[-1][1], watched.generator[0].weight)
    for name, value in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[name], value), name
