"""PixelCNN: causality, exact probabilities, and that sampling by rows and pixels is the network of
training."""

from __future__ import annotations

import itertools

import pytest
import torch
from model_cases import make
from torch import Tensor
from torch.nn import functional as F

from niwaki.core.contract import DataSpec
from niwaki.models.autoregressive.level_heads import LEVELS
from niwaki.models.autoregressive.pixelcnn import PixelCnn
from niwaki.nn.layers.raster import _MaskedConv

NAMES = ("gated-pixelcnn", "pixelcnn")
GREY = DataSpec.of("image", (1, 4, 6), levels=5, classes=3)
COLOUR = DataSpec.of("image", (3, 5, 4))
SPECS = {"grey": GREY, "colour": COLOUR}


def stirred(name: str, spec: DataSpec, **changes: object) -> PixelCnn:
    """A model whose every weight matters."""
    model = make(name, spec, **changes)
    assert isinstance(model, PixelCnn)
    rng = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn(weight.shape, generator=rng)
    return model


def labels(model: PixelCnn, n: int) -> Tensor | None:
    return torch.arange(n) % model.classes if model.classes else None


def levels_of(model: PixelCnn, n: int) -> Tensor:
    return torch.randint(model.levels, (n, *model.shape), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("reach", [1, 2])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("name", NAMES)
def test_steps_are_the_network_of_training(name: str, spec: DataSpec, reach: int) -> None:
    model = stirred(name, spec, reach=reach, layers=2).eval()
    k = levels_of(model, 3)
    y = labels(model, 3)
    asked = () if y is None else (y,)
    graphs = model.graphs()
    with torch.no_grad():
        whole = model.log_probs(k, y)
        rows = [torch.from_numpy(s.zeros(3)) for s in graphs["row"].state]
        channels, height, width = model.shape
        before, nothing = (
            torch.full((3, channels, width), model.levels),
            torch.full((3, channels), model.levels),
        )
        for i in range(height):
            above, *rows = graphs["row"](before, *asked, *rows)
            places, left = [torch.from_numpy(s.zeros(3)) for s in graphs["pixel"].state], nothing
            for j in range(width):
                hidden, *places = graphs["pixel"](left, above[:, j], *asked, *places)
                here = nothing.clone()
                for c in range(channels):
                    said = graphs["channel"](hidden, here)[:, c]
                    torch.testing.assert_close(said, whole[:, c, :, i, j], atol=1e-4, rtol=1e-4)
                    here[:, c] = k[:, c, i, j]
                left = here
            before = k[:, :, i]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_depends_on_those_before_it_alone(name: str, spec: DataSpec) -> None:
    """By gradients, in training mode, channel by channel."""
    model = stirred(name, spec, layers=2).train()
    channels, height, width = model.shape
    y = labels(model, 1)
    encoded = model.encode(levels_of(model, 1)).requires_grad_()
    out = model.log_probs_of(encoded, y)
    order = torch.arange(height * width).view(height, width)
    for c, i, j in itertools.product(range(channels), range(height), range(width)):
        (grad,) = torch.autograd.grad(out[0, c, 0, i, j], encoded, retain_graph=True, allow_unused=True)
        seen = (grad[0].unflatten(0, (channels, 2)) != 0).any(1)  # (C, H, W)
        before = order < order[i, j]
        here = torch.zeros_like(before)
        here[i, j] = True
        for other in range(channels):
            allowed = before | here if other < c else before
            assert not (seen[other] & ~allowed).any()
            assert other >= c or seen[other, i, j]


def test_gated_stacks_have_no_blind_spot() -> None:
    spec = DataSpec.of("image", (1, 6, 7), levels=5)
    for name, blind in (("gated-pixelcnn", False), ("pixelcnn", True)):
        model = stirred(name, spec, layers=6).eval()
        encoded = model.encode(levels_of(model, 1)).requires_grad_()
        (grad,) = torch.autograd.grad(model.log_probs_of(encoded)[0, 0, :, 2, 2].sum(), encoded)
        upwards_right = grad[0, 0, 1, 4]  # one row up, two columns to the right
        assert (upwards_right == 0) == blind


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_of_all_images_sum_to_one(name: str) -> None:
    model = stirred(name, DataSpec.of("image", (1, 4, 4), levels=2, classes=2), layers=1, reach=3).eval()
    bits = torch.arange(1 << 16)
    images = ((bits[:, None] >> torch.arange(16)) & 1).view(-1, 1, 4, 4)
    x = model.spec.low + (model.spec.high - model.spec.low) * images.float()
    with torch.no_grad():
        total = torch.cat([model.log_prob(part) for part in x.split(8192)]).double().exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("kind", sorted(LEVELS))
def test_distributions_sum_to_one(kind: str, levels: int) -> None:
    distribution = LEVELS[kind](levels, 3)
    parameters = 3.0 * torch.randn(64, distribution.parameters, generator=torch.Generator().manual_seed(0))
    total = distribution(parameters).double().exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(64, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_two_parts_are_a_masked_square_kernel(reach: int) -> None:
    conv = _MaskedConv(2, 3, reach)
    kernel = torch.zeros(3, 2, 2 * reach + 1, 2 * reach + 1)
    kernel[:, :, :reach] = conv.above.weight.data
    kernel[:, :, reach, : reach + 1] = conv.left.weight.data[:, :, 0]
    x = torch.randn(2, 2, 6, 5)
    expected = F.conv2d(x, kernel, conv.above.bias, padding=reach)
    torch.testing.assert_close(conv.see_above(x) + conv.see_left(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_the_probabilities(name: str) -> None:
    """The frequencies of the first two levels, beside their exact probabilities: within 5 standard errors."""
    model = stirred(name, DataSpec.of("image", (1, 4, 4), levels=3)).eval()
    n = 4000
    k = model.level_of(model.sample(n, seed=0))
    with torch.no_grad():
        first = model.log_probs(torch.zeros(1, 1, 4, 4, dtype=torch.long))[0, 0, :, 0, 0].exp()
        for level in range(3):
            given = torch.full((1, 1, 4, 4), level)
            second = model.log_probs(given)[0, 0, :, 0, 1].exp()
            for following in range(3):
                p = (first[level] * second[following]).item()
                seen = ((k[:, 0, 0, 0] == level) & (k[:, 0, 0, 1] == following)).float().mean().item()
                assert abs(seen - p) < 5 * (p * (1 - p) / n) ** 0.5 + 1e-9


def test_cost_is_linear_in_the_pixels() -> None:
    """Each row and each pixel is read once, whatever the height."""
    for height in (4, 8):
        model = stirred("gated-pixelcnn", DataSpec.of("image", (1, height, 5), levels=3)).eval()
        calls = {"read_row": 0, "read_pixel": 0}
        for method in calls:
            whole = getattr(model, method)

            def counted(*inputs: Tensor, _whole=whole, _method=method, _calls=calls):  # type: ignore[no-untyped-def]
                _calls[_method] += 1
                return _whole(*inputs)

            setattr(model, method, counted)
        model.sample(2, seed=0)
        assert calls == {"read_row": height, "read_pixel": height * 5}
