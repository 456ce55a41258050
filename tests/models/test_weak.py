"""A weaker denoiser that is trained along and guides (Karras et al. 2024, "Guiding a diffusion model with a
bad version of itself")."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from model_cases import CLIPS, DIGITS, LATER, LED, SMALL_TRANSFORMER, TALL, batch, context, make
from torch import Tensor

from niwaki.compression.distillation.denoising import Denoising
from niwaki.compression.distillation.step import METHODS, _unguided
from niwaki.compression.distillation.student import with_sampling
from niwaki.core.contract import CallError, DataSpec, GenerativeModel
from niwaki.data import Split
from niwaki.data.columns import Column
from niwaki.models.io import save_model
from niwaki.recipe.checks import check_model
from niwaki.training import TrainConfig, fit
from niwaki_runtime.process import Karras
from niwaki_runtime.samplers import Diffusion, Noise
from niwaki_runtime.samplers.backend import NumpyBackend

WEAK = {"every": 2, "widths": (8, 16)}
UNLABELLED = DataSpec.of("image", (1, 8, 8), levels=17)


def small(name: str = "edm", spec: DataSpec = DIGITS, **changes: Any) -> GenerativeModel:
    torch.manual_seed(0)
    return make(name, spec, **{"weak": WEAK, **changes})


def unlike(model: GenerativeModel) -> GenerativeModel:
    """With weights large enough that what the networks say shows in samples."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return model


@pytest.mark.parametrize("weight", [0.5, 2.0, 5.0])
def test_guided_by_its_equal_it_is_not_guided(weight: float) -> None:
    model = unlike(small(weak={"every": 1}))
    apart = model.sample(4, seed=1, guidance=weight)
    model.weak.load_state_dict(model.denoiser.state_dict())
    plain = model.sample(4, seed=1, guidance=1.0)
    np.testing.assert_allclose(model.sample(4, seed=1, guidance=weight), plain, atol=1e-4)
    assert np.abs(apart - plain).max() > 0.01


def test_it_guides_unless_told_otherwise_and_needs_no_dropped_labels() -> None:
    model = unlike(small(conditioning={"drop": 0.0}))
    assert (model.sampler().guide, model.sampler().guidance) == ("weak", 2.0)
    assert small(sampling={"guidance": 3.0}, conditioning={"drop": 0.0}).sampler().guidance == 3.0
    assert small("ddpm", UNLABELLED).sample(2, seed=0).shape == (2, 1, 8, 8)
    check_model(small(sampling={"guidance": 3.0}, conditioning={"drop": 0.0}).config)
    assert "weak" not in model.program("encode").sampler.graphs_used()  # nothing guides an inversion


MEANS = torch.tensor([[-1.0, 0.3], [0.8, 0.5], [0.1, -0.9]], dtype=torch.float64)


def log_density(x: Tensor, s: float, width: float) -> Tensor:
    """Of three Gaussians of that width, noised to σ = s, without the constant."""
    scale = width**2 + s**2
    return torch.logsumexp(-(x[:, None] - MEANS).square().sum(2) / (2 * scale), 1)


