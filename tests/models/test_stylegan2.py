"""StyleGAN2 against its equations: path lengths, style mixing, truncation, noise as an input."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import DIGITS, batch, context, make, step
from torch import Tensor

from niwaki.compression import CompressConfig, compress
from niwaki.core.contract import DataSpec
from niwaki.deployment import export_graphs, package
from niwaki.models.gan.path_length import path_lengths
from niwaki.models.gan.styles import MeanStyle, crossover
from niwaki_runtime import load
from niwaki_runtime.samplers import StyleBased, sampler_from_json


def test_path_lengths_of_a_linear_generator_are_exact() -> None:
    """G(w) = A Σ_k w_k + b: Jᵀy is Aᵀy for every layer, so the length is ‖Aᵀ y‖ / √(H W)."""
    torch.manual_seed(0)
    a = torch.randn(2 * 3 * 4, 5, dtype=torch.float64)
    styles = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(6, 2, 3, 4, dtype=torch.float64)
    images = (styles.sum(1) @ a.t() + 1.0).view(6, 2, 3, 4)
    expected = (noise.flatten(1) @ a).norm(dim=1) / math.sqrt(3 * 4)
    torch.testing.assert_close(path_lengths(images, styles, noise), expected)


def test_path_lengths_against_a_loop_over_samples_and_their_gradient() -> None:
    """Samples do not see each other, and the penalty can be differentiated again."""
    torch.manual_seed(0)
    a = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)

    def generator(styles: Tensor) -> Tensor:
        return torch.tanh((styles[:, 0] @ a) * (1 + styles[:, 1] @ a)).view(-1, 1, 3, 4)

    styles = torch.randn(4, 2, 5, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(4, 1, 3, 4, dtype=torch.float64)
    found = path_lengths(generator(styles), styles, noise)
    for i in range(4):
        one = styles[i : i + 1].detach().requires_grad_(True)
        (g,) = torch.autograd.grad((generator(one) * noise[i : i + 1]).sum() / math.sqrt(12), one)
        torch.testing.assert_close(found[i], (g.square().sum(2).mean(1)).sqrt()[0])
    (slope,) = torch.autograd.grad((found - 1).square().mean(), a)
    with torch.no_grad():
        way, tiny = torch.randn_like(a), 1e-6
        ends = []
        for side in (tiny, -tiny):
            a += side * way
            with torch.enable_grad():
                ends.append((path_lengths(generator(styles), styles, noise) - 1).square().mean())
            a -= side * way
        assert float((slope * way).sum()) == pytest.approx(float(ends[0] - ends[1]) / (2 * tiny), rel=1e-5)


def test_an_image_that_does_not_move_has_a_length_with_a_slope() -> None:
    styles = torch.randn(2, 3, 4, requires_grad=True)
    still = (styles.sum() * 0).expand(2, 1, 2, 2) * styles.sum()
    lengths = path_lengths(still, styles, torch.randn(2, 1, 2, 2))
    (slope,) = torch.autograd.grad(lengths.sum(), styles)
    assert float(lengths.detach().max()) < 1e-5
    assert torch.isfinite(slope).all()


def test_the_penalty_is_the_distance_from_a_mean_that_follows() -> None:
    model, data = make("stylegan2", path_length=3.0, path_every=5).train(), batch(DIGITS)
    ctx = context()
    found = model.loss("path_length", data, ctx)["path_length"]
    length = ctx.logged["path_length"]
    torch.testing.assert_close(model.mean_path, 0.01 * length)
    assert found.requires_grad
    assert float(found.detach()) >= 15 * float((length - model.mean_path).square()) * (1 - 1e-5), "Jensen"
    model.eval()
    model.loss("path_length", data, context(1))
    torch.testing.assert_close(model.mean_path, 0.01 * length)
    phase = next(p for p in model.phases() if p.name == "path_length")
    assert (phase.every, phase.optimizer_name, phase.double_backward) == (5, "generator", True)
    assert "path_length" not in {p.name for p in make("stylegan2", path_length=0).phases()}


def test_style_mixing_takes_over_at_a_place_of_each_sample() -> None:
    n, layers = 4000, 6
    one, other = torch.zeros(n, 2), torch.ones(n, 2)
    rng = torch.Generator().manual_seed(0)
    found = crossover(one, other, layers, 0.9, rng)
    assert found.shape == (n, layers, 2)
    assert torch.equal(found[:, :, 0], found[:, :, 1])
    steps = found[:, 1:, 0] - found[:, :-1, 0]
    assert bool((steps >= 0).all()), "once the other has begun, it stays"
    assert bool((found[:, 0] == 0).all())
    taken = found[:, :, 0].sum(1)
    assert float((taken > 0).float().mean()) == pytest.approx(0.9, abs=0.02)
    counts = torch.bincount(taken.long(), minlength=layers)[1:]
    assert float(counts.min()) > 0.8 * n * 0.9 / (layers - 1), "every place as often"
    assert torch.equal(crossover(one, other, layers, 0.0, rng), one[:, None].expand(-1, layers, -1))


def test_the_mean_style_is_the_mean_of_each_class_and_then_follows() -> None:
    torch.manual_seed(0)
    mean, w = MeanStyle(3, 4, decay=0.9), torch.randn(8, 4)
    y = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    mean.follow(w, y)
    torch.testing.assert_close(mean.mean[:2], torch.stack([w[:3].mean(0), w[3:].mean(0)]))
    assert torch.equal(mean.mean[2], torch.zeros(4)), "of a class that was not seen"
    for _ in range(100):
        mean.follow(torch.ones(8, 4), y)
    torch.testing.assert_close(mean(y), torch.ones(8, 4), rtol=1e-3, atol=1e-3)
    alone = MeanStyle(0, 4)
    for k in range(5):
        alone.follow(torch.full((2, 4), float(k)), None)
    torch.testing.assert_close(alone(None), torch.full((1, 4), 2.0))


@pytest.mark.parametrize("conditional", [True, False])
def test_truncation_of_1_changes_nothing_and_of_0_gives_the_mean_style(conditional: bool) -> None:
    model = make("stylegan2", conditional=conditional)
    generator = model.generator
    with torch.no_grad():
        generator.mean.mean.normal_()
    y = torch.arange(5) % 10 if conditional else None
    rest = () if y is None else (y,)
    z, noise = torch.randn(5, model.latent), torch.randn(5, generator.synthesis.noise)
    with torch.no_grad():
        whole = generator(z, noise, *rest, torch.ones(5, 1))
        w = generator.mapping(z, y)
        assert torch.equal(whole, generator.synthesis([w] * generator.synthesis.layers, noise))
        none = generator(z, noise, *rest, torch.zeros(5, 1))
        mean = generator.mean(y).expand(5, -1)
        expected = generator.synthesis([mean] * generator.synthesis.layers, noise)
    torch.testing.assert_close(none, expected, rtol=1e-4, atol=1e-5)
    same = model.sample(4, seed=0, truncation=0.0, **({"condition": 3} if conditional else {}))
    assert not torch.equal(same[0], same[1]) or float(generator.synthesis.convs[0].strength) == 0
    spread = [float(model.sample(16, seed=0, truncation=psi).std(0).mean()) for psi in (0.1, 1.0)]
    assert conditional or spread[0] < spread[1]


def test_noise_has_a_strength_that_starts_at_zero_and_a_place_of_its_own_in_the_noise() -> None:
    model = make("stylegan2")
    synthesis = model.generator.synthesis
    assert synthesis.noise == 4 * 4 + 2 * 8 * 8
    assert len(synthesis.convs) == 3
    w = [torch.randn(2, model.config.style)] * synthesis.layers
    one, other = torch.randn(2, 2, synthesis.noise).unbind(0)
    with torch.no_grad():
        assert torch.equal(synthesis(w, one), synthesis(w, other))
        synthesis.convs[1].strength.fill_(0.5)
        mixed = other.clone()
        mixed[:, 16:80] = one[:, 16:80]
        assert torch.equal(synthesis(w, one), synthesis(w, mixed)), "the second layer's part alone counts"
        assert not torch.equal(synthesis(w, one), synthesis(w, other))


@pytest.mark.slow
def test_noise_of_a_sample_stays_its_own_in_a_bundle(tmp_path: Path) -> None:
    """The same seed is the same sample before and after, at every batch and truncation."""
    model = make("stylegan2").eval()
    with torch.no_grad():
        model.generator.mean.mean.normal_()
        for conv in model.generator.synthesis.convs:
            conv.strength.fill_(0.7)
    out = tmp_path / "made.niwaki"
    bundle = package(model, export_graphs(model, tmp_path / "graphs"), out)
    for engine in ("onnxruntime", "openvino"):
        runner = load(bundle, engine=engine, precision="exact")
        for psi in (1.0, 0.5, 0.0):
            expected = model.sample(6, seed=3, truncation=psi).numpy()
            made = np.concatenate(
                [runner.sample(2, seed=3, start=at, truncation=psi) for at in (0, 2, 4)], axis=0
            )
            np.testing.assert_allclose(made, expected, atol=1e-4)
    assert abs(model.sample(6, seed=3).numpy() - expected).max() > 1e-2, "truncation does something"


def test_the_sampler_is_plain_data() -> None:
    sampler = make("stylegan2", sampling={"truncation": 0.7}).sampler()
    assert sampler.truncation == 0.7
    assert sampler_from_json(sampler.to_json()) == sampler
    assert isinstance(sampler, StyleBased)
    assert sampler.draws_latents("generator")


def test_generator_and_discriminator_start_with_signals_of_the_same_size_at_every_depth() -> None:
    """Whatever the widths: no layer swells or fades."""
    spec = DataSpec.of("image", (1, 32, 32))
    model = make("stylegan2", spec, width=16, max_width=64, style=64, features=64)
    sizes: list[float] = []
    layers = [*model.generator.synthesis.convs, *list(model.discriminator.features)[2:5]]
    hooks = [
        layer.register_forward_hook(
            lambda m, _, out: sizes.append(float(out.detach().square().mean().sqrt()))
        )
        for layer in layers
    ]
    with torch.no_grad():
        images = model.generate(torch.randn(64, model.latent), None, context())
        model.discriminator(torch.randn_like(images))
    for hook in hooks:
        hook.remove()
    assert len(sizes) == 7 + 3
    assert all(0.3 < s < 2.0 for s in sizes), sizes


def test_every_layer_of_the_mapping_learns_slowly() -> None:
    gradients = step(make("stylegan2"), batch(DIGITS))["generator"]
    names = [n for n in gradients if "mapping.body" in n]
    assert names
    assert all(".original" in n for n in names), "weights and biases alike"


@pytest.mark.slow
def test_pruned_and_in_four_bits_it_is_exported_and_truncates_as_before(tmp_path: Path) -> None:
    model = make("stylegan2", width=16, max_width=32, style=16).eval()
    with torch.no_grad():
        model.generator.mean.mean.normal_()
    plan = CompressConfig.model_validate(
        {
            "steps": [{"kind": "prune", "ratio": 0.5, "round_to": 4}, {"kind": "quantize", "bits": 4}],
            "measure": False,
        }
    )
    made = compress(model, None, plan, workdir=tmp_path, seed=0)
    small, bundle = made.model, load(made.bundle, engine="onnxruntime", precision="exact")
    held = [sum(p.numel() for p in m.generator.parameters()) for m in (small, model)]
    assert held[0] < 0.8 * held[1]
    mapping, styles = small.generator.mapping, small.generator.mean.mean
    assert styles.shape[1] == mapping.body[-2].out_features, "the mean style is cut with the style"
    for psi in (1.0, 0.0):
        expected = small.sample(4, seed=1, truncation=psi).numpy()
        np.testing.assert_allclose(bundle.sample(4, seed=1, truncation=psi), expected, atol=2e-3)
