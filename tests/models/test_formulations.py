"""Options of the loss that all models with a denoiser share: of images, of clips, of latents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import CLIPS, DIGITS, batch, context, make
from torch import Tensor, nn

from niwaki.compression.distillation.rules import RULES
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.core.contract import Batch, CallError, DataSpec, GenerativeModel
from niwaki.nn.couplings import coupled
from niwaki.nn.loss_weights import min_snr_weight

ALL = ["ddpm", "edm", "flow-matching", "latent-diffusion", "video-diffusion"]
LATENTS = {"autoencoder": {"name": "spatial-vae", "width": 4}, "attention": (), "words": 8}


def small(name: str, **changes: Any) -> GenerativeModel:
    spec = {
        "latent-diffusion": DataSpec.of("image", (1, 16, 16), classes=3),
        "video-diffusion": CLIPS,
    }.get(name, DIGITS)
    torch.manual_seed(0)
    return make(name, spec, LATENTS if name == "latent-diffusion" else None, **changes)


class Listening(nn.Module):
    """A denoiser that says nothing, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.given: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        self.given.append((x, t, *conditions))
        return self.weight * x


def terms(model: GenerativeModel, data: Batch | None = None, step: int = 0) -> dict[str, Tensor]:
    return model.loss("denoiser", data or batch(model.spec, n=12), context(step))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("weighting", ["min_snr", "learned"])
def test_a_weighting_changes_nothing_but_the_weights(name: str, weighting: str) -> None:
    """The same draws, and with weights of 1 the same loss."""
    plain, weighed = small(name), small(name, weighting=weighting)
    was, now = terms(plain), terms(weighed)
    assert now["denoiser"].isfinite()
    if weighting == "learned":  # u begins at 0
        torch.testing.assert_close(now["denoiser"], was["denoiser"])
        assert float(now["uncertainty"].detach()) == 0.0
    else:
        assert not torch.allclose(now["denoiser"], was["denoiser"])


