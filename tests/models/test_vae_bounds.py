"""Bounds of the evidence by several samples, and the parts of the KL term."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from model_cases import DIGITS, batch, context, make
from test_vae import linear_gaussian
from torch.distributions import Normal

from niwaki.models.registry import build, presets
from niwaki.models.vae.divergences import decomposed_kl, kl_to_standard, log_normal, total_correlation
from niwaki.models.vae.importance import log_mean_exp, repeat_rows, tile_rows

PRESETS = ["beta-vae", "beta-tc-vae", "iwae", "conditional-vae"]


def rows_of(n: int = 7, d: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mean, log_var, eps = torch.randn(3, n, d, dtype=torch.float64)
    return mean + (0.5 * log_var).exp() * eps, mean, log_var


def test_log_normal_is_that_of_torch_distributions() -> None:
    z, mean, log_var = rows_of()
    torch.testing.assert_close(log_normal(z, mean, log_var), Normal(mean, (0.5 * log_var).exp()).log_prob(z))


def test_parts_of_the_kl_add_up_to_it_exactly() -> None:
    z, mean, log_var = rows_of()
    whole = (Normal(mean, (0.5 * log_var).exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1).mean()
    torch.testing.assert_close(sum(decomposed_kl(z, mean, log_var)), whole)


def test_parts_of_the_kl_by_loops() -> None:
    z, mean, log_var = rows_of()
    n, d = z.shape

    def density(i: int, j: int, k: int) -> float:
        scale = math.exp(0.5 * float(log_var[j, k]))
        return math.exp(float(Normal(float(mean[j, k]), scale).log_prob(z[i, k])))

    own = marginal = aggregate = prior = 0.0
    for i in range(n):
        own += sum(math.log(density(i, i, k)) for k in range(d)) / n
        joint = [math.prod(density(i, j, k) for k in range(d)) for j in range(n)]
        aggregate += math.log(sum(joint) / n) / n
        marginal += sum(math.log(sum(density(i, j, k) for j in range(n)) / n) for k in range(d)) / n
        prior += float(Normal(0.0, 1.0).log_prob(z[i]).sum()) / n
    expected = own - aggregate, aggregate - marginal, marginal - prior
    torch.testing.assert_close(torch.stack(decomposed_kl(z, mean, log_var)), torch.tensor(expected).double())


def test_one_posterior_for_all_has_neither_information_nor_correlation() -> None:
    """q(z) = Π q(z_d): what remains is the KL of each latent, in expectation the closed form."""
    torch.manual_seed(0)
    mean, log_var = (torch.randn(1, 3, dtype=torch.float64).expand(500, 3) for _ in range(2))
    z = mean + (0.5 * log_var).exp() * torch.randn(500, 3, dtype=torch.float64)
    information, correlation, each = decomposed_kl(z, mean, log_var)
    assert abs(float(information)) < 1e-9
    assert abs(float(correlation)) < 1e-9
    assert float(each) == pytest.approx(float(kl_to_standard(mean, log_var).sum(1).mean()), abs=0.3)


def test_latents_that_say_the_same_are_correlated() -> None:
    torch.manual_seed(0)
    mean, log_var = torch.randn(200, 2, dtype=torch.float64), torch.full((200, 2), -4.0, dtype=torch.float64)
    noise = (0.5 * log_var).exp() * torch.randn(200, 2, dtype=torch.float64)
    same = mean[:, :1].expand(200, 2)
    apart, together = (float(total_correlation(m + noise, m, log_var)) for m in (mean, same))
    assert together > apart + 1.0


def test_rows_are_repeated_one_by_one_and_tiled_all_at_once() -> None:
    t = torch.arange(6).reshape(3, 2)
    assert torch.equal(repeat_rows(t, 2), t.repeat_interleave(2, 0))
    assert torch.equal(tile_rows(t, 2), t.repeat(2, 1))
    torch.testing.assert_close(
        log_mean_exp(torch.tensor([0.0, 1.0]), 2), torch.tensor([(1 + math.e) / 2]).log()
    )


def test_at_the_exact_posterior_every_sample_gives_the_evidence() -> None:
    """p(x, z)/q(z | x) = p(x), whatever z."""
    model, x, evidence = linear_gaussian(shift=0.0)
    for samples in (1, 3):
        bound = model.importance_bound(x, samples=samples)
        torch.testing.assert_close(bound, evidence, atol=2e-3, rtol=0)


def test_the_bound_rises_with_the_samples_up_to_the_evidence() -> None:
    """In expectation, of a posterior that is off by 0.2: means over 400 seeds, errors of 0.02."""
    model, x, evidence = linear_gaussian(shift=0.2)
    x, evidence = x[:1].expand(400, 1, 4, 4), float(evidence[0])
    with torch.no_grad():
        bounds = [float(model.importance_bound(x, samples=k).mean()) for k in (1, 2, 8, 64)]
    elbo = float(model.elbo(x[:1], draws=4000))
    assert bounds[0] == pytest.approx(elbo, abs=0.25)
    assert all(a < b for a, b in pairwise(bounds)), bounds
    assert evidence - 0.15 < bounds[-1] < evidence + 0.05


def test_gradients_are_those_of_the_samples_by_their_weights() -> None:
    """∇ log 1/k Σ w = Σ softmax(log w) ∇ log w (Burda et al. 2016, Equation 14)."""
    model = make("vae", importance=3).double().eval()
    data = batch(DIGITS, n=2)
    x, y, eps = data.x.double(), data["class"], torch.randn(2, 3, 6, dtype=torch.float64)
    bound = model.bound_of_draws(eps, x, y).sum()
    wanted = torch.autograd.grad(bound, model.parameters(), allow_unused=True)
    each = torch.stack([model.bound_of_draws(eps[:, i : i + 1], x, y) for i in range(3)], 1)
    weights = each.detach().softmax(1)
    found = torch.autograd.grad((weights * each).sum(), model.parameters(), allow_unused=True)
    for a, b in zip(wanted, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # likelihoods are float32, whatever the model


def test_the_total_correlations_gradient_is_its_slope() -> None:
    z, mean, log_var = rows_of(4, 2)
    inputs = [t.requires_grad_(True) for t in (z, mean, log_var)]
    assert torch.autograd.gradcheck(lambda *t: torch.stack(decomposed_kl(*t)), inputs)


@pytest.mark.parametrize("name", ["vae", "spatial-vae"])
def test_the_loss_is_the_bound_per_value(name: str) -> None:
    model = make(name, importance=4).eval()
    data = batch(DIGITS, n=5)
    y = data.get("class") if model.classes else None
    loss = model.loss("elbo", data, context(3))
    eps = torch.randn((5, 4, *model.latent.shape), generator=torch.Generator().manual_seed(3))
    expected = -model.bound_of_draws(eps, data.x, y).mean() / DIGITS.size
    torch.testing.assert_close(sum(loss.values()), expected)


@pytest.mark.parametrize("name", ["vae", "spatial-vae"])
@pytest.mark.parametrize("importance", [1, 3])
def test_total_correlation_adds_what_it_weighs(name: str, importance: int) -> None:
    data = batch(DIGITS, n=6)
    usual = make(name, importance=importance).eval().loss("elbo", data, context())
    model = make(name, importance=importance, total_correlation=3.0).eval()
    more = model.loss("elbo", data, context())
    added = more.pop("total_correlation")
    assert more.keys() == usual.keys()
    assert all(torch.equal(v, usual[k]) for k, v in more.items())
    mean, log_var = model.posterior(data.x, data["class"] if model.classes else None)
    shape = mean.shape if importance == 1 else (6, importance, *mean.shape[1:])
    eps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    z = mean + (0.5 * log_var).exp() * (eps if importance == 1 else eps[:, 0])
    parts = total_correlation(z.flatten(1), mean.flatten(1), log_var.flatten(1))
    torch.testing.assert_close(added, 2.0 * parts / DIGITS.size)


@pytest.mark.parametrize("conditional", [True, False])
def test_log_prob_takes_as_many_samples_as_it_is_told(conditional: bool) -> None:
    model = make("vae", bound=5, conditional=conditional).eval()
    data = batch(DIGITS, n=3)
    asked = {"x": data.x, **({"class": data["class"]} if conditional else {})}
    with torch.no_grad():
        found = model.run("log_prob", 3, seed=4, inputs=asked)
        expected = model.importance_bound(data.x, asked.get("class"), samples=5, seed=4)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.log_prob(data.x, asked.get("class"), seed=4), expected)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_say_what_differs(name: str) -> None:
    values = dict(presets()[name].values)
    model, base = build(name, {}, DIGITS), build(presets()[name].base, values, DIGITS)
    assert model.config == base.config
    assert (model.name, presets()[name].base) == (name, "vae")
    other = build("spatial-vae", {k: v for k, v in values.items() if k != "conditioning"}, DIGITS)
    assert all(getattr(other.config, k) == v for k, v in values.items() if k != "conditioning")


def test_settings_at_rest_are_in_no_record() -> None:
    """Models that were kept before there were such settings have the same record."""
    record = make("vae").config.model_dump()
    assert not {"importance", "bound", "total_correlation"} & record.keys()
