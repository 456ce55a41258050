"""Losses that may be added to those of many models."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from training_toys import Regression

from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Graph, Phase, Port
from niwaki.data import Split
from niwaki.models import build
from niwaki.training import TrainConfig, fit
from niwaki.training.penalties.latent_smoothness import latent_smoothness
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import OneShot

SPEC = DataSpec.of("vector", (6,))


class Linear(GenerativeModel):
    """x = A z, and nothing else to learn."""

    def __init__(self, bend: bool = False) -> None:
        super().__init__()
        self.spec, self.config, self.name = SPEC, SimpleNamespace(), "linear"
        layers = [nn.Linear(3, 6, dtype=torch.float32), *([nn.Tanh()] if bend else [])]
        self.decoder = nn.Sequential(*layers)

    def phases(self):
        return (Phase("fit", ("decoder",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {"none": 0.0 * self.decoder[0].weight.sum()}

    def graphs(self):
        return {"decoder": Graph("decoder", self.decoder, (Port("z", (1, 3)),))}

    def sampler(self):
        return OneShot((3,), "decoder")


def context() -> Context:
    return Context(0, 0.0, "main", {}, torch.Generator().manual_seed(0))


def test_of_a_linear_decoder_it_is_the_norm_of_its_matrix():
    torch.manual_seed(0)
    model, batch = Linear(), Batch({"x": torch.zeros(40_000, 6)})
    value = latent_smoothness(model, batch, context())
    weight = model.decoder[0].weight
    assert float(value.detach()) == pytest.approx(float(weight.detach().square().sum()) / (6 * 3), rel=0.02)
    (slope,) = torch.autograd.grad(value, weight)
    torch.testing.assert_close(slope, 2 * weight.detach() / (6 * 3), rtol=0.1, atol=0.01)


def test_of_a_bent_one_it_is_that_of_its_jacobian():
    torch.manual_seed(1)
    model = Linear(bend=True)
    value = latent_smoothness(model, Batch({"x": torch.zeros(20_000, 6)}), context())
    z = torch.randn(2_000, 3, generator=torch.Generator().manual_seed(2))
    jacobian = torch.func.vmap(torch.func.jacrev(model.decoder))(z)
    exact = jacobian.square().sum((1, 2)).mean() / (6 * 3)
    assert float(value.detach()) == pytest.approx(float(exact.detach()), rel=0.03)


def test_it_flattens_a_decoder_in_training_by_its_name():
    split = Split.of(SPEC, torch.zeros(32, 6))
    losses = [{"call": "latent_smoothness", "weight": 2.0}]
    config = TrainConfig(steps=30, batch=8, lr=0.05, losses=losses, precision="fp32", log_every=1)
    torch.manual_seed(0)
    seen: list[float] = []
    fit(
        Linear(), split, config, seed=0,
        progress=lambda step, total, last: seen.append(last["fit/latent_smoothness"]),
    )  # fmt: skip
    assert seen[-1] < 0.1 * seen[0]


@pytest.mark.parametrize("name", ["conditional-vae", "dcgan", "stylegan2", "realnvp"])
def test_models_of_latents_have_it(name):
    spec = (
        DataSpec.of("vector", (6,), classes=2)
        if name == "realnvp"
        else DataSpec.of("image", (1, 8, 8), classes=2)
    )
    model = build(name, {}, spec)
    rows = Batch({"x": torch.zeros(4, *spec.shape), "class": torch.tensor([0, 1, 0, 1])})
    value = latent_smoothness(model, rows, context())
    assert value.requires_grad
    assert 0 < float(value.detach()) < 100


def test_models_without_and_names_that_are_none_are_refused(vectors):
    with pytest.raises(CallError, match="decode samples from latents"):
        latent_smoothness(Regression(), Batch({"x": torch.zeros(2, 4)}), context())
    with pytest.raises(CallError, match="no loss 'latent_smoothnes'; did you mean 'latent_smoothness'"):
        fit(Regression(), vectors, TrainConfig(losses=[{"call": "latent_smoothnes"}], steps=1), seed=0)
