"""Adversarial losses and networks against slow, obvious references."""

from __future__ import annotations

import pytest
import torch
from model_cases import DIGITS, batch, context, make, step
from torch import nn
from torch.nn import functional as F

from niwaki.models.gan.losses import discriminator_loss, generator_loss, r1_penalty
from niwaki.models.gan.networks import Discriminator, MinibatchDeviation


def test_r1_of_a_linear_critic_is_the_square_of_its_weights() -> None:
    torch.manual_seed(0)
    critic = nn.Linear(12, 1).double()
    x = torch.randn(7, 12, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty(critic(x)[:, 0], x)
    torch.testing.assert_close(penalty, critic.weight.square().sum(), rtol=1e-12, atol=0)


def test_r1_is_the_mean_over_samples_of_each_samples_own_norm() -> None:
    torch.manual_seed(0)
    critic = Discriminator((1, 8, 8), classes=10, width=8, features=16, deviation=0).double()
    data = batch(DIGITS, n=6)
    x, y = data.x.double().requires_grad_(True), data["class"]
    together = r1_penalty(critic(x, y), x)
    each = []
    for i in range(len(x)):
        one = x[i : i + 1].detach().requires_grad_(True)
        (g,) = torch.autograd.grad(critic(one, y[i : i + 1]).sum(), one)
        each.append(g.norm() ** 2)
    torch.testing.assert_close(together, torch.stack(each).mean(), rtol=1e-10, atol=0)


def test_r1_has_the_gradient_of_its_finite_difference() -> None:
    torch.manual_seed(0)
    critic = Discriminator((1, 8, 8), width=8, features=16, deviation=4).double()
    x = batch(DIGITS, n=4).x.double().requires_grad_(True)
    weight = critic.logit.weight
    r1_penalty(critic(x), x).backward()
    analytic = weight.grad[0, 3].item()
    ends = []
    for change in (1e-6, -1e-6):
        with torch.no_grad():
            weight[0, 3] += change
        ends.append(r1_penalty(critic(x), x).item())
        with torch.no_grad():
            weight[0, 3] -= change
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(analytic, rel=1e-5)


def test_losses_are_the_cross_entropies_they_are_named_after() -> None:
    real, fake = torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    ones, zeros = torch.ones(9, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    terms = discriminator_loss(real, fake)
    torch.testing.assert_close(terms["real"], F.binary_cross_entropy_with_logits(real, ones))
    torch.testing.assert_close(terms["fake"], F.binary_cross_entropy_with_logits(fake, zeros))
    torch.testing.assert_close(generator_loss(fake), F.binary_cross_entropy_with_logits(fake, ones))


def test_the_generators_gradient_does_not_vanish_where_it_is_found_out() -> None:
    """Non-saturating: at a logit of −20 the gradient is −1, where log(1 − D) would give −2e-9."""
    logit = torch.tensor([-20.0], requires_grad=True)
    generator_loss(logit).backward()
    assert float(logit.grad) == pytest.approx(-1.0, abs=1e-6)


def test_r1_is_lazy_shares_the_critics_optimizer_and_weighs_as_much_more() -> None:
    model = make("dcgan", r1=0.7, r1_every=16, deviation=0)
    r1 = next(p for p in model.phases() if p.name == "r1")
    assert (r1.every, r1.optimizer_name, r1.parameters) == (16, "discriminator", ("discriminator",))
    data = batch(DIGITS)
    x = data.x.clone().requires_grad_(True)
    expected = 16 * 0.7 / 2 * r1_penalty(model.discriminator(x, data["class"]), x)
    torch.testing.assert_close(model.loss("r1", data, context())["r1"], expected)


def test_without_r1_there_is_no_such_phase() -> None:
    assert [p.name for p in make("dcgan", r1=0.0).phases()] == ["generator", "discriminator"]


def test_the_projection_is_an_inner_product_with_the_classs_row() -> None:
    critic = make("dcgan").discriminator
    data = batch(DIGITS, n=4)
    phi = critic.features(data.x)
    expected = critic.logit(phi)[:, 0] + torch.stack(
        [critic.embed.weight[c] @ f for c, f in zip(data["class"], phi, strict=True)]
    )
    torch.testing.assert_close(critic(data.x, data["class"]), expected)


def test_minibatch_deviation_against_a_loop() -> None:
    x = torch.randn(8, 3, 2, 2)
    out = MinibatchDeviation(4)(x)
    for g in range(2):
        part = x[4 * g : 4 * g + 4]
        value = torch.stack(
            [part[:, c, i, j].std(correction=0) for c in range(3) for i in range(2) for j in range(2)]
        )
        torch.testing.assert_close(
            out[4 * g : 4 * g + 4, 3], value.mean().expand(4, 2, 2), rtol=1e-5, atol=1e-6
        )
    torch.testing.assert_close(out[:, :3], x)


def test_real_samples_never_share_a_group_with_made_ones() -> None:
    """Both go through the critic in one pass; the real half's logits must be those of a pass of its own."""
    model = make("dcgan")
    data = batch(DIGITS, n=8)
    other = torch.randn_like(data.x)
    both = model.discriminator(torch.cat([data.x, other]), torch.cat([data["class"], data["class"]]))
    torch.testing.assert_close(both[:8], model.discriminator(data.x, data["class"]), rtol=1e-4, atol=1e-5)


def test_the_critics_phase_does_not_reach_the_generator() -> None:
    gradients = step(make("dcgan"), batch(DIGITS))
    assert all(n.startswith("discriminator.") for n in gradients["discriminator"])
    assert all(n.startswith("generator.") for n in gradients["generator"])


def test_the_critic_learns_from_the_samples_that_the_generator_has_just_made() -> None:
    model, data, ctx = make("dcgan", deviation=0, norm="none"), batch(DIGITS), context()
    model.loss("generator", data, ctx)
    fake = ctx.shared["fake"]
    assert not fake.requires_grad
    terms = model.loss("discriminator", data, ctx)
    expected = torch.nn.functional.softplus(model.discriminator(fake, data["class"])).mean()
    torch.testing.assert_close(terms["fake"], expected)
    assert not ctx.shared  # used once; a phase on its own makes its own
    assert not torch.equal(model.loss("discriminator", data, context(step=5))["fake"], terms["fake"])


@pytest.mark.parametrize(("size", "start"), [(8, 4), (32, 4), (64, 4), (28, 7), (6, 6)])
def test_images_of_any_even_history_start_at_their_smallest_half(size: int, start: int) -> None:
    from niwaki.core.contract import DataSpec

    model = make("dcgan", DataSpec.of("image", (3, size, size)))
    assert model.generator.stem[1].height == start
    assert tuple(model.sample(1, seed=0).shape) == (1, 3, size, size)


def test_other_ranges_are_filled_whole() -> None:
    """An output far out in tanh's tails reaches the ends of the spec's own range."""
    from niwaki.core.contract import DataSpec

    model = make("dcgan", DataSpec.of("image", (1, 8, 8), low=0.0, high=5.0))
    with torch.no_grad():
        model.generator.output[0].weight.mul_(1e4)
    x = model.sample(64, seed=0)
    assert float(x.min()) == pytest.approx(0.0, abs=1e-4)
    assert float(x.max()) == pytest.approx(5.0, abs=1e-4)
