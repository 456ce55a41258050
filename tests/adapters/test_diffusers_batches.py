"""Layers of diffusers that do one thing with large batches and another with the rest are the same for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pipelines
import pytest
import torch
from torch import Tensor

from niwaki.adapters.diffusers.config import Component
from niwaki.adapters.diffusers.networks import build
from niwaki.core.contract import Graph, Port
from niwaki.deployment.capture import capture

pytest.importorskip("diffusers")


def upsampling(**settings: Any) -> Any:
    from diffusers.models.upsampling import Upsample2D

    torch.manual_seed(0)
    return Upsample2D(8, **settings)


LAYERS: dict[str, Callable[[], Any]] = {
    "plain": lambda: upsampling(),
    "with a convolution": lambda: upsampling(use_conv=True),
    "of another name": lambda: upsampling(use_conv=True, name="Conv2d_0"),
    "transposed": lambda: upsampling(use_conv_transpose=True),
    "normalized": lambda: upsampling(use_conv=True, norm_type="ln_norm", elementwise_affine=True, eps=1e-5),
    "not interpolated": lambda: upsampling(use_conv=True, interpolate=False),
}


def freed(layer: Any) -> Any:
    from niwaki.adapters.diffusers.networks import _free

    _free(layer)
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_an_upsampling_layer_computes_what_theirs_does_and_is_exported_for_every_batch(name: str) -> None:
    theirs, ours = LAYERS[name]().eval(), freed(LAYERS[name]()).eval()
    x = torch.randn(65, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    for n in (1, 63, 65):
        torch.testing.assert_close(ours(x[:n]), theirs(x[:n]), rtol=1e-5, atol=1e-5)
    graph = Graph("denoiser", ours, (Port("x", (1, 8, 4, 4)),))
    program = capture(name, graph, ours)
    (made,) = program.module()(x)
    assert isinstance(made, Tensor)
    torch.testing.assert_close(made, theirs(x), rtol=1e-5, atol=1e-5)


def test_a_size_that_is_asked_for_is_kept() -> None:
    x = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    theirs, ours = upsampling(use_conv=True).eval(), freed(upsampling(use_conv=True)).eval()
    torch.testing.assert_close(ours(x, (7, 7)), theirs(x, (7, 7)), rtol=0, atol=0)


def test_the_layers_of_a_network_are_freed_when_it_is_built() -> None:
    from diffusers.models.upsampling import Upsample2D

    settings = dict(pipelines.unet().config)
    network = build(Component(kind="UNet2DModel", settings=settings))
    layers = [module for module in network.modules() if isinstance(module, Upsample2D)]
    assert layers
    assert all("forward" in vars(layer) for layer in layers)