class Exact:
    """D of the mixture as EDM's network says it: F of D = c_skip x + c_out F."""

    def __init__(self, width: float, process: Karras) -> None:
        self.width, self.process = width, process

    def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        s = float(np.exp(4.0 * np.float64(t[0])))
        data = self.process.sigma_data
        y = torch.from_numpy(x).double() * (s**2 + data**2) ** 0.5
        y.requires_grad_()
        (score,) = torch.autograd.grad(log_density(y, s, self.width).sum(), y)
        skip, out = data**2 / (s**2 + data**2), s * data / (s**2 + data**2) ** 0.5
        return ((y + s**2 * score - skip * y) / out).detach().numpy()


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.0, 3.5])
def test_of_a_mixture_it_is_the_score_of_the_densities_ratio(weight: float) -> None:
    """∇ log p₁ (p₁/p₀)^(w − 1) (Equation 4 of the paper), by autograd of the closed form."""
    process = Karras()
    made = Diffusion((2,), process=process, prediction="edm", clip=0.0, guide="weak", guidance=weight)
    graphs: dict[str, Any] = {"denoiser": Exact(0.2, process), "weak": Exact(0.5, process)}
    noise = Noise(NumpyBackend(), 0, 0, 5)
    ask = made.predictor(graphs, noise, {})
    for s in (0.05, 0.7, 4.0):
        x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * (1 + s)
        y = x.clone().requires_grad_()
        led = log_density(y, s, 0.2) + (weight - 1) * (log_density(y, s, 0.2) - log_density(y, s, 0.5))
        (score,) = torch.autograd.grad(led.sum(), y)
        x0, _ = ask(x.numpy(), s, made.level(s))
        np.testing.assert_allclose(x0, (x + s**2 * score).numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching"])
def test_its_loss_is_that_of_its_network_and_reaches_nothing_else(name: str) -> None:
    model = small(name, weighting="learned")
    terms = model.loss("weak", batch(model.spec), context())
    plain = model.denoising_loss(model.weak, batch(model.spec), context())
    assert set(terms) == {"weak_denoiser"}
    torch.testing.assert_close(terms["weak_denoiser"], plain["denoiser"])
    own = model.denoising_loss(model.denoiser, batch(model.spec), context())
    assert not torch.allclose(own["denoiser"], plain["denoiser"])
    model.requires_grad_(False)
    model.weak.requires_grad_(True)  # as the trainer does
    terms = model.loss("weak", batch(model.spec), context())
    terms["weak_denoiser"].backward()
    assert all(p.grad is not None for p in model.weak.parameters())
    assert all(p.grad is None for p in model.denoiser.parameters())


def split(model: GenerativeModel, n: int = 32) -> Split:
    return Split({k: Column(model.spec[k], v) for k, v in batch(model.spec, n=n).items()})


def test_it_is_trained_in_one_of_so_many_steps() -> None:
    """Four steps with `every: 4` are one of its own: its first."""
    seen: list[str] = []
    model = small(weak={"every": 4, "widths": (8, 16)})
    loss = model.loss
    model.loss = lambda phase, *rest: (seen.append(phase), loss(phase, *rest))[1]  # type: ignore[method-assign]
    fit(model, split(model), TrainConfig(steps=8, batch=8), seed=0)
    assert seen.count("weak") == 2
    assert seen.count("denoiser") == 8


def test_an_earlier_training_can_be_the_weak_one(tmp_path: Any) -> None:
    earlier = unlike(make("edm", DIGITS, widths=(8, 16)))
    save_model(earlier, tmp_path / "model")
    model = small(weak={"every": 0, "widths": (8, 16)})
    assert [p.name for p in model.phases()] == ["denoiser"]
    notes: list[str] = []
    fit(model, split(model), TrainConfig(steps=1, batch=8), seed=0, note=notes.append)
    assert any("weak" in note for note in notes)  # nothing trains it, and nothing brings it
    config = TrainConfig(steps=2, batch=8, init_from={"weak": f"{tmp_path}:denoiser"})
    fit(model, split(model), config, seed=0)
    for name, value in model.weak.state_dict().items():
        torch.testing.assert_close(value, earlier.denoiser.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "spec", "more"),
    [
        ("ddpm", TALL, {"self_conditioning": True}),
        ("ddpm", DIGITS, {"learned_variance": True, "solver": "ddpm"}),
        ("dit", DIGITS, {"weak": {"network": {"name": "dit", **SMALL_TRANSFORMER, "depth": 1}}}),
        ("video-diffusion", CLIPS, {}),
        ("video-diffusion", LATER, {}),
        ("latent-diffusion", DataSpec.of("image", (1, 16, 16), classes=3), {"weak": {"blocks": 1}}),
    ],
)
def test_every_denoiser_may_have_one(name: str, spec: DataSpec, more: dict[str, Any]) -> None:
    latents = {"autoencoder": {"name": "spatial-vae", "width": 4}, "attention": (), "words": 8}
    model = small(name, spec, **(latents if name == "latent-diffusion" else {}), **more)
    shipped = model.shipped_graphs()
    assert {"denoiser", "weak"} <= set(shipped)
    assert shipped["weak"].inputs == shipped["denoiser"].inputs
    assert shipped["weak"].outputs == shipped["denoiser"].outputs
    inputs = {n: v[:2].numpy() for n, v in batch(spec).items() if n in model.program("sample").inputs}
    model = unlike(model)
    led, plain = (model.run("sample", 2, seed=0, inputs=inputs, guidance=w) for w in (2.0, 1.0))
    assert np.isfinite(led).all()
    assert np.abs(led - plain).max() > 1e-4


def test_the_base_of_a_cascade_may_have_one() -> None:
    base = {"name": "ddpm", "widths": [8, 16], "blocks": 1, "attention": [], "train_steps": 50}
    spec = DataSpec.of("image", (1, 16, 16), classes=3)
    model = make("cascaded-diffusion", spec, base={**base, "weak": {"every": 2, "widths": [8, 8]}}, steps=2)
    assert {p.name for p in model.phases()} >= {"base_denoiser", "base_weak"}
    assert "base_weak" in model.shipped_graphs()
    assert model.sample(2, seed=0).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("method", ["easy_consistency", "progressive"])
def test_a_student_says_what_its_teacher_was_guided_to(method: str) -> None:
    """The teacher's words are guided by the weak network, and the student ships without it."""
    model = unlike(small(conditioning={"drop": 0.0}))
    sampler = model.sampler()
    data = batch(model.spec, n=3)
    x, time = data.x, torch.full((3,), 0.1)
    found = Denoising(sampler, model, data, context()).output(
        model, x, time, torch.ones(()), torch.ones(()), 2.0
    )
    given = sampler.process.network_input(x, torch.ones(()), torch.ones(())), time, data["class"]
    torch.testing.assert_close(found, 2.0 * model.denoiser(*given) - model.weak(*given))
    assert method in METHODS
    with_sampling(model, **_unguided(model))
    assert set(model.shipped_graphs()) == {"denoiser"}


@pytest.mark.parametrize(
    ("name", "spec", "settings", "message"),
    [
        ("mean-flow", DIGITS, {"weak": WEAK}, "weak"),
        ("cascaded-diffusion", DataSpec.of("image", (1, 16, 16)), {"weak": WEAK}, "weak"),
        ("controlnet", None, {"base": {"name": "ddpm", "weak": WEAK}}, "sees no picture"),
        ("video-diffusion", LATER, {"weak": WEAK, "without_past": 0.5}, "without_past"),
        ("edm", DIGITS, {"weak": {"width": 3}}, "no setting 'weak.width'"),
    ],
)
def test_who_can_have_none(name: str, spec: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        make(name, spec or LED, **settings)
