"""Objectives, penalties and options of adversarial models against slow, obvious references."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from model_cases import DIGITS, POINTS, batch, context, make, step
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import CallError, DataSpec
from niwaki.models import build
from niwaki.models.gan.losses import feature_matching, gradient_penalty, mode_seeking
from niwaki.models.gan.networks import MinibatchDiscrimination
from niwaki.models.gan.objectives import OBJECTIVES
from niwaki.models.registry import config_of
from niwaki.nn.augment.config import Augment
from niwaki.nn.augment.views import differentiable_view

REAL = torch.tensor([2.0, -0.5, 0.3], dtype=torch.float64)
FAKE = torch.tensor([-1.0, 0.8, 0.1], dtype=torch.float64)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


EXPECTED = {
    "non_saturating": (
        lambda r, f: -log_sigmoid(r) - log_sigmoid(-f),
        lambda r, f: -log_sigmoid(f),
    ),
    "minimax": (
        lambda r, f: -log_sigmoid(r) - log_sigmoid(-f),
        lambda r, f: log_sigmoid(-f),
    ),
    "hinge": (lambda r, f: max(0, 1 - r) + max(0, 1 + f), lambda r, f: -f),
    "least_squares": (lambda r, f: (r - 1) ** 2 + f**2, lambda r, f: (f - 1) ** 2),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "relativistic": (lambda r, f: -log_sigmoid(r - f), lambda r, f: -log_sigmoid(f - r)),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_the_formula_of_its_paper(name: str) -> None:
    objective, (critic, generator) = OBJECTIVES[name], EXPECTED[name]
    pairs = list(zip(REAL.tolist(), FAKE.tolist(), strict=True))
    found = sum(objective.discriminator(REAL, FAKE, 0.0).values())
    assert float(found) == pytest.approx(sum(critic(r, f) for r, f in pairs) / 3, rel=1e-12)
    assert float(objective.generator(FAKE, REAL)) == pytest.approx(
        sum(generator(r, f) for r, f in pairs) / 3, rel=1e-12
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_player_gains_by_what_is_named_after_it(name: str) -> None:
    """The discriminator by higher real and lower made logits, the generator by higher made ones."""
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    sum(OBJECTIVES[name].discriminator(real, fake, 0.0).values()).backward()  # type: ignore[union-attr]
    assert real.grad is not None
    assert fake.grad is not None
    if name != "least_squares":  # which also pulls back what is beyond its target
        assert (real.grad <= 0).all()
        assert (fake.grad >= 0).all()
    again = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    OBJECTIVES[name].generator(again, torch.zeros(3, dtype=torch.float64)).backward()
    assert again.grad is not None
    assert (again.grad < 0).all()


@pytest.mark.parametrize("name", [n for n, o in OBJECTIVES.items() if o.smooths])
def test_smoothing_lowers_the_target_of_real_samples_alone(name: str) -> None:
    plain, smooth = (OBJECTIVES[name].discriminator(REAL, FAKE, s) for s in (0.0, 0.1))
    assert torch.equal(plain["fake"], smooth["fake"])
    if name == "least_squares":
        expected = (REAL - 0.9).square().mean()
    else:
        expected = F.binary_cross_entropy_with_logits(REAL, torch.full_like(REAL, 0.9))
    torch.testing.assert_close(smooth["real"], expected)


@pytest.mark.parametrize("name", [n for n, o in OBJECTIVES.items() if not o.smooths])
def test_smoothing_is_refused_where_it_means_nothing(name: str) -> None:
    with pytest.raises(CallError, match="label_smoothing has no meaning"):
        config_of("dcgan", {"objective": name, "label_smoothing": 0.1})


def test_the_gradient_penalty_of_a_linear_critic_is_exact_and_per_sample() -> None:
    torch.manual_seed(0)
    critic = nn.Linear(5, 1).double()
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    found = gradient_penalty(critic(x)[:, 0], x)
    expected = (critic.weight.norm() - 1).square()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_the_gradient_penalty_is_the_mean_over_samples_of_each_ones_own_norm() -> None:
    """Not the norm of the whole batch (a well-known fault)."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    found = gradient_penalty(critic(x)[:, 0], x)
    each = []
    for i in range(6):
        one = x[i : i + 1].detach().requires_grad_(True)
        (g,) = torch.autograd.grad(critic(one).sum(), one)
        each.append((g.norm() - 1) ** 2)
    torch.testing.assert_close(found, torch.stack(each).mean(), rtol=1e-9, atol=0)


def test_every_sample_has_a_place_of_its_own_between_real_and_made() -> None:
    """Not one ε for the batch (another well-known fault)."""
    model = make("wgan-gp")
    data = batch(DIGITS)
    seen: list[Tensor] = []
    critic = model.discriminator
    critic.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    ctx = context()
    fake = -torch.ones_like(data.x)
    ctx.shared["fake"] = fake
    model.loss("discriminator", data, ctx)
    between = seen[-1].detach()
    shares = [float((b - f).norm() / (r - f).norm()) for b, f, r in zip(between, fake, data.x, strict=True)]
    assert len({round(s, 4) for s in shares}) == len(shares)
    assert min(shares) >= 0
    assert max(shares) <= 1
    for share, b, f, r in zip(shares, between, fake, data.x, strict=True):
        torch.testing.assert_close(b, f + share * (r - f), rtol=1e-4, atol=1e-5)


