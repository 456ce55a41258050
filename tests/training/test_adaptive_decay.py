"""Weight decay that keeps in step with the gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training_toys import Regression

from niwaki.training import TrainConfig, fit
from niwaki.training.optimizers import build_optimizer, optimizer_class
from niwaki_runtime.errors import CallError


def made(weights, **settings):
    return build_optimizer(optimizer_class("adaptive_decay")(**settings), weights)


def gradients(n: int):
    rng = torch.Generator().manual_seed(1)
    return [(torch.randn(3, 2, generator=rng), torch.randn(2, generator=rng)) for _ in range(n)]


def test_it_is_algorithm_1_around_sgd_with_momentum():
    """Of one matrix, written out; a bias is not decayed and has no say in the norms."""
    start = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    weights = {"w": nn.Parameter(start.clone()), "b": nn.Parameter(torch.ones(2))}
    ours = made(weights, lr=0.1, weight_decay=0.5, inner={"name": "sgd", "momentum": 0.9})
    w, b, m, c, kept = start.double(), torch.ones(2).double(), 0.0, 0.0, 0.0
    for of_w, of_b in gradients(6):
        kept = 0.1 * kept + 0.9 * 0.5 * float(of_w.double().norm() / w.norm())
        m, c = 0.9 * m + of_w.double() + kept * w, 0.9 * c + of_b.double()
        w, b = w - 0.1 * m, b - 0.1 * c
        weights["w"].grad, weights["b"].grad = of_w.clone(), of_b.clone()
        ours.step()
        torch.testing.assert_close(weights["w"].double(), w, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(weights["b"].double(), b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_loss_of_another_scale_is_decayed_as_much(scale):
    """g → s g and lr → lr/s give the same path; a fixed decay of s g + λ w would not."""
    paths = []
    for factor in (1.0, scale):
        w = nn.Parameter(torch.ones(3, 2))
        sgd = made({"w": w}, lr=0.1 / factor, weight_decay=0.2, inner={"name": "sgd", "momentum": 0.0})
        for slope, _ in gradients(5):
            w.grad = slope * factor
            sgd.step()
        paths.append(w.detach())
    torch.testing.assert_close(paths[0], paths[1], rtol=1e-4, atol=1e-5)


def test_no_decay_is_the_inner_optimizer_and_weights_of_zero_are_not_divided_by():
    plain, around = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2))
    adam = torch.optim.AdamW([plain], lr=0.1, weight_decay=0.0)
    ours = made({"w": around}, lr=0.1, weight_decay=0.0, inner="adamw")
    zero = nn.Parameter(torch.zeros(3, 2))
    begins = made({"w": zero}, lr=0.1, weight_decay=0.3)
    for slope, _ in gradients(3):
        plain.grad, around.grad, zero.grad = slope.clone(), slope.clone(), slope.clone()
        adam.step(), ours.step(), begins.step()
    assert torch.equal(plain, around)
    assert bool(torch.isfinite(zero).all())


def test_it_is_a_setting_of_a_recipe_and_of_one_kind_inside(vectors):
    config = TrainConfig(
        steps=3, batch=8, optimizer="adaptive_decay", weight_decay=0.02, betas=(0.8, 0.9), precision="fp32"
    )
    entry = config.optimizer_config()
    assert entry.inside().momentum == 0.8
    fit(Regression(), vectors, config, seed=0)
    with pytest.raises((CallError, ValueError), match="cannot be another adaptive decay"):
        TrainConfig(optimizers={"default": {"name": "adaptive_decay", "inner": "adaptive_decay"}})
