"""A generator of transformer blocks and a discriminator of patches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import DIGITS, PATCHES, batch, context, make

from niwaki.core.contract import CallError
from niwaki.models import build
from niwaki.models.gan.transformer_networks import PatchDiscriminator, TransformerBlock, TransformerGenerator

SETTINGS: dict[str, Any] = {
    "latent": 6, "classes": 0, "embedding": 4, "width": 8, "most": 16, "blocks": 1, "heads": 2, "ratio": 2,
    "low": -1.0, "high": 1.0,
}  # fmt: skip


def moved(module: torch.nn.Module) -> torch.nn.Module:
    """Away from what starts at zero."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return module


@pytest.mark.parametrize(
    ("shape", "patch", "tokens"),
    [
        ((1, 8, 8), 1, [16, 64]),
        ((1, 8, 8), 2, [16]),
        ((3, 32, 32), 2, [16, 64, 256]),
        ((2, 16, 8), 2, [32]),
        ((1, 12, 12), 3, [16]),
        ((1, 28, 28), 4, [49]),
    ],
)
def test_a_token_becomes_a_patch(shape: tuple[int, int, int], patch: int, tokens: list[int]) -> None:
    generator = moved(TransformerGenerator(shape, patch=patch, **SETTINGS))
    found = []
    for module in generator.modules():
        if isinstance(module, TransformerBlock):
            module.register_forward_hook(lambda m, i, o: found.append(o.shape[2] * o.shape[3]))
    x = generator(torch.randn(3, 6))
    assert tuple(x.shape) == (3, *shape)
    assert found == tokens
    assert x.abs().max() <= 1


def test_all_tokens_attend_to_all_others_and_know_their_place() -> None:
    torch.manual_seed(0)
    block = moved(TransformerBlock(8, heads=2, ratio=2)).double()
    x = torch.randn(1, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(block(x)[0, :, 0, 0].square().sum(), x)
    assert (g.abs().sum(1) > 0).all()
    generator = moved(TransformerGenerator((1, 8, 8), patch=1, **SETTINGS))
    image = generator(torch.zeros(1, 6))[0, 0]
    assert len(torch.unique(image.round(decimals=5))) > 32, "not the same at every place"


def test_a_block_starts_close_to_its_skip() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 4, 4)
    block = TransformerBlock(16, heads=4, ratio=2)
    assert (block(x) - x).abs().mean() < 0.1 * x.abs().mean()


def test_every_patch_is_judged_by_what_lies_within_ten_pixels() -> None:
    torch.manual_seed(0)
    critic = PatchDiscriminator((1, 32, 32), classes=3, width=4, bias=True).double()
    x = torch.randn(1, 1, 32, 32, dtype=torch.float64, requires_grad=True)
    logits = critic(x, torch.tensor([1]))
    assert tuple(logits.shape) == (1, 16 * 16)
    (g,) = torch.autograd.grad(logits.view(16, 16)[8, 8], x)
    rows = torch.nonzero(g[0, 0].abs().sum(1)).flatten()
    assert int(rows.max() - rows.min()) + 1 == 10
    other = critic(x, torch.tensor([2]))
    assert not torch.allclose(other, logits), "the class has its say at every patch"
    assert tuple(critic.features(x).shape) == (1, 8)


@pytest.mark.parametrize("critic", ["convolutional", "patch"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "relativistic", "r2": 1.0, "r1_every": 1},
        {"objective": "hinge", "spectral": True, "r1": 0.0},
        {"objective": "wasserstein", "gradient_penalty": 10.0, "critic_steps": 2},
        {"feature_matching": 1.0, "mode_seeking": 0.1},
        {"augment": {"shift": 0.1}, "augment_target": 0.6},
    ],
)
def test_the_options_of_adversarial_models_go_with_both_critics(critic: str, options: dict[str, Any]) -> None:
    model: Any = make("transformer-gan", DIGITS, critic=critic, critic_width=8, **options)
    data = batch(DIGITS, 8)
    for phase in model.phases():
        total = sum(model.loss(phase.name, data, context()).values())
        assert torch.isfinite(total), phase.name
        total.backward()
    assert model.realness(data).shape == (8,)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"patch": 3}, "cannot be cut into patches of 3×3"),
        ({"heads": 3}, "64 channels are no multiple of 3"),
        ({"critic": "patchy"}, "model.critic"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(CallError, match=text):
        build("transformer-gan", settings, DIGITS)


def test_it_makes_larger_images_too() -> None:
    model: Any = make("transformer-gan", PATCHES)
    assert tuple(model.sample(2, seed=0).shape) == (2, 3, 32, 32)
