"""Latent diffusion: the scale of latents, what is frozen, captions, and its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import context, make

from niwaki import models
from niwaki.compression import PruneConfig
from niwaki.compression.pruning.frozen import frozen_parts
from niwaki.compression.pruning.step import carry_out
from niwaki.compression.steps import StepContext
from niwaki.core.contract import Batch, CallError, Context, DataSpec, GenerativeModel, Tokens, ValueSpec
from niwaki.deployment import export_graphs, package
from niwaki.nn.layers.words import WordEncoder
from niwaki_runtime import load
from niwaki_runtime.samplers import Diffusion

IMAGES = DataSpec.of("image", (1, 16, 16), classes=3)
CAPTIONED = DataSpec({**IMAGES.columns, "caption": ValueSpec("text", (4,), "T", Tokens(9, "tokenizer.json"))})


def latent(spec: DataSpec = CAPTIONED, **changes: Any) -> GenerativeModel:
    base = {"autoencoder": {"name": "spatial-vae", "width": 4}, "attention": (), "words": 8}
    return make("latent-diffusion", spec, **{**base, **changes})


def rows(n: int = 6, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    return Batch(
        {
            "x": 2 * torch.rand((n, 1, 16, 16), generator=rng) - 1,
            "class": torch.randint(0, 3, (n,), generator=rng),
            "caption": torch.randint(0, 9, (n, 4), generator=rng),
        }
    )


def scaled(model: GenerativeModel) -> Context:
    """The model with its latents measured on `rows`."""
    ctx = context()
    with torch.no_grad():
        model.begin_stage(ctx, lambda k: rows(seed=k))
    return ctx


def test_latents_have_variance_one_and_are_scaled_back_before_they_are_decoded() -> None:
    model = latent().eval()
    scaled(model)
    many = torch.cat([rows(seed=k).x for k in range(16)])
    z = model.run("encode", len(many), inputs={"x": many})
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    inner = model.autoencoder
    with torch.no_grad():
        plain = inner.decode(inner.encode(many))
    torch.testing.assert_close(model.run("decode", len(many), inputs={"z": z}), plain, atol=1e-5, rtol=1e-5)


def test_the_scale_is_saved_with_the_weights(tmp_path: Path) -> None:
    model = latent().eval()
    scaled(model)
    models.save_model(model, tmp_path)
    again = models.load_model(tmp_path)
    assert torch.equal(again.latent_std, model.latent_std)
    assert not torch.equal(again.latent_std, torch.ones_like(again.latent_std))


def test_the_autoencoder_is_never_trained_and_keeps_its_statistics() -> None:
    model = latent().train()
    before = {k: v.clone() for k, v in model.autoencoder.state_dict().items()}
    loss = model.loss("denoiser", rows(), scaled(model))["denoiser"]
    loss.backward()
    assert not model.autoencoder.training
    assert all(p.grad is None for p in model.autoencoder.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.autoencoder.state_dict().items())


def test_the_loss_of_a_denoiser_that_says_nothing_is_the_variance_of_v() -> None:
    """v = α ε − σ z, whose mean square is α² + σ² = 1 where latents have variance 1."""
    model = latent()
    ctx = scaled(model)
    for p in model.denoiser.output.parameters():
        torch.nn.init.zeros_(p)
    losses = [model.loss("denoiser", rows(32, seed=k), ctx)["denoiser"] for k in range(16)]
    assert float(torch.stack(losses).mean().detach()) == pytest.approx(1.0, abs=0.05)


def test_a_caption_is_the_sum_of_its_words() -> None:
    torch.manual_seed(0)
    encoder = WordEncoder(9, 8, null=0)
    tokens = torch.tensor([[3, 5, 0, 0], [0, 0, 0, 0]])
    said = encoder.hidden(encoder.words(torch.tensor([3]))) + encoder.hidden(encoder.words(torch.tensor([5])))
    torch.testing.assert_close(encoder(tokens)[:1], encoder.out(said))
    torch.testing.assert_close(encoder(tokens[:, [2, 1, 3, 0]])[:1], encoder(tokens)[:1])
    torch.testing.assert_close(encoder(tokens)[1], encoder.out.bias)  # nothing asked: nothing but the bias


def test_captions_are_asked_for_before_classes_and_classes_where_there_are_none() -> None:
    assert list(latent().conditions) == ["caption"]
    assert latent().conditions["caption"].null == 0
    assert list(latent(IMAGES).conditions) == ["class"]
    assert latent(IMAGES).conditions["class"].null == 3
    assert not latent(conditioning={"columns": []}).conditions
    both = latent(conditioning={"columns": ["caption", "class"]}).eval()
    assert both.sample(2, condition={"caption": np.ones((2, 4), int)}).shape == (2, 1, 16, 16)
    with pytest.raises(CallError, match="guidance needs"):
        latent(conditioning={"drop": 0.0}, sampling={"guidance": 2.0})


def test_guidance_at_one_is_the_conditional_sampler_and_each_caption_is_encoded_once() -> None:
    model = latent().eval()
    scaled(model)
    asked = {"caption": rows(3)["caption"].numpy()}
    plain = model.sample(3, condition=asked)
    assert torch.equal(model.sample(3, condition=asked, guidance=1.0), plain)
    assert not torch.equal(model.sample(3, condition=asked, guidance=3.0), plain)
    denoise = model.sampler().parts()[0]
    assert isinstance(denoise, Diffusion)
    assert denoise.encoders == {"caption": "words_caption"}
    assert denoise.clip == 0.0


@pytest.mark.parametrize(
    ("autoencoder", "message"),
    [({"name": "dcgan"}, "no program 'encode'"), ({"name": "vae", "conditional": False}, "needs images")],
)
def test_what_is_no_autoencoder_of_images_is_refused(autoencoder: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        latent(autoencoder=autoencoder)


@pytest.mark.slow
def test_a_bundle_samples_by_caption_as_the_model_does(tmp_path: Path) -> None:
    model = latent(sampling={"guidance": 2.0, "steps": 3}).eval()
    scaled(model)
    model.shipped = ("sample", "encode", "decode")
    asked = {"caption": rows(3)["caption"].numpy()}
    bundle = package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "one.niwaki")
    wanted = model.sample(3, seed=1, condition=asked).numpy()
    for engine in ("openvino", "onnxruntime"):
        runner = load(bundle, engine=engine, precision="exact")
        np.testing.assert_allclose(runner.sample(3, seed=1, condition=asked), wanted, atol=1e-4)
        z = runner.run("encode", 3, inputs={"x": rows(3).x.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(np.asarray(z)),
            model.run("encode", 3, inputs={"x": rows(3).x}),
            atol=1e-4,
            rtol=1e-4,
        )


def test_a_plan_leaves_the_frozen_autoencoder_as_it_is(tmp_path: Path) -> None:
    """Fine-tuning trains the denoiser alone: what was cut from the decoder it could not mend."""
    model = latent(IMAGES, widths=(16, 32)).eval()
    assert frozen_parts(model) == ("autoencoder",)
    assert frozen_parts(make("dcgan")) == frozen_parts(make("vae")) == ()
    context = StepContext(model, None, 0, tmp_path, None, lambda *_: None)
    made = carry_out(model, PruneConfig(ratio=0.5), context)
    sizes = [sum(p.numel() for p in m.autoencoder.parameters()) for m in (model, made.model)]
    assert sizes[0] == sizes[1]
    sizes = [sum(p.numel() for p in m.denoiser.parameters()) for m in (model, made.model)]
    assert sizes[1] < 0.7 * sizes[0]
    assert "no phase trains them: autoencoder" in made.notes[-1]