@pytest.mark.parametrize("name", ALL)
def test_min_snr_is_the_mean_of_weighed_errors(name: str) -> None:
    """A network that says 0: each sample's squared target times its weight, computed here anew."""
    model = small(name, weighting="min_snr", min_snr_gamma=2.0)
    model.denoiser, data = Listening(), batch(model.spec, n=12)
    found = terms(model, data)["denoiser"]
    clean, ctx = model.clean(data), context()
    t = model.path.draw(12, ctx.rng)
    eps = torch.randn(clean.shape, generator=ctx.rng)
    known, total = model.path.process.conversion(model.config.prediction), 0.0
    for i in range(12):
        a, s = (level[i] for level in model.path.levels(t))
        weight = min_snr_weight(known, a, s, 2.0)
        total += float(weight * known.target(clean[i], eps[i], a, s).square().mean())
    assert float(found.detach()) == pytest.approx(total / 12, rel=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_learned_weights_are_trained_and_never_shipped(name: str) -> None:
    model = small(name, weighting="learned")
    (phase,) = model.phases()
    assert "uncertainty" in phase.parameters
    sum(terms(model).values()).backward()
    assert float(model.uncertainty.out.weight.grad.abs().sum()) > 0
    own = {id(p) for p in model.uncertainty.parameters()}
    assert not any(id(p) in own for graph in model.graphs().values() for p in graph.module.parameters())
    assert small(name).phases()[0].parameters == tuple(p for p in phase.parameters if p != "uncertainty")


def test_learned_weights_divide_each_levels_error() -> None:
    """∂/∂u of error/eᵘ + u is 1 − error/eᵘ, in the mean over what the error is taken over."""
    model = small("edm", weighting="learned")
    model.denoiser = Listening()
    u = math.log(3.0)
    nn.init.constant_(model.uncertainty.out.bias, u)
    found = terms(model)
    plain = small("edm")
    plain.denoiser = Listening()
    torch.testing.assert_close(found["denoiser"] * 3.0, terms(plain)["denoiser"])
    assert float(found["uncertainty"].detach()) == pytest.approx(u)
    sum(found.values()).backward()
    gradient = float(model.uncertainty.out.bias.grad)
    assert gradient == pytest.approx(1.0 - float(found["denoiser"].detach()), rel=1e-5)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("coupling", ["ot", "c2ot"])
def test_a_coupling_moves_noise_and_leaves_samples_their_labels(name: str, coupling: str) -> None:
    """x_t of a network that listens: its sample and its label, and the noise that the plan gives it."""
    model = small(name, coupling=coupling)
    listening = model.denoiser = Listening()
    data = batch(model.spec, n=12)
    terms(model, data)
    clean, ctx = model.clean(data), context()
    t = model.path.draw(12, ctx.rng)
    noise = torch.randn(clean.shape, generator=ctx.rng)
    known = [data[k] for k in model.conditions] if coupling == "c2ot" else []
    eps = coupled(noise, clean, known)
    a, s = (level.reshape(-1, *[1] * (clean.ndim - 1)) for level in model.path.levels(t))
    x, told, *_ = listening.given[0]
    torch.testing.assert_close(x, model.path.process.network_input(a * clean + s * eps, a, s))
    torch.testing.assert_close(told, model.path.network_time(t))
    if coupling == "ot":
        assert not torch.equal(eps, noise)


@pytest.mark.parametrize("coupling", ["ot", "c2ot"])
def test_a_plan_is_drawn_from_the_context_alone(coupling: str) -> None:
    """So that a resumed training draws the same, whatever global generators hold."""
    model = small("flow-matching", coupling=coupling)
    first = terms(model)["denoiser"]
    torch.rand(3)
    assert torch.equal(first, terms(model)["denoiser"])
    assert not torch.equal(first, terms(model, step=1)["denoiser"])


@pytest.mark.parametrize("coupling", ["none", "ot", "c2ot"])
def test_the_gradient_depends_on_every_sample(coupling: str) -> None:
    """Not on one point of the batch alone (torchcfm's issue 24)."""
    model = small("flow-matching", coupling=coupling)
    model.denoiser, data = Listening(), batch(model.spec, n=12)

    def gradient(rows: Batch) -> float:
        model.denoiser.weight.grad = None
        terms(model, rows)["denoiser"].backward()
        return float(model.denoiser.weight.grad)

    whole = gradient(data)
    for i in range(12):
        x = data.x.clone()
        x[i] += 1e-3 * torch.randn(x[i].shape, generator=torch.Generator().manual_seed(i))
        assert gradient(data.replaced(x=x)) != whole


@pytest.mark.parametrize("schedule", ["cosine", "linear", "sigmoid"])
@pytest.mark.parametrize("prediction", ["v", "x0", "velocity"])
def test_with_zero_terminal_snr_training_and_sampling_are_finite(schedule: str, prediction: str) -> None:
    model = small("ddpm", schedule=schedule, prediction=prediction, zero_terminal_snr=True)
    assert float(model.path.alphas[-1]) == 0.0
    model.path.draw = lambda n, rng: torch.full((n,), 49)  # type: ignore[method-assign]
    assert all(v.isfinite() for v in terms(model).values())
    for solver in ("ddim", "ddpm", "heun", "dpmpp_2m", "euler"):
        x = model.sample(2, seed=0, solver=solver, steps=3, condition=1)
        assert x.isfinite().all(), solver


def test_with_zero_terminal_snr_the_network_cannot_say_the_noise() -> None:
    with pytest.raises(CallError, match="determines no x₀ in pure noise"):
        small("ddpm", prediction="epsilon", zero_terminal_snr=True)


def test_variances_are_learned_beside_the_loss_and_not_against_it() -> None:
    """The term of the variances has no gradient for the prediction (Nichol & Dhariwal 2021, Section 3.1)."""
    for name in ("ddpm", "latent-diffusion", "video-diffusion"):
        model = small(name, learned_variance=True)
        assert model.graphs()["denoiser"].outputs == ("output", "variance")
        found = terms(model)
        half = model.denoiser.output[-1].bias
        (slope,) = torch.autograd.grad(found["variance"], half, retain_graph=True)
        said = len(half) // 2
        assert float(slope[:said].abs().sum()) == 0.0, name
        assert float(slope[said:].abs().sum()) > 0.0, name
        (slope,) = torch.autograd.grad(found["denoiser"], half)
        assert float(slope[said:].abs().sum()) == 0.0, name


class Ends(nn.Module):
    """Says v = 0 of everything, and one share of all variances."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.weight = share, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        return 0.0 * x, torch.full_like(x, self.share)


@pytest.mark.parametrize(("share", "solver"), [(0.0, "ddpm"), (1.0, "ddpm_large")])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_ancestral_sampling_with_the_ends_of_the_shares_is_that_with_fixed_variances(
    share: float, solver: str, guidance: float
) -> None:
    learned, fixed = small("ddpm", learned_variance=True), small("ddpm")
    learned.denoiser = Ends(share)
    fixed.denoiser = Listening()
    asked = {"seed": 1, "steps": 6, "condition": 2, "guidance": guidance}
    wanted = fixed.sample(3, solver=solver, **asked)
    torch.testing.assert_close(learned.sample(3, solver="ddpm", **asked), wanted, atol=1e-5, rtol=1e-5)
    unfixed = fixed.sample(3, solver="ddim", **asked)
    torch.testing.assert_close(learned.sample(3, solver="ddim", **asked), unfixed)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("batched", [True, False])
def test_the_sampler_feeds_the_last_estimate_back(guidance: float, batched: bool) -> None:
    """Zeros first, then the x₀ of the call before, for the guided and the free half alike."""
    model = small("ddpm", self_conditioning=True)
    heard = model.denoiser = Listening()
    nn.init.constant_(heard.weight, 0.3)
    model.sample(2, seed=0, steps=4, condition=1, guidance=guidance, guidance_batched=batched)
    process = model.sampler().process
    calls = heard.given if guidance == 1.0 or batched else heard.given[::2]
    assert len(calls) == 4
    expected = torch.zeros(2, 1, 8, 8)
    for x, t, *rest in calls:
        for part in rest[-1].split(2):
            torch.testing.assert_close(part, expected)
        a, s = process.alpha_sigma(float(t[0]))
        expected = (a * x[:2] - s * 0.3 * x[:2]).clip(-1, 1)


@pytest.mark.parametrize("name", ALL)
def test_half_of_the_samples_are_trained_with_an_estimate(name: str) -> None:
    model = small(name, self_conditioning=True)
    heard = model.denoiser = Listening()
    nn.init.constant_(heard.weight, 0.3)
    data = batch(model.spec, n=200)
    terms(model, data)["denoiser"].backward()
    first, second = heard.given
    assert not first[-1].any()
    given = second[-1].flatten(1).abs().sum(1) > 0
    assert 0.35 < float(given.double().mean()) < 0.65
    assert not second[-1].requires_grad
    graph = model.graphs()["denoiser"]
    assert graph.inputs[-1].name == "estimate"
    assert len(second) == len(graph.inputs)
    assert model.sample(2, seed=0, steps=2).isfinite().all()


def test_calibration_and_lessons_give_a_network_its_estimates() -> None:
    """Real trajectories show what the sampler feeds back; a student is asked as training asks."""
    model = small("ddpm", self_conditioning=True).eval()
    seen = calibration_inputs(model, 24)["denoiser"]
    fed = [bool(np.any(inputs["estimate"])) for inputs in seen]
    first = max(float(inputs["t"][0]) for inputs in seen)
    assert fed == [float(inputs["t"][0]) != first for inputs in seen]
    graph, data = model.graphs()["denoiser"], batch(model.spec, n=100)
    given = RULES["denoiser"](model, "denoiser", graph, data, context())
    assert given is not None
    assert [tuple(v.shape[1:]) for v in given] == [p.shape[1:] for p in graph.inputs]
    some = (given[-1].flatten(1).abs().sum(1) > 0).double().mean()
    assert 0.3 < float(some) < 0.7


def test_usual_settings_leave_no_trace_in_records() -> None:
    """Older models keep their records, and older runtimes read new bundles."""
    model = small("ddpm")
    record = model.config.model_dump()
    assert not {"weighting", "coupling", "min_snr_gamma", "zero_terminal_snr"} & set(record)
    assert not {"self_conditioning", "learned_variance"} & (set(record) | set(model.sampler().to_json()))
    assert "zero_terminal_snr" not in model.sampler().to_json()["process"]
    other = small("ddpm", zero_terminal_snr=True, weighting="learned")
    assert other.config.model_dump()["weighting"] == "learned"
    assert other.sampler().to_json()["process"]["zero_terminal_snr"] is True