def test_feature_matching_compares_means() -> None:
    a, b = torch.randn(5, 3), torch.randn(9, 3)
    torch.testing.assert_close(feature_matching(a, b), ((a.mean(0) - b.mean(0)) ** 2).sum())
    assert float(feature_matching(a, a[torch.randperm(5)])) == pytest.approx(0.0, abs=1e-10)


def test_mode_seeking_is_the_reciprocal_of_how_far_samples_follow_their_latents() -> None:
    z1, z2 = torch.zeros(4, 2), torch.ones(4, 2)
    one, two = torch.zeros(4, 1, 2, 2), torch.full((4, 1, 2, 2), 0.25)
    assert float(mode_seeking(one, two, z1, z2)) == pytest.approx(4.0, rel=1e-4)
    assert float(mode_seeking(one, one, z1, z2)) > 1e4, "a generator that ignores z pays most"


@pytest.mark.parametrize(
    ("options", "term"),
    [
        ({"feature_matching": 0.5}, "feature_matching"),
        ({"mode_seeking": 0.5}, "mode_seeking"),
        ({"gradient_penalty": 10.0}, "gradient_penalty"),
        ({"objective": "relativistic"}, "relativistic"),
        ({"r2": 0.3}, "r2"),
        ({"drift": 0.1}, "drift"),
        ({"objective": "hinge", "spectral": True, "clip": 0.5}, "fake"),
        ({"augment": {"shift": 0.1}, "augment_target": 0.6, "instance_noise": 0.1}, "generator"),
    ],
)
@pytest.mark.parametrize("name", ["dcgan", "mlp-gan", "r3gan", "stylegan2", "progressive-gan"])
def test_every_option_composes_with_every_network(name: str, options: dict[str, object], term: str) -> None:
    model, data = make(name, **options), batch(DIGITS)
    terms = {t for phase in model.phases() for t in model.loss(phase.name, data, context())}
    assert term in terms
    gradients = step(model, data)
    for phase in model.phases():
        assert all(n.startswith(phase.parameters[0]) for n in gradients[phase.name])
        assert all(torch.isfinite(g).all() for g in gradients[phase.name].values())


def test_critic_steps_are_counted_in_steps_on_batches_of_their_own() -> None:
    phases = {p.name: p for p in make("wgan").phases()}
    assert (phases["discriminator"].repeats, phases["discriminator"].fresh_batch) == (5, True)
    assert phases["generator"].repeats == 1
    model, ctx = make("wgan"), context()
    model.loss("generator", batch(DIGITS), ctx)
    assert not ctx.shared, "samples of one batch's classes are not judged with another's"


def test_weights_are_clipped_after_a_step_and_only_the_critics() -> None:
    model = make("wgan", clip=0.02)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.5)
        model.after_step(context())
    assert all(float(p.detach().abs().max()) <= 0.02 for p in model.discriminator.parameters())
    assert all(float(p.detach().min()) == 0.5 for p in model.generator.parameters())


def test_spectral_normalization_leaves_no_layer_of_the_critic_with_a_norm_above_one() -> None:
    model = make("sngan").train()
    data = batch(DIGITS)
    for _ in range(60):  # power iteration, a round per call
        model.discriminator(data.x, data["class"])
    layers = [m for m in model.discriminator.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)]
    assert len(layers) > 3
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert float(norm) == pytest.approx(1.0, abs=0.03)
    assert not any("parametrizations" in name for name, _ in model.generator.named_parameters())


