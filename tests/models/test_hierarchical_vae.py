"""A hierarchical VAE: its layers against torch.distributions, its probabilities against their sum."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import DIGITS, batch, context, make
from torch.distributions import Normal, kl_divergence

from niwaki.core.contract import CallError, DataSpec, Levels, ValueSpec
from niwaki.deployment import export_graphs, package
from niwaki.models.registry import build
from niwaki.models.vae.hierarchy import Gaussian, assign_sizes
from niwaki.models.vae.levels import HEADS, Categorical, Logistic
from niwaki.nn.layers.blocks import pyramid
from niwaki_runtime import noise
from niwaki_runtime.codec import open_codec

KINDS = sorted(HEADS)


def gaussians() -> tuple[Gaussian, Gaussian]:
    torch.manual_seed(0)
    parts = torch.randn(4, 5, 3, dtype=torch.float64)
    return Gaussian(parts[0], parts[1]), Gaussian(parts[2], parts[3])


def torch_of(g: Gaussian) -> Normal:
    return Normal(g.mean, g.log_scale.exp())


def test_divergence_is_that_of_torch_distributions() -> None:
    q, p = gaussians()
    torch.testing.assert_close(q.divergence(p), kl_divergence(torch_of(q), torch_of(p)))
    torch.testing.assert_close(q.divergence(p.standard()), kl_divergence(torch_of(q), Normal(0.0, 1.0)))


def test_log_ratio_is_that_of_torch_distributions() -> None:
    q, p = gaussians()
    noise = torch.randn(5, 3, dtype=torch.float64)
    z = q.at(noise)
    torch.testing.assert_close(q.log_ratio(p, noise), torch_of(q).log_prob(z) - torch_of(p).log_prob(z))
    torch.testing.assert_close(q.noise_of(z), noise)


@pytest.mark.parametrize(("layers", "sizes"), [(12, 4), (6, 4), (5, 4), (2, 4), (1, 3), (13, 6)])
def test_layers_go_from_coarse_to_fine_and_end_at_the_finest(layers: int, sizes: int) -> None:
    at = assign_sizes(layers, sizes)
    assert list(at) == sorted(at)
    assert at[-1] == sizes - 1
    counts = [at.count(s) for s in range(sizes)]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("layers", [1, 2, 3, 12])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 6), (2, 7, 5), (1, 12, 16)])
def test_any_shape_of_image_has_its_layers(layers: int, shape: tuple[int, ...]) -> None:
    model = make("hierarchical-vae", DataSpec.of("image", shape, levels=5), layers=layers)
    sizes = pyramid(*shape[1:], smallest=1)
    assert len(model.shapes) == layers
    assert {made[1:] for made in model.shapes} <= set(sizes)
    assert model.shapes[-1][1:] == shape[1:]
    assert model.sample(2, seed=0).shape == (2, *shape)


def spec_of(levels: int) -> ValueSpec:
    return ValueSpec("image", (2, 4, 5), "CHW", Levels(levels, -1.0, 1.0))


def head_of(kind: str, levels: int):
    torch.manual_seed(1)
    head = HEADS[kind](6, spec_of(levels)).double()
    with torch.no_grad():
        for p in head.parameters():
            p.add_(torch.randn_like(p))
    return head, torch.randn(3, 6, 4, 5, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "levels"),
    [("categorical", 2), ("categorical", 17), ("logistic", 2), ("logistic", 17), ("logistic", 256)],
)
def test_probabilities_of_levels_sum_to_one(kind: str, levels: int) -> None:
    head, h = head_of(kind, levels)
    each = head(h)
    assert each.shape == (3, 2, levels, 4, 5)
    torch.testing.assert_close(each.exp().sum(2), torch.ones(3, 2, 4, 5).to(each), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_is_that_of_the_level(kind: str) -> None:
    head, h = head_of(kind, 17)
    k = torch.randint(0, 17, (3, 2, 4, 5))
    x = -1.0 + k * (2.0 / 16)
    assert torch.equal(head.level_of(x), k)
    expected = head(h).gather(2, k.unsqueeze(2)).flatten(1).sum(1)
    torch.testing.assert_close(head.log_prob(x, h), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_probabilities_of_the_levels(kind: str) -> None:
    """Through the quantiles ½/m … of the noise: each frequency to 1/m."""
    head, h = head_of(kind, 5)
    m = 400
    noise = Normal(0.0, 1.0).icdf((torch.arange(m) + 0.5) / m).double()
    drawn = head.draw(h[:1].expand(m, -1, -1, -1), noise.view(m, 1, 1, 1).expand(m, 2, 4, 5))
    shares = torch.nn.functional.one_hot(head.level_of(drawn), 5).double().mean(0).movedim(-1, 1)
    torch.testing.assert_close(shares, head(h[:1]).exp()[0].double(), atol=1.1 / m + 2e-4, rtol=0)
    mean = (head.low + head.step * head.level_of(drawn)).double().mean(0)
    torch.testing.assert_close(head.mean(h[:1])[0].double(), mean, atol=0.02, rtol=0)


def test_a_logistic_is_the_difference_of_its_distribution_function() -> None:
    head, h = head_of("logistic", 7)
    head, h = head.float(), h.float()
    means, scales = head._parts(h)
    edges = (torch.arange(6) + 0.5) * (2.0 / 6) - 1.0
    cdf = [torch.zeros_like(means)] + [torch.sigmoid((e - means) / scales) for e in edges]
    cdf.append(torch.ones_like(means))
    slow = torch.stack([b - a for a, b in itertools.pairwise(cdf)], 2)
    torch.testing.assert_close(head(h).exp(), slow, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("far", [30.0, 1e3])
def test_a_logistic_stays_finite_far_from_its_mean(far: float) -> None:
    head = Logistic(1, spec_of(256))
    with torch.no_grad():
        head.output.weight.fill_(0.0)
        head.output.bias[:2] = far
    found = head.log_prob(torch.full((1, 2, 4, 5), -0.2), torch.zeros(1, 1, 4, 5))
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_each_number_of_levels_has_its_likelihood() -> None:
    models = [make("hierarchical-vae", DataSpec.of("image", (1, 4, 4), levels=n)) for n in (17, 256)]
    assert [type(m.head) for m in models] == [Categorical, Logistic]
    with pytest.raises(CallError, match="256 levels is too many"):
        make("hierarchical-vae", DataSpec.of("image", (1, 4, 4)), likelihood="categorical")


def test_a_categorical_that_says_nothing_has_the_frequencies_of_the_data() -> None:
    head = Categorical(3, spec_of(4))
    x = -1.0 + torch.randint(0, 4, (50, 2, 4, 5)) * (2.0 / 3)
    head.begin(x)
    found = head(torch.zeros(1, 3, 4, 5)).exp()[0]
    counts = torch.nn.functional.one_hot(head.level_of(x), 4).sum(0).movedim(-1, 1) + 0.5
    torch.testing.assert_close(found, counts / 52.0)


def test_the_prior_makes_of_encoded_normals_what_the_posterior_had() -> None:
    """z_l = mean_p + σ_p ε' is the z that was drawn, in every layer."""
    model = make("hierarchical-vae", layers=5).eval()
    data = batch(DIGITS, n=4)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.05)
        features = model.encoder(data.x)
        eps = torch.randn(4, *model.latent.shape)
        for drawn in (None, eps):
            h, made, _ = model.infer(features, drawn, data["class"])
            again = model.path(torch.cat([z.flatten(1) for z in made], 1), data["class"])
            torch.testing.assert_close(again, h, atol=1e-4, rtol=1e-4)


