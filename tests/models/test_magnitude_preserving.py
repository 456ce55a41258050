"""A U-Net whose layers keep magnitudes (Karras et al. 2024, "Analyzing and improving the training dynamics of
diffusion models"): unit variance in, unit variance out."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import DIGITS, TALL, batch, context, make
from torch import Tensor, nn
from torch.nn.utils import parametrize

from niwaki.core.contract import CallError, GenerativeModel
from niwaki.data import Split
from niwaki.data.columns import Column
from niwaki.deployment.bake import bake
from niwaki.deployment.export import to_onnx
from niwaki.models.diffusion.magnitude_preserving import MpAttention, MpBlock
from niwaki.nn.layers.magnitude_preserving import MpCat, MpSiLU, MpSum, UnitRows, force_unit_rows, unit_rows
from niwaki.surgery.remove_parametrization import RemoveParametrization, parametrized
from niwaki.training import TrainConfig, fit

NETWORK = {"name": "magnitude-preserving"}


def small(name: str = "edm", spec: Any = DIGITS, **changes: Any) -> GenerativeModel:
    torch.manual_seed(0)
    return make(name, spec, network=NETWORK, **changes)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def size(x: Tensor) -> float:
    return float(x.detach().square().mean())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_sums_and_joins_keep_the_variance(share: float) -> None:
    a, b = noise(8, 64, 16, 16), noise(8, 64, 16, 16, seed=1)
    assert size(MpSum(share)(a, b)) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("channels", [(8, 8), (64, 16), (4, 96)])
def test_both_halves_of_a_join_count_alike(channels: tuple[int, int]) -> None:
    """Whatever their widths: the sum of squares of one is that of the other, and the mean is 1."""
    first, second = channels
    joined = MpCat(first, second)(noise(64, first, 8, 8), noise(64, second, 8, 8, seed=1))
    halves = [float(half.square().sum()) for half in (joined[:, :first], joined[:, first:])]
    assert halves[0] == pytest.approx(halves[1], rel=0.03)
    assert size(joined) == pytest.approx(1.0, abs=0.03)


def test_the_activation_keeps_the_variance() -> None:
    assert size(MpSiLU()(noise(1_000_000))) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_a_layer_of_unit_rows_keeps_the_variance_and_its_gradient_is_at_right_angles(gain: float) -> None:
    layer = unit_rows(nn.Conv2d(32, 64, 3, padding=1, bias=False), gain)
    assert size(layer(noise(16, 32, 16, 16))[:, :, 1:-1, 1:-1]) == pytest.approx(gain**2, rel=0.05)
    torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), torch.full((64,), gain))
    layer(noise(2, 32, 8, 8)).cos().sum().backward()
    v = layer.parametrizations.weight.original
    assert v.grad.norm() > 0
    along = (v.grad * v).flatten(1).sum(1)
    torch.testing.assert_close(along, torch.zeros(64), atol=1e-3 * float(v.grad.norm()), rtol=0)


@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("heads", [0, 4])
@pytest.mark.parametrize("widths", [(64, 64), (96, 64)])
def test_a_block_keeps_the_variance(down: bool, heads: int, widths: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = MpBlock(*widths, 32, down=down, heads=heads, dropout=0.0, residual=0.3)
    made = size(block(noise(16, widths[0], 12, 12), noise(16, 32)))
    # The attention of unlike places is nearly a mean of them, so that what is left is the skip.
    least = 0.7**2 / (0.7**2 + 0.3**2) if heads else 1.0
    assert 0.88 * least < made < 1.12


def test_attention_keeps_the_variance_of_what_is_alike_and_does_not_see_scale() -> None:
    """Of places that are all alike the mean is each of them; of others it is smaller, as an average is."""
    torch.manual_seed(0)
    layer = MpAttention(64, 4, 0.3)
    alike = noise(8, 64, 1, 1).expand(8, 64, 6, 6)
    assert size(layer(alike)) == pytest.approx(1.0, abs=0.1)
    x = noise(2, 64, 4, 4)
    attended = [layer(scale * x) - layer.sum.first * scale * x for scale in (1.0, 7.0)]
    torch.testing.assert_close(attended[1], attended[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching"])
def test_every_feature_map_of_the_network_has_variance_near_1(name: str) -> None:
    model = small(name, widths=(32, 64), attention=(4,))
    seen: dict[str, float] = {}
    for path, module in model.denoiser.named_modules():
        if isinstance(module, MpBlock):
            module.register_forward_hook(lambda m, i, out, path=path: seen.update({path: size(out)}))
    with torch.no_grad():
        model.denoiser(noise(16, 1, 8, 8), torch.linspace(0, 1, 16), torch.arange(16) % 10)
    assert len(seen) == 10
    assert all(0.6 < v < 1.3 for v in seen.values()), seen


def stored(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """(v, weight) of every layer of unit rows."""
    layers = [m for m in model.modules() if parametrize.is_parametrized(m)]
    return [(m.parametrizations.weight.original, m.weight) for m in layers]  # type: ignore[union-attr]


def test_weights_have_unit_rows_after_every_step() -> None:
    model = small()
    before = copy.deepcopy(model.state_dict())
    data = {k: Column(model.spec[k], v) for k, v in batch(model.spec, n=32).items()}
    sizes: list[float] = []
    loss = model.loss

    def watched(*args: Any) -> Any:
        sizes.extend(
            float(v.detach().square().flatten(1).mean(1).sub(1).abs().max()) for v, _ in stored(model)
        )
        return loss(*args)

    model.loss = watched  # type: ignore[method-assign]
    fit(model, Split(data), TrainConfig(steps=4, batch=8, lr=1e-2), seed=0)
    assert len(sizes) == 4 * len(stored(model))
    assert max(sizes) < 1e-4
    changed = [n for n, v in model.state_dict().items() if not torch.equal(v, before[n])]
    assert any("conv1" in n for n in changed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            assert getattr(module, "bias", None) is None
        assert not isinstance(module, nn.GroupNorm)
        if parametrize.is_parametrized(module):
            made: UnitRows = module.parametrizations.weight[0]  # type: ignore[union-attr, index, assignment]
            length = module.weight.flatten(1).norm(dim=1)  # type: ignore[union-attr, operator]
            torch.testing.assert_close(length, torch.ones_like(length) * torch.as_tensor(made.gain).abs())


def test_forcing_changes_no_output() -> None:
    model = small()
    with torch.no_grad():
        for v, _ in stored(model):
            v.mul_(torch.rand(v.shape[0]).reshape(-1, *(1,) * (v.ndim - 1)) + 0.5)
    was = model.sample(2, seed=0)
    force_unit_rows(model)
    np.testing.assert_allclose(model.sample(2, seed=0), was, atol=1e-5)


def test_the_norms_of_weights_are_no_operators_on_a_device() -> None:
    """The exported graph is that of the same network with plain weights, operator by operator."""
    model = small().eval()
    plain = copy.deepcopy(model)
    for path in [n for n, m in plain.named_modules() if parametrized(m)]:
        RemoveParametrization(path).apply(plain)
    found = []
    for one in (model, plain):
        graph = one.graphs()["denoiser"]
        found.append(Counter(n.op_type for n in to_onnx("denoiser", graph, bake(graph.module)).graph.node))
    assert found[0] == found[1]
    assert not {"ReduceL2", "LpNormalization"} & set(found[0])


def test_options_of_denoisers_go_with_it() -> None:
    for more in (
        {"self_conditioning": True},
        {"patch": 2, "attention": ()},
        {"weak": {"every": 2, "widths": (8, 8)}},
    ):
        model = small("ddpm", TALL, **more)
        assert model.sample(2, seed=0).shape == (2, 2, 16, 8)
        assert all(v.isfinite() for v in model.loss("denoiser", batch(TALL), context()).values())
    with pytest.raises(CallError, match="residual"):
        make("edm", DIGITS, network={**NETWORK, "residual": 1.0})