def test_minibatch_discrimination_against_a_loop() -> None:
    torch.manual_seed(0)
    layer, phi = MinibatchDiscrimination(6, 3, size=2, group=4), torch.randn(8, 6)
    found = layer(phi)
    m = layer.project(phi).view(8, 3, 2)
    for i in range(8):
        others = [j for j in range(8) if j // 4 == i // 4 and j != i]
        expected = torch.stack([torch.exp(-(m[i] - m[j]).abs().sum(1)) for j in others]).mean(0)
        torch.testing.assert_close(found[i, 6:], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(found[:, :6], phi)


def test_discriminators_of_several_scales_see_smaller_images() -> None:
    model = make("dcgan", scales=2)
    data = batch(DIGITS)
    logits = model.discriminator(data.x, data["class"])
    assert logits.shape == (8, 2)
    small = F.avg_pool2d(data.x, 2)
    torch.testing.assert_close(logits[:, 1], model.discriminator.parts[1](small, data["class"]))
    with pytest.raises(CallError, match="cannot be halved 2 times"):
        make("dcgan", scales=3)


def test_instance_noise_fades_to_nothing() -> None:
    """Its deviation is the share of the range that is asked for, less what is done of the training."""
    model = make("dcgan", instance_noise=0.1)
    x = torch.zeros(64, 1, 8, 8)
    for progress, expected in ((0.0, 0.2), (0.5, 0.1), (1.0, 0.0)):
        assert float(model.views(x, context(progress=progress)).std()) == pytest.approx(expected, rel=0.05)


def test_views_have_gradients_and_what_is_not_named_is_off() -> None:
    model = make("dcgan", augment={"shift": 0.2})
    assert model.config.augment == Augment(
        shift=0.2, crop=1, zoom=0, rotate=0, brightness=0, contrast=0, cutout=0, amplitude=0, jitter=0, mask=0
    )
    x = batch(DIGITS).x.clone().requires_grad_()
    seen = model.views(x, context())
    assert not torch.equal(seen, x)
    seen.sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    # a generator learns through them
    gradients = step(model, batch(DIGITS))["generator"]
    assert all(float(g.abs().max()) > 0 for n, g in gradients.items() if n.endswith("weight"))


@pytest.mark.parametrize("spec", [DIGITS, POINTS], ids=["images", "vectors"])
def test_a_view_that_changes_nothing_is_the_sample(spec: DataSpec) -> None:
    x = batch(spec).x
    off = config_of("dcgan", {"augment": {}}).augment  # type: ignore[attr-defined]
    torch.testing.assert_close(differentiable_view(x, spec, off, torch.Generator()), x.float())


def test_the_adaptive_share_follows_how_surely_real_samples_are_known() -> None:
    """Up while E sign D(x) is above the target, else down, within 0 … 1; it is a buffer."""
    model = make("dcgan", augment={"shift": 0.1}, augment_target=0.6)
    views = model.views
    assert float(views.share) == 0.0
    for _ in range(100):
        views.follow(torch.ones(64))
    assert float(views.share) == pytest.approx(100 * 64 / 50_000, rel=1e-4)
    for _ in range(40):
        views.follow(torch.tensor([1.0, -1.0]).repeat(32))  # r = 0
    assert float(views.share) == pytest.approx(60 * 64 / 50_000, rel=1e-3)
    for _ in range(2000):
        views.follow(torch.ones(64))
    assert float(views.share) == 1.0
    assert "views.share" in model.state_dict()
    with pytest.raises(CallError, match="augment_target needs 'augment'"):
        config_of("dcgan", {"augment_target": 0.6})


def test_a_residual_block_starts_as_its_skip_and_still_learns() -> None:
    model = make("r3gan")
    blocks = [m for m in model.modules() if type(m).__name__ == "Block"]
    x = torch.randn(2, blocks[0].body[0].in_channels, 4, 4)
    assert torch.equal(blocks[0](x), x)
    gradients = step(model, batch(DIGITS))
    last = [n for n in gradients["generator"] if n.endswith("body.4.weight")]
    assert last
    assert all(float(gradients["generator"][n].abs().max()) > 0 for n in last)


def test_r3gan_plays_as_its_paper_says() -> None:
    config = config_of("r3gan", {})
    assert (config.objective, config.r1, config.r2, config.r1_every) == ("relativistic", 0.5, 0.5, 1)
    model = build("r3gan", {}, DIGITS)
    assert not any(isinstance(m, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm) for m in model.modules())


@pytest.mark.parametrize(
    ("shape", "patch", "coarsest"),
    [
        ((1, 8, 8), 1, (4, 4)),
        ((1, 16, 16), 2, (4, 4)),
        ((3, 32, 32), 4, (4, 4)),
        ((1, 36, 24), 3, (6, 4)),
        ((2, 16, 8), 2, (8, 4)),
    ],
)
def test_r3gan_works_on_patches(shape: tuple[int, int, int], patch: int, coarsest: tuple[int, int]) -> None:
    """Whatever the patch, images keep their size, networks see one place per patch, and variance is kept."""
    spec = DataSpec.of("image", shape)
    config = {"patch": patch, "width": 32, "max_width": 32, "group": 8}
    model: Any = build("r3gan", config, spec)
    model.requires_grad_(False)
    first, output = model.discriminator.features[0], model.generator.output[0]
    stem = model.generator.stem[1]
    assert (stem.height, stem.width) == coarsest
    places = torch.randn(64, 32, shape[1] // patch, shape[2] // patch)
    assert output(places).shape == (64, *shape)
    assert first(torch.randn(64, *shape)).shape == places.shape
    inner = slice(patch, -patch)
    assert float(output(places)[:, :, inner, inner].var()) == pytest.approx(1, rel=0.35)
    assert float(first(torch.randn(64, *shape))[:, :, 1:-1, 1:-1].var()) == pytest.approx(1, rel=0.35)


@pytest.mark.parametrize("patch", [3, 16, 32, 64])
def test_r3gan_refuses_patches_that_do_not_fit(patch: int) -> None:
    with pytest.raises(CallError, match=f"'patch' {patch} does not divide images of 32×32"):
        build("r3gan", {"patch": patch}, DataSpec.of("image", (1, 32, 32)))
