"""Rounding for what layers are given: against exhaustive search, a loop over the paper's algorithm, and never
worse than the nearest levels."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compression import small_models
from torch import Tensor, nn

from niwaki.compression import QuantizeConfig
from niwaki.compression.quantization.adaptive import adapt_layers, moments, round_columns
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.quantization.convert import quantize_model
from niwaki.compression.quantization.design import from_rows, input_rows, weight_rows
from niwaki.compression.quantization.norms import fold_norms
from niwaki.core.contract import CallError
from niwaki.deployment import export_graphs
from niwaki.deployment.bake import bake
from niwaki.deployment.qdq import check_quantized
from niwaki.surgery.quantized import LayerBits, Quantizer, fit_weights, quantize_layer, quantized_layers
from niwaki.surgery.sparse import Sparse

LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(12, 5), (6, 12)),
    "linear of tokens": (lambda: nn.Linear(12, 5), (2, 7, 12)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (3, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), dilation=(2, 1)), (3, 4, 7, 6)),
    "reflecting": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (3, 4, 5, 6)),
    "same": (lambda: nn.Conv2d(4, 6, 3, padding="same", groups=2), (3, 4, 5, 6)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6, bias=False), (3, 6, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 3, 4, 3)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 4, 2, 1), (3, 4, 5)),
    "transposed2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2), (3, 4, 5, 4)),
}


def made(name: str) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    return make(), torch.randn(shape)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_its_rows_times_its_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = made(name)
    rows = weight_rows(layer, layer.weight)
    torch.testing.assert_close(from_rows(layer, rows, layer.weight), layer.weight, rtol=0, atol=0)
    monkeypatch.setattr("niwaki.compression.quantization.design._VALUES", 1)  # a sample at a time
    columns = torch.cat([c for (c,) in input_rows(layer, x)], 1)
    out = (columns @ rows.mT).transpose(0, 1).flatten(1)  # (places, outputs)
    out = out if layer.bias is None else out + layer.bias
    wanted = layer(x)
    channels = wanted if isinstance(layer, nn.Linear) else wanted.movedim(1, -1)
    torch.testing.assert_close(out, channels.flatten(0, -2), rtol=1e-4, atol=1e-5)


def correlated(n: int, places: int = 200) -> Tensor:
    """Inputs that go together, as a window of an enlarged image does."""
    torch.manual_seed(n)
    return torch.randn(places, 3) @ torch.randn(3, n) + 0.3 * torch.randn(places, n)


def slowly(w: Tensor, hessian: Tensor, scale: float, top: int) -> Tensor:
    """GPTQ as first derived (optimal brain surgeon): after each column the inverse of what is left of H."""
    n = len(w)
    w, made = w.clone(), torch.zeros(n, dtype=w.dtype)
    left = torch.argsort(hessian.diagonal(), descending=True)
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(n)
    while len(left):
        inverse = torch.linalg.inv(hessian[left][:, left])
        j = left[0]
        made[j] = (w[j] / scale).round().clamp(-top, top) * scale
        w[left] -= (w[j] - made[j]) / inverse[0, 0] * inverse[0]
        left = left[1:]
    return made


@pytest.mark.parametrize("n", [9, 150])
def test_columns_are_rounded_as_the_derivation_says_whatever_the_blocks(n: int) -> None:
    x = correlated(n).double()
    hessian = x.mT @ x / len(x)
    w = torch.randn(2, 3, n, dtype=torch.float64)
    scale, zero = torch.full_like(w, 0.3), torch.zeros_like(w)
    found = round_columns(w, hessian.expand(2, n, n), scale, zero, -7, 7)
    for group, row in itertools.product(range(2), range(3)):
        torch.testing.assert_close(found[group, row], slowly(w[group, row], hessian, 0.3, 7))


def test_the_error_comes_near_the_best_of_all_roundings() -> None:
    """All 2^9 ways up or down, on inputs that go together; on independent ones nearest is the best."""
    worse, gains = [], []
    for seed in range(20):
        x = correlated(9).double()
        hessian = x.mT @ x / len(x)
        w = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        ways = (w / 0.4).floor() + torch.tensor(list(itertools.product((0.0, 1.0), repeat=9)))

        def error(q: Tensor, w: Tensor = w, hessian: Tensor = hessian) -> Tensor:
            return (((q - w) @ hessian) * (q - w)).sum(-1)

        best = float(error(ways.double() * 0.4).min())
        scale = torch.full((1, 1, 9), 0.4, dtype=torch.float64)
        found = round_columns(w[None, None], hessian[None], scale, torch.zeros_like(scale), -99, 99)
        nearest = (w / 0.4).round() * 0.4
        worse.append(float(error(found)) / best)
        gains.append(float(error(found) / error(nearest)))
        alone = round_columns(w[None, None], torch.eye(9)[None].double(), scale, 0 * scale, -99, 99)
        torch.testing.assert_close(alone[0, 0], nearest)
    assert sorted(worse)[10] < 2.0
    assert sum(gains) / len(gains) < 0.5


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_no_output_errs_more_than_with_nearest_levels(name: str, granularity: Any, symmetric: bool) -> None:
    from niwaki.compression.quantization.adaptive import _adapt

    layer, x = made(name)
    rounded = x + 0.05 * torch.randn_like(x)
    with torch.no_grad():
        wanted = layer(x) if layer.bias is None else copy.deepcopy(layer)(x)
        quantize_layer(layer, LayerBits(3, granularity, 8, symmetric))
        fit_weights(layer)
        first, float_weight = layer(rounded), layer._parameters["weight"].clone()
        told = _adapt(layer, x, rounded, None)
        second = layer(rounded)
        # Weights are levels already: rounding them changes nothing.
        torch.testing.assert_close(layer._parameters["weight"], layer.weight, rtol=1e-5, atol=1e-7)
    axes = [a for a in range(wanted.ndim) if a != (wanted.ndim - 1 if isinstance(layer, nn.Linear) else 1)]
    errors = [(one - wanted).square().mean(axes) for one in (first, second)]
    assert (errors[1] <= errors[0] * (1 + 1e-4)).all()
    assert not torch.equal(layer._parameters["weight"], float_weight)
    plain = (
        wanted
        if layer.bias is None
        else wanted - layer.bias.detach().reshape([-1 if a not in axes else 1 for a in range(wanted.ndim)])
    )
    power = plain.square().mean(axes).sum()
    assert told.nearest == pytest.approx(float(errors[0].sum() / power), rel=1e-3)
    assert told.now == pytest.approx(float(errors[1].sum() / power), rel=1e-3)


def test_moments_are_means_over_all_places() -> None:
    layer, x = made("conv2d")
    other = x + 1.0
    hessian, cross, power, places = moments(layer, x, other)
    ((a, b),) = input_rows(layer, x, other)
    assert places == a.shape[1] == 3 * 3 * 5
    for found, one, two in ((hessian, b, b), (cross, b, a - b), (power, a, a)):
        torch.testing.assert_close(found, (one.mT @ two).double() / places, rtol=1e-5, atol=1e-6)


def lively(name: str) -> Any:
    model = {
        "gan": small_models.gan,
        "transposed": lambda: small_models.gan("transposed", width=32),
        "diffusion": small_models.ddpm,
        "flow": small_models.flow,
        "recurrent": small_models.recurrent,
    }[name]()
    return model.eval()


def config(**settings: Any) -> QuantizeConfig:
    return QuantizeConfig(**{"backend": "niwaki", "calibration": 64, **settings})


@pytest.mark.parametrize(
    "name", ["transposed", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gan", "flow", "diffusion"))]
)
def test_models_err_less_and_the_engines_compute_what_torch_does(name: str, tmp_path: Path) -> None:
    model, errors = lively(name), []
    wanted = model.sample(128, seed=1).float()
    for method in ("nearest", "adaptive"):
        found = quantize_model(model, config(bits=3, method=method, correct=method == "adaptive"))
        errors.append(float((found.model.sample(128, seed=1).float() - wanted).square().mean()))
    assert errors[1] < errors[0]
    assert "adapted to their inputs" in found.notes[-1]
    path = export_graphs(found.model, tmp_path)
    for graph, file in path.items():
        view = found.model.graphs()[graph]
        assert max(check_quantized(graph, view, bake(view.module), file).worst.values()) < 0.01


def test_layers_called_again_and_again_keep_the_nearest_levels() -> None:
    model = lively("recurrent")
    nearest, adaptive = (
        quantize_model(model, config(method=m, bits=4)).model for m in ("nearest", "adaptive")
    )
    for one, two in zip(quantized_layers(nearest).values(), quantized_layers(adaptive).values(), strict=True):
        torch.testing.assert_close(one.weight, two.weight)


def test_what_was_pruned_stays_zero() -> None:
    model = lively("gan")
    weight = model.generator.conv1.weight
    with torch.no_grad():
        weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5] = 0.0
    zeros = weight == 0
    model.surgery = (Sparse(("generator.conv1.weight",)),)
    found = quantize_model(model, config(method="adaptive", bits=4)).model
    assert (found.generator.conv1.weight[zeros] == 0).all()
    model.surgery = ()
    found = quantize_model(model, config(method="adaptive", bits=4)).model
    assert (found.generator.conv1.weight[zeros] != 0).any()  # nobody said that the zeros were meant


def test_each_layer_is_adapted_to_what_the_rounded_ones_before_it_make() -> None:
    model = lively("gan")
    whole, items = copy.deepcopy(model), calibration_inputs(model, 64)
    fold_norms(whole)
    made = quantize_model(model, config(bits=3)).model
    found = adapt_layers(made, whole, items)
    assert list(found) == [f"generator.{n}" for n in ("start", "conv1", "conv2", "last")]
    assert all(one.now < one.nearest for one in found.values())
    for layer in quantized_layers(made).values():
        quantizer = layer.weight_quantizer
        assert isinstance(quantizer, Quantizer)
        assert float(quantizer.integers(layer._parameters["weight"]).abs().max()) <= quantizer.high


def test_samples_are_said_of_monte_carlo_alone() -> None:
    with pytest.raises((CallError, ValueError), match="'monte_carlo'"):
        config(method="adaptive", samples=2.0)
