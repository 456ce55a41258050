"""The autoencoders of latent diffusion in full: what makes them sharp, and what stands on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_cases import batch, context, make, step
from torch import Tensor, nn

from niwaki.core.contract import CallError, Context, DataSpec, GenerativeModel
from niwaki.features.encoders import build_encoder
from niwaki.features.selfsupervised import save_encoder
from niwaki.models.gan.losses import adaptive_weight
from niwaki.models.gan.objectives import OBJECTIVES
from niwaki.nn.layers.shrinking import backbone
from niwaki.nn.perceptual import perceptual_distance
from niwaki.training.weights import Source, init_from

IMAGES = DataSpec.of("image", (1, 16, 16), classes=3)
BOTH = ("kl-autoencoder", "vq-autoencoder")
FULL: dict[str, Any] = {"perceptual": 0.5, "adversarial": 0.7, "encoder_width": 16, "encoder_features": 8}


def autoencoder(name: str, **changes: Any) -> GenerativeModel:
    return make(name, IMAGES, **{"critic_width": 8, **FULL, **changes})


def late() -> Context:
    return context(step=1, progress=0.5)


def test_the_adaptive_weight_is_the_ratio_of_two_gradients_at_the_last_layer() -> None:
    last = torch.randn(4, 3, requires_grad=True)
    a, b = torch.randn(4, 3), torch.randn(4, 3)
    found = adaptive_weight((a * last).sum(), (b * last).sum(), last)
    assert float(found) == pytest.approx(float(a.norm() / b.norm()), rel=1e-4)
    assert not found.requires_grad
    assert float(adaptive_weight((a * last).sum(), (0 * last).sum(), last)) == 1e4


def test_the_perceptual_distance_is_that_of_directions_in_every_layer() -> None:
    torch.manual_seed(0)
    network = backbone(IMAGES, 16, 8)
    x, made = batch(IMAGES, 4).x, batch(IMAGES, 4, seed=1).x.requires_grad_(True)
    found, h, k, each = perceptual_distance(network, x, made), x, made, []
    for layer in network:
        h, k = layer(h), layer(k)
        if isinstance(layer, nn.ReLU):
            one, other = (v / v.norm(dim=1, keepdim=True).clamp(min=1e-6) for v in (h, k))
            each.append((one - other).square().sum(1).mean())
    assert len(each) > 2
    assert float(found.detach()) == pytest.approx(float(torch.stack(each).mean().detach()), rel=1e-5)
    assert float(perceptual_distance(network, x, x).detach()) == 0.0
    found.backward()
    assert made.grad is not None
    assert made.grad.abs().sum() > 0


@pytest.mark.parametrize("name", BOTH)
def test_the_adversarial_term_moves_the_last_layer_as_its_weight_says(name: str) -> None:
    model, data = autoencoder(name).train(), batch(IMAGES)
    terms = model.loss("autoencoder", data, late())
    last = model.decoder.output.weight

    def norm(term: Tensor) -> float:
        return float(torch.autograd.grad(term, last, retain_graph=True)[0].norm())

    wanted = 0.7 * norm(terms["reconstruction"] + terms["perceptual"])
    assert norm(terms["generator"]) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("name", BOTH)
def test_it_counts_from_its_share_of_the_training_on_and_never_on_held_out_data(name: str) -> None:
    model, data = autoencoder(name, starts=0.25), batch(IMAGES)
    model.train()
    assert "generator" not in model.loss("autoencoder", data, context(progress=0.2))
    assert "generator" in model.loss("autoencoder", data, context(progress=0.25))
    model.eval()
    assert "generator" not in model.loss("autoencoder", data, late())
    assert set(model.validation_loss(data, late())) == {"autoencoder"}


@pytest.mark.parametrize("name", BOTH)
def test_the_discriminator_is_shown_what_was_just_made_and_the_looking_network_stays(name: str) -> None:
    model, data = autoencoder(name).eval(), batch(IMAGES)
    ctx = late()
    model.loss("autoencoder", data, ctx)
    shown, calls = ctx.shared["fake"], []
    model.discriminator.register_forward_hook(lambda module, given, out: calls.append(given[0]))
    terms = model.loss("discriminator", data, ctx)
    assert torch.equal(calls[0], torch.cat([data.x, shown]))
    assert set(terms) == {"real", "fake"}
    for gradients in step(model, data).values():
        assert not any(key.startswith("perceptual") for key in gradients)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_can_be_played(name: str, objective: str) -> None:
    model, data = autoencoder(name, objective=objective, r1=1.0).train(), batch(IMAGES)
    assert torch.isfinite(sum(model.loss("autoencoder", data, late()).values()))
    assert {phase.name for phase in model.phases()} == {"autoencoder", "discriminator", "r1"}


@pytest.mark.parametrize("name", BOTH)
def test_each_option_stands_alone_and_none_is_needed(name: str) -> None:
    data = batch(IMAGES)
    for perceptual, adversarial in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.7)):
        model = autoencoder(name, perceptual=perceptual, adversarial=adversarial).train()
        terms = model.loss("autoencoder", data, late())
        assert ("perceptual" in terms, "generator" in terms) == (bool(perceptual), bool(adversarial))
        assert len(model.phases()) == 1 + bool(adversarial)
        assert (model.realness(data) is None) == (not adversarial)
        model.after_step(late())


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("encoder", ["simclr", "moco"])
def test_the_looking_network_is_taken_from_an_encoder_s_run(name: str, encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    looks = build_encoder(encoder, {"width": 16, "features": 8}, IMAGES)
    save_encoder(looks, tmp_path)
    model = autoencoder(name)
    assert init_from(model, Source(tmp_path, "perceptual", "backbone"))
    for (_, a), (_, b) in zip(
        model.perceptual.named_parameters(), looks.backbone.named_parameters(), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", BOTH)
def test_latent_diffusion_stands_on_either(name: str) -> None:
    settings = {"name": name, "width": 4, "critic_width": 8, **FULL}
    model = make("latent-diffusion", IMAGES, autoencoder=settings, attention=(), words=8, steps=2).eval()
    ctx, data = context(), batch(IMAGES)
    with torch.no_grad():
        model.begin_stage(ctx, lambda k: batch(IMAGES, seed=k))
    assert torch.isfinite(model.loss("denoiser", data, ctx)["denoiser"])
    z = model.run("encode", len(data), inputs={"x": data.x})
    assert model.run("decode", len(data), inputs={"z": z}).shape == data.x.shape
    assert model.sample(2, seed=0).shape == (2, 1, 16, 16)
    trained = {name.split(".")[0] for gradients in step(model, data).values() for name in gradients}
    assert trained == {"denoiser", "words"} or trained == {"denoiser"}


@pytest.mark.parametrize("codebook", ["learned", "averaged", "levelled"])
def test_latents_are_quantized_by_the_decoder_and_not_before(codebook: str) -> None:
    size = {"codes": 81, "latent": 4} if codebook == "levelled" else {"codes": 16}
    model, data = autoencoder("vq-autoencoder", codebook=codebook, **size).eval(), batch(IMAGES)
    with torch.no_grad():
        model.begin_stage(context(), lambda k: batch(IMAGES, seed=k))
        z = model.encode(data.x)
        numbers = model.codebook.search(z.movedim(1, -1))
        exact = model.codebook.look_up(numbers).movedim(-1, 1)
        assert not torch.allclose(z, exact, atol=1e-4)
        plain = model.decoder(exact)
    torch.testing.assert_close(model.run("decode", len(data), inputs={"z": z}), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.run("encode", len(data), inputs={"x": data.x}), z, atol=1e-5, rtol=1e-5)


def test_codes_that_nobody_chose_come_back() -> None:
    model, data = autoencoder("vq-autoencoder", codes=16, revive=10).train(), batch(IMAGES)
    with torch.no_grad():
        model.begin_stage(context(), lambda k: batch(IMAGES, seed=k))
        model.codebook.table[3] = 100.0
        for at, progress, moved in ((9, 0.1, False), (10, 0.9, False), (10, 0.1, True)):
            model.prepare(data, context(at, progress))
            assert bool((model.codebook.table[3] < 50.0).all()) == moved


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("kl-autoencoder", {"importance": 2}, "importance has no meaning here"),
        ("kl-autoencoder", {"halvings": 6}, "cannot be halved 6 times"),
        ("vq-autoencoder", {"halvings": 6}, "cannot be halved 6 times"),
        ("vq-autoencoder", {"upsampling": "cubic"}, "upsampling"),
        ("vq-autoencoder", {"codebook": "levelled", "codes": 100}, "no power of that kind"),
        ("vq-autoencoder", {"encoder_width": 20}, "encoder_width"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        autoencoder(name, **changes)
