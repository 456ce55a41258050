"""The evidence lower bound against exact evidence and torch.distributions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from model_cases import DIGITS, batch, context, make
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

from niwaki.core.contract import CallError, DataSpec
from niwaki.data.inputs import make_inputs
from niwaki.deployment import export_graphs, package, parity
from niwaki.models.vae.divergences import kl_to_standard
from niwaki.models.vae.likelihoods import bernoulli, gaussian


def test_kl_is_that_of_torch_distributions() -> None:
    mean, log_var = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard(mean, log_var), expected)


def test_likelihoods_are_those_of_torch_distributions() -> None:
    x, raw = torch.rand(4, 1, 3, 3, dtype=torch.float64), torch.randn(4, 1, 3, 3, dtype=torch.float64)
    scale = torch.tensor(-0.4, dtype=torch.float64)
    expected = Independent(Normal(raw, scale.exp()), 3).log_prob(x)
    torch.testing.assert_close(gaussian(x, raw, scale), expected)
    expected = Independent(Bernoulli(logits=raw), 3).log_prob(x.round())
    torch.testing.assert_close(bernoulli(x.round(), raw, scale), expected)


def test_bernoulli_of_grey_values_is_the_expectation_over_binarized_images() -> None:
    """All 2⁴ binarizations of a 2×2 image, weighed by their probability."""
    x, raw = torch.rand(1, 1, 2, 2, dtype=torch.float64), torch.randn(1, 1, 2, 2, dtype=torch.float64)
    total = torch.zeros(1, dtype=torch.float64)
    for bits in range(16):
        b = torch.tensor([bits >> i & 1 for i in range(4)], dtype=torch.float64).reshape(1, 1, 2, 2)
        weight = Independent(Bernoulli(probs=x), 3).log_prob(b).exp()
        total += weight * Independent(Bernoulli(logits=raw), 3).log_prob(b)
    torch.testing.assert_close(bernoulli(x, raw, torch.zeros(())), total)


class LinearEncoder(nn.Module):
    """q(z | x) = N(M (x − b) + shift, S): exact where M and S are those of the posterior and shift is 0."""

    def __init__(self, matrix: Tensor, bias: Tensor, variance: Tensor, shift: float = 0.0) -> None:
        super().__init__()
        self.matrix, self.bias, self.variance, self.shift = matrix, bias, variance, shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = (x.flatten(1) - self.bias) @ self.matrix.T + self.shift
        return mean, self.variance.log().expand_as(mean)


class LinearDecoder(nn.Module):
    """p(x | z) = N(W z + b, σ²)"""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def raw(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T + self.bias).reshape(-1, 1, 4, 4)


def linear_gaussian(shift: float) -> tuple[nn.Module, Tensor, Tensor]:
    """A VAE with orthogonal factors (its posterior is diagonal), samples, their exact log-evidence."""
    torch.manual_seed(3)
    model = make("vae", DataSpec.of("image", (1, 4, 4)), latent=3)
    sigma = 0.3
    basis = torch.linalg.qr(torch.randn(16, 3)).Q
    weight, bias = basis * torch.tensor([1.5, 0.8, 0.4]), 0.1 * torch.randn(16)
    precision = 1.0 + weight.square().sum(0) / sigma**2  # of each latent, given x
    model.encoder = LinearEncoder(weight.T / precision[:, None] / sigma**2, bias, 1.0 / precision, shift)
    model.decoder = LinearDecoder(weight, bias)
    with torch.no_grad():
        model.log_scale.fill_(math.log(sigma))
    exact = MultivariateNormal(bias, weight @ weight.T + sigma**2 * torch.eye(16))
    x = exact.sample((6,))
    return model, x.reshape(-1, 1, 4, 4), exact.log_prob(x)


def test_elbo_of_a_linear_gaussian_vae_equals_its_evidence_at_the_exact_posterior() -> None:
    model, x, evidence = linear_gaussian(shift=0.0)
    torch.testing.assert_close(model.log_prob(x, draws=4000), evidence, atol=0.06, rtol=0)


def test_elbo_falls_short_of_the_evidence_by_the_posteriors_divergence() -> None:
    """log p(x) − ELBO = KL(q ‖ p(z | x)), d²/2s² for Gaussians of variance s² a distance d apart."""
    model, x, evidence = linear_gaussian(shift=0.2)
    gap = (0.2**2 / (2.0 * model.encoder.variance)).sum()
    bound = model.log_prob(x, draws=4000)
    assert (bound < evidence).all()
    torch.testing.assert_close(evidence - bound, gap.expand(6), atol=0.06, rtol=0)


def test_the_loss_is_the_negative_elbo_per_value() -> None:
    model = make("vae").eval()
    data = batch(DIGITS, n=8)
    losses = [model.loss("elbo", data, context(s)) for s in range(64)]
    average = torch.stack([x["reconstruction"] + x["kl"] for x in losses]).mean()
    expected = -model.elbo(data.x, data["class"], draws=64).mean() / DIGITS.size
    torch.testing.assert_close(average, expected, rtol=5e-3, atol=0)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)])
def test_beta_weighs_the_kl_and_rises_over_the_warmup(progress: float, weight: float) -> None:
    data = batch(DIGITS)
    plain = make("vae").eval().loss("elbo", data, context())
    scaled = make("vae", beta=2.0, warmup=0.5).eval().loss("elbo", data, context(progress=progress))
    torch.testing.assert_close(scaled["kl"], weight * plain["kl"])
    torch.testing.assert_close(scaled["reconstruction"], plain["reconstruction"])


def test_without_classes_given_the_bound_is_marginal() -> None:
    model = make("vae").eval()
    x = batch(DIGITS, n=3).x
    each = torch.stack([model.log_prob(x, torch.full((3,), c)) for c in range(10)])
    torch.testing.assert_close(model.log_prob(x), each.exp().mean(0).log(), rtol=1e-4, atol=1e-3)


def test_its_programs_are_what_its_methods_say() -> None:
    model = make("vae").eval()
    assert list(model.programs()) == ["sample", "encode", "decode", "log_prob", "codec"]
    assert list(model.shipped_programs()) == ["sample", "decode"], "what needs no further graph"
    assert list(model.shipped_graphs()) == ["decoder"]
    assert list(make("dcgan").programs()) == ["sample"]
    data = batch(DIGITS, n=5)
    x, y = data.x, data["class"]
    with torch.no_grad():
        z = model.run("encode", 5, inputs={"x": x, "class": y})
        torch.testing.assert_close(z, model.encode(x, y))
        torch.testing.assert_close(model.run("decode", 5, inputs={"z": z, "class": y}), model.decode(z, y))
        bound = model.run("log_prob", 5, seed=3, inputs={"x": x, "class": y})
        torch.testing.assert_close(bound, model.elbo(x, y, draws=1, seed=3))
    for name in model.programs():
        assert tuple(model.run(name, 5, inputs=make_inputs(model, name, 5)).shape[1:]) == (
            model.program(name).output.shape
        )
    with pytest.raises(CallError, match="give the classes"):
        model.encode(data.x)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_log_prob_is_the_elbo_in_the_mean_over_seeds(likelihood: str) -> None:
    """Within five standard errors of the difference."""
    model = make("vae", likelihood=likelihood).eval()
    data = batch(DIGITS, n=3)
    asked = {"x": data.x, "class": data["class"]}
    draws = torch.stack([model.run("log_prob", 3, seed=s, inputs=asked) for s in range(150)])
    with torch.no_grad():
        expected = model.elbo(data.x, data["class"], draws=600, seed=1000)
    error = draws.std(0) * (1 / 150 + 1 / 600) ** 0.5
    assert ((draws.mean(0) - expected).abs() < 5 * error).all()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"likelihood": "bernoulli"}, marks=pytest.mark.slow),
        pytest.param({"conditional": False}, marks=pytest.mark.slow),
    ],
)
def test_a_bundle_encodes_decodes_and_bounds_as_the_model_does(
    changes: dict[str, object], tmp_path: Path
) -> None:
    model = make("vae", **changes).eval()
    model.shipped = ("sample", "encode", "decode", "log_prob")
    bundle = package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "vae.niwaki")
    report = parity(model, bundle, n=5, seed=2)
    assert set(report["programs"]) == {"encode", "decode", "log_prob"}
    assert report["passed"], report


def test_only_the_gaussian_has_a_scale_to_learn() -> None:
    assert "log_scale" in dict(make("vae").named_parameters())
    bernoulli_model = make("vae", likelihood="bernoulli")
    assert "log_scale" not in {**dict(bernoulli_model.named_parameters()), **bernoulli_model.state_dict()}


def test_the_scale_that_training_finds_is_the_reconstructions_error() -> None:
    """∂/∂log σ of the Gaussian likelihood vanishes at σ² = mean squared error."""
    x, mean = torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4)
    scale = (x - mean).square().mean().sqrt().log().requires_grad_(True)
    gaussian(x, mean, scale).mean().backward()
    assert abs(float(scale.grad)) < 1e-4


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_weights_of_levels_are_the_likelihood_at_the_levels(likelihood: str) -> None:
    """Differences between two levels of one value are those of log p(x | z)."""
    model = make("vae", likelihood=likelihood).eval()
    x, y = batch(DIGITS, n=3).x, batch(DIGITS, n=3)["class"]
    u, _ = model.standard_posterior(torch.zeros(3, model.latent.size), x, y)
    with torch.no_grad():
        weights = model.level_weights(u, y)
        assert weights.shape == (3, 64, 17)
        values = torch.linspace(model.spec.low, model.spec.high, 17)
        low, high = x.clone(), x.clone()
        low[:, 0, 2, 3], high[:, 0, 2, 3] = values[4], values[11]
        want = model._log_likelihood(high, u, y) - model._log_likelihood(low, u, y)
    torch.testing.assert_close(weights[:, 19, 11] - weights[:, 19, 4], want, rtol=1e-3, atol=1e-3)
