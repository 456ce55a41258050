"""VAE-GAN: which gradient goes where, the error in features, and what the discriminator is shown."""

from __future__ import annotations

import math

import pytest
import torch
from model_cases import DIGITS, batch, context, make, step
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.models.gan.objectives import OBJECTIVES
from niwaki.models.hybrid.vae_gan import VaeGan


def vae_gan(**changes: object) -> VaeGan:
    model = make("vae-gan", DIGITS, **changes)
    assert isinstance(model, VaeGan)
    return model


def gradients(model: VaeGan, term: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad(term, list(model.decoder.parameters()), retain_graph=True, allow_unused=True)
    names = [name for name, _ in model.decoder.named_parameters()]
    return {name: g for name, g in zip(names, found, strict=True) if g is not None}


def test_each_network_is_trained_by_its_own_loss_alone() -> None:
    """Larsen et al. 2016, Algorithm 1: the adversarial term does not reach the encoder, nor the
    reconstruction the discriminator."""
    model, data = vae_gan(), batch(DIGITS)
    found = step(model, data)
    for phase in ("encoder", "decoder", "discriminator"):
        assert {name.split(".")[0] for name in found[phase]} == {phase}
    ctx = context()
    assert set(model.loss("encoder", data, ctx)) == {"reconstruction", "kl"}
    assert set(model.loss("decoder", data, ctx)) == {"reconstruction", "generator"}
    assert set(model.loss("discriminator", data, ctx)) == {"real", "fake"}


def test_the_reconstruction_is_the_gaussian_likelihood_of_features_at_its_best_deviation() -> None:
    model, x = vae_gan().eval(), batch(DIGITS).x
    made = x.flip(0)
    with torch.no_grad():
        one, other = model.discriminator.maps(x), model.discriminator.maps(made)
        error = (one - other).square()
        scales = torch.linspace(-8, 2, 4001)
        # −log N per feature, without ½ log 2π, over all deviations
        each = 0.5 * error.mean() * torch.exp(-2 * scales) + scales
        found = model._unlike(x, made)
    assert float(found) == pytest.approx(float(each.min()) - 0.5, abs=1e-4)


def test_the_scale_of_the_features_does_not_matter() -> None:
    """A discriminator whose last maps are ten times as large moves the decoder just as much."""
    model, data = vae_gan().eval(), batch(DIGITS)
    model.discriminator.features[0].bias.data.zero_()
    z = torch.randn(len(data), *model.latent.shape, generator=torch.Generator().manual_seed(0))

    def found() -> dict[str, Tensor]:
        return gradients(model, model._unlike(data.x, model.decoder(z, data["class"])))

    before = found()
    last = [
        m for m in model.discriminator.features[: model.discriminator.convolutions] if hasattr(m, "weight")
    ]
    for p in last[-1].parameters():
        p.data.mul_(10.0)
    after = found()
    for name, g in before.items():
        torch.testing.assert_close(after[name], g, rtol=1e-3, atol=1e-6)


def test_gamma_weighs_the_reconstruction_against_the_adversarial_term() -> None:
    data = batch(DIGITS)
    terms = {}
    for gamma in (0.5, 2.0):
        model = vae_gan(gamma=gamma).eval()
        terms[gamma] = {k: float(v.detach()) for k, v in model.loss("decoder", data, context()).items()}
    assert terms[2.0]["reconstruction"] == pytest.approx(4 * terms[0.5]["reconstruction"], rel=1e-5)
    assert terms[2.0]["generator"] == pytest.approx(terms[0.5]["generator"], rel=1e-6)


def test_the_discriminator_learns_from_reconstructions_and_samples_that_were_just_made() -> None:
    model, data = vae_gan().eval(), batch(DIGITS)
    ctx = context()
    model.loss("encoder", data, ctx)
    z = ctx.shared["z"]
    model.loss("decoder", data, ctx)
    shown = ctx.shared["fake"]
    assert len(shown) == 2 * len(data)
    torch.testing.assert_close(shown[: len(data)], model.decoder(z, data["class"]).detach())
    calls = []
    model.discriminator.register_forward_hook(lambda module, given, out: calls.append((given, out)))
    terms = model.loss("discriminator", data, ctx)
    ((x, y), logits) = calls[0]
    assert torch.equal(x, torch.cat([data.x, shown]))
    assert torch.equal(y, torch.cat([data["class"]] * 3))
    real, made = logits.detach().split([len(data), len(shown)])
    torch.testing.assert_close(terms["real"].detach(), torch.nn.functional.softplus(-real).mean())
    torch.testing.assert_close(terms["fake"].detach(), torch.nn.functional.softplus(made).mean())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_plays_for_every_objective(name: str) -> None:
    model, data = vae_gan(objective=name, r2=0.1, r1_every=1, drift=0.1), batch(DIGITS)
    found = step(model, data)
    assert set(found) == {"encoder", "decoder", "discriminator", "r1", "r2"}
    for phase in found.values():
        assert phase
        assert all(torch.isfinite(g).all() for g in phase.values())


def test_a_critic_of_several_steps_is_shown_new_samples_of_its_own_batch() -> None:
    model, data = vae_gan(critic_steps=2, gradient_penalty=1.0), batch(DIGITS)
    ctx = context()
    model.loss("encoder", data, ctx)
    model.loss("decoder", data, ctx)
    assert "fake" not in ctx.shared
    assert math.isfinite(
        float(model.loss("discriminator", batch(DIGITS, seed=1), context())["fake"].detach())
    )


def test_the_deviation_of_pixels_follows_the_reconstructions() -> None:
    """By it `log_prob` bounds log p(x): at the deviation of the errors themselves, which no other beats."""
    model, data = vae_gan().train(), batch(DIGITS)
    for k in range(400):
        model.loss("encoder", data, context(k))
    mean, log_var = model.posterior(data.x, data["class"])
    z = mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    error = (data.x - model.decoder(z, data["class"])).square().mean()
    assert float(model.log_scale) == pytest.approx(0.5 * math.log(float(error.detach())), abs=0.1)
    assert "log_scale" not in dict(model.named_parameters())
    bits = vae_gan(likelihood="bernoulli")
    assert bits.loss("encoder", data, context())["kl"].isfinite()


def test_several_samples_for_the_bound_are_refused() -> None:
    with pytest.raises(CallError, match="importance has no meaning here"):
        vae_gan(importance=4)