def test_the_loss_is_the_negative_bound_of_one_sample_in_expectation() -> None:
    model = make("hierarchical-vae").eval()
    data = batch(DIGITS, n=8)
    with torch.no_grad():
        losses = [sum(model.loss("elbo", data, context(s)).values()) for s in range(80)]
        eps = torch.randn(8, 1, *model.latent.shape)
        bounds = [model.class_bound(data.x, torch.randn_like(eps), data["class"]).mean() for _ in range(80)]
    expected = -torch.stack(bounds) / DIGITS.size
    error = (expected.std() + torch.stack(losses).std()) / math.sqrt(80)
    assert abs(float(torch.stack(losses).mean() - expected.mean())) < 5 * float(error)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "classes"), [("logistic", 0), ("categorical", 3)])
def test_probabilities_of_all_images_sum_to_one(kind: str, classes: int) -> None:
    """All 2¹⁶ images of 4×4 in two levels: e^bound is an unbiased estimate of P(x), whatever q is."""
    spec = DataSpec.of("image", (1, 4, 4), levels=2, classes=classes)
    small = {"layers": 2, "latent": 1, "width": 4, "inner": 4, "bound": 1}
    model = make("hierarchical-vae", spec, likelihood=kind, **small).eval()
    torch.manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
        bits = (torch.arange(1 << 16)[:, None] >> torch.arange(16)) & 1
        parts = (bits.float().reshape(-1, 1, 4, 4) * 2 - 1).split(1 << 14)
        total = sum(float(model.log_prob(x, seed=i).double().exp().sum()) for i, x in enumerate(parts))
    assert total == pytest.approx(1.0, abs=0.02)  # its standard error is near 0.005


