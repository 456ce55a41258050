"""Cascaded diffusion: what either half is trained on, its noise, how far samples follow the small picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from model_cases import batch, context, make, step
from torch import Tensor
from torch.nn import functional as F

from niwaki.compression.distillation.fewer_steps import diffusion_of
from niwaki.core.contract import Batch, CallError, DataSpec
from niwaki.models.diffusion.cascaded import CascadedDiffusion

IMAGES = DataSpec.of("image", (1, 8, 8), classes=3)
TALL = DataSpec.of("image", (2, 32, 16), classes=3)
BASE: dict[str, Any] = {"widths": (8, 16), "blocks": 1, "attention": (), "steps": 4}


def cascaded(spec: DataSpec = IMAGES, **changes: Any) -> CascadedDiffusion:
    model = make("cascaded-diffusion", spec, **{"base": {"name": "ddpm", **BASE}, "attention": (), **changes})
    assert isinstance(model, CascadedDiffusion)
    return model


def seen_by_the_upsampler(model: CascadedDiffusion, **options: Any) -> tuple[Tensor, Tensor]:
    """The levels and small pictures of the first call in sampling, and what was made."""
    calls: list[tuple[Tensor, ...]] = []
    hook = model.upsampler.denoiser.register_forward_pre_hook(lambda module, given: calls.append(given))
    model.sample(3, seed=4, **options)
    hook.remove()
    return calls[0][-2], calls[0][-1]


@pytest.mark.parametrize("factor", [2, 4])
def test_the_base_is_trained_on_means_of_blocks_and_the_upsampler_on_the_pictures(factor: int) -> None:
    model, data = cascaded(TALL, factor=factor).eval(), batch(TALL)
    small = data.replaced(x=F.avg_pool2d(data.x, factor))
    assert tuple(small.x.shape[1:]) == model.small.shape
    whole = model.loss("base_denoiser", data, context(1))["denoiser"]
    assert torch.equal(whole, model.base.loss("denoiser", small, context(1))["denoiser"])
    found = step(model, data)
    assert list(found) == ["base_denoiser", "upsampler_denoiser"]
    for phase, gradients in found.items():
        assert {name.split(".")[0] for name in gradients} == {phase.split("_")[0]}
    assert [phase.fresh_batch for phase in model.phases()] == [True, False]


def test_small_pictures_get_noise_of_a_level_of_their_own_in_training() -> None:
    model, data = cascaded(augmentation=0.5), batch(IMAGES, 64)
    *_, level, low = model.upsampler.asked(data, context())
    assert 0.0 <= float(level.min()) < 0.1
    assert 0.4 < float(level.max()) <= 0.5
    s = level.reshape(-1, 1, 1, 1)
    eps = (low - (1 - s.square()).sqrt() * F.avg_pool2d(data.x, 2)) / s
    assert float(eps.std()) == pytest.approx(1.0, abs=0.1)
    *_, level, low = cascaded(augmentation=0.0).upsampler.asked(data, context())
    assert not level.any()
    assert torch.equal(low, F.avg_pool2d(data.x, 2))


def test_the_level_is_an_input_and_an_option() -> None:
    model = cascaded().eval()
    graph = model.graphs()["denoiser"]
    assert [port.name for port in graph.inputs] == ["x", "t", "class", "level", "low"]
    for asked in (0.0, 0.3, 1.0):
        level, _ = seen_by_the_upsampler(model, augmentation=asked)
        assert torch.equal(level, torch.full((3,), asked))
    assert cascaded().sampler().legs[1].augmentation == 0.1
    assert cascaded(augmentation=0.05).sampler().legs[1].augmentation == 0.05
    assert cascaded(sampling={"augmentation": 0.2}).sampler().legs[1].augmentation == 0.2
    with pytest.raises(CallError, match="level of noise"):
        model.sample(1, augmentation=2.0)


def test_the_base_draws_the_same_in_a_cascade_and_alone() -> None:
    model = cascaded().eval()
    small = model.run("small", 3, seed=4)
    assert tuple(small.shape) == (3, 1, 4, 4)
    assert torch.equal(seen_by_the_upsampler(model, augmentation=0.0)[1], small)
    noisy = seen_by_the_upsampler(model, augmentation=0.6)[1]
    eps = (noisy - 0.8 * small) / 0.6
    again = seen_by_the_upsampler(model, augmentation=0.8)[1]
    torch.testing.assert_close((again - 0.6 * small) / 0.8, eps, atol=1e-5, rtol=1e-5)  # paired
    start = model.backend().normal(4, 0, 3, (1, 4, 4), stream="latent", draw=0)
    assert abs(float(torch.corrcoef(torch.stack([eps.flatten(), start.flatten()]))[0, 1])) < 0.5


def test_pictures_of_full_size_are_enlarged_from_their_blocks() -> None:
    model = cascaded().eval()
    small = model.run("small", 3, seed=4)
    large = F.interpolate(small, scale_factor=2.0, mode="nearest").numpy()
    made = model.run("upscale", 3, seed=4, inputs={"known": large}, augmentation=0.0, factor=2)
    shifted = large + np.array([[0.1, -0.1], [-0.1, 0.1]], np.float32).repeat(4, 0).repeat(4, 1)[None, None]
    assert made.shape == (3, 1, 8, 8)
    assert not torch.equal(made, model.run("upscale", 3, seed=4, inputs={"known": shifted}, augmentation=0.0))
    with pytest.raises(CallError, match="not how often"):
        model.run("upscale", 1, inputs={"known": large[:1]}, factor=4)


@pytest.mark.slow
def test_at_level_0_a_sample_follows_its_own_small_picture_and_less_at_higher_ones() -> None:
    """Of pictures that are their blocks, with a little noise; a few steps of training suffice."""
    model = cascaded(conditional=False, prediction="x0").train()
    optimizer = torch.optim.Adam(model.upsampler.parameters(), lr=3e-3)
    rng = torch.Generator().manual_seed(0)
    for k in range(250):
        small = torch.rand((32, 1, 4, 4), generator=rng).mul(1.6).sub(0.8)
        fine = 0.1 * torch.randn((32, 1, 8, 8), generator=rng)
        x = F.interpolate(small, scale_factor=2.0, mode="nearest") + fine
        loss = model.loss("upsampler_denoiser", Batch({"x": x.clamp(-1, 1)}), context(k))["denoiser"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    small = model.run("small", 16, seed=2)

    def apart(level: float) -> Tensor:
        """Distances of the means of sample i from small picture j."""
        means = F.avg_pool2d(model.sample(16, seed=2, augmentation=level), 2)
        return (means[:, None] - small[None]).square().mean((2, 3, 4))

    exact = apart(0.0)
    assert torch.equal(exact.argmin(1), torch.arange(16))
    assert float(exact.diagonal().mean()) < 0.2 * float(exact.mean())
    assert float(apart(0.5).diagonal().mean()) > 1.5 * float(exact.diagonal().mean())


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching", "dit", "mmdit"])
def test_every_diffusion_model_of_pixels_can_be_the_base(name: str) -> None:
    settings = {"name": name, "widths": (8, 16), "blocks": 1, "attention": (), "steps": 2}
    if name in ("dit", "mmdit"):
        settings["network"] = {"name": name, "patch": 2, "width": 16, "depth": 1, "heads": 2, "text_heads": 2}
    model = cascaded(base=settings).eval()
    assert torch.isfinite(model.loss("base_denoiser", batch(IMAGES), context())["denoiser"])
    assert model.sample(2, seed=0).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", ["unet", "dit", "mmdit"])
def test_networks_of_the_upsampler_are_those_of_denoisers(name: str) -> None:
    more = {} if name == "unet" else {"patch": 2, "width": 16, "depth": 1, "heads": 2, "text_heads": 2}
    found = step(cascaded(network={"name": name, **more}), batch(IMAGES))["upsampler_denoiser"]
    looked = {key: g for key, g in found.items() if "first_estimate" in key}
    assert looked
    assert all(g.abs().sum() > 0 for g in looked.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": {"name": "dcgan"}}, "must sample by one diffusion"),
        ({"base": {"name": "ddpn"}}, "no model 'ddpn'"),
        ({"factor": 3}, "does not divide"),
        ({"factor": 4}, "at least 4×4"),
        (
            {"self_conditioning": True},
            "'self_conditioning' is not for a network that is given",
        ),
        ({"likelihood": True}, "'likelihood' is not for a network that is given"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        cascaded(**changes)


def test_it_has_no_single_diffusion_whose_steps_could_be_saved() -> None:
    with pytest.raises(CallError, match="does not sample by one diffusion"):
        diffusion_of(cascaded())