def test_the_bound_rises_with_its_samples() -> None:
    model = make("hierarchical-vae", conditional=False).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
        x = batch(DIGITS, n=1).x.expand(60, 1, 8, 8)
        bounds = [float(model.log_prob(x, draws=k).mean()) for k in (1, 4, 16)]
    assert bounds[0] < bounds[1] < bounds[2]


def test_samples_follow_their_declared_noise_alone() -> None:
    model = make("hierarchical-vae").eval()
    total = model.latent.size + DIGITS.size
    assert model.sampler().latent == (total,)
    one, other = (model.sample(3, seed=s, condition=4, temperature=0.0) for s in (1, 2))
    assert torch.equal(one, other), "at temperature 0 the median of every value, whatever the seed"
    x = model.sample(4, seed=1, condition=4)
    assert torch.equal(x, model.head.low + model.head.step * model.head.level_of(x)), "levels of the data"


def test_data_without_levels_are_refused_in_one_sentence() -> None:
    real = DataSpec({"x": ValueSpec("image", (1, 8, 8), "CHW")})
    with pytest.raises(CallError, match="stored levels"):
        build("hierarchical-vae", {}, real)


def test_deep_paths_begin_quietly() -> None:
    """What 24 layers add to the path at first is no more than a few times what 4 do."""
    sizes = []
    for layers in (4, 24):
        model = build("hierarchical-vae", {"layers": layers, "width": 16}, DIGITS)
        with torch.no_grad():
            sizes.append(float(model.path(torch.randn(8, *model.latent.shape), torch.zeros(8).long()).std()))
    assert sizes[1] < 3 * sizes[0]


# ------------------------------------------------------------------------------------------------------ codec


def test_the_codec_sees_the_posterior_in_the_priors_coordinates() -> None:
    """Of the same draw, its bits are those of log q(z) − log p(z) − log P(x | z), to the last digits."""
    model = make("hierarchical-vae", DIGITS).eval()
    x, y = batch(DIGITS, 6).x, batch(DIGITS, 6)["class"]
    eps = torch.from_numpy(noise.normal(3, 0, 6, (1, sum(model.sizes))))
    with torch.no_grad():
        want = -model.class_bound(x, eps, y) / math.log(2.0)
    got = model.run("codec", 6, seed=3, inputs={"x": x.numpy(), "class": y.numpy()})
    assert np.allclose(np.asarray(got), want.numpy(), rtol=1e-4)


def test_no_layer_of_the_posterior_sees_itself_or_what_is_below() -> None:
    model = make("hierarchical-vae", DIGITS).eval()
    x, y = batch(DIGITS, 2).x, batch(DIGITS, 2)["class"]
    u = torch.randn(2, sum(model.sizes), requires_grad=True)
    ends = np.cumsum(model.sizes)
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        mean, log_deviation = model.standard_posterior(u, x, y)
        (slope,) = torch.autograd.grad((mean + log_deviation)[:, start:end].sum(), u, allow_unused=True)
        assert slope is None or (slope[:, start:] == 0).all()


@pytest.mark.slow
def test_a_bundle_codes_digits_without_loss(tmp_path: Path) -> None:
    pytest.importorskip("constriction")
    model = make("hierarchical-vae", DIGITS).eval()
    model.shipped = ("sample", "codec")
    package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "h.niwaki")
    x = -1.0 + np.random.default_rng(0).integers(0, 17, (20, 1, 8, 8)) / 8.0
    codec = open_codec(tmp_path / "h.niwaki")
    assert np.allclose(codec.decode(codec.encode(x).data).x, x, atol=1e-6)
    loose = codec.decode(codec.encode(x, lossy=True).data)
    assert loose.x.shape == x.shape
