"""Counts of hits as weights: unbiased, within one of the expectation, all samples spent, exact in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from compression import small_models
from pydantic import ValidationError
from torch import Tensor, nn

from niwaki.compression import QuantizeConfig
from niwaki.compression.quantization.convert import quantize_model
from niwaki.compression.quantization.monte_carlo import hit_counts, sample_weights
from niwaki.core.contract import CallError, NiwakiError
from niwaki.deployment import export_graphs
from niwaki.models import load_model
from niwaki.models.io import save_model
from niwaki.surgery.quantized import LayerBits, Quantizer, quantize_layer, quantized_layers


def slow_counts(weights: np.ndarray, samples: int, offset: float) -> np.ndarray:
    """Every sample looked up by itself."""
    ends = np.cumsum(np.abs(weights)) / np.abs(weights).sum()
    counts = np.zeros(len(weights), int)
    for k in range(samples):
        u = (k + offset) / samples
        counts[next(i for i, end in enumerate(ends) if u < end)] += 1
    return counts * np.sign(weights).astype(int)


@pytest.mark.parametrize("samples", [1, 7, 40, 333])
def test_counts_are_those_of_samples_looked_up_one_by_one(samples: int) -> None:
    rng = np.random.default_rng(samples)
    weights = rng.standard_normal(40)
    weights[[3, 17, 39]] = 0.0
    for offset in (0.0, 0.31, 0.93):
        made = hit_counts(weights, samples, offset)
        np.testing.assert_array_equal(made, slow_counts(weights, samples, offset))
        assert np.abs(made).sum() == samples
        expected = samples * np.abs(weights) / np.abs(weights).sum()
        assert np.abs(np.abs(made) - expected).max() < 1  # stratified: the floor or the ceiling
        assert not made[weights == 0].any()


def test_the_mean_over_offsets_is_the_weight_itself() -> None:
    weights = np.random.default_rng(0).standard_normal(60)
    samples, offsets = 45, (np.arange(20_000) + 0.5) / 20_000
    mean = np.mean([hit_counts(weights, samples, float(o)) for o in offsets], 0)
    np.testing.assert_allclose(mean * np.abs(weights).sum() / samples, weights, atol=1e-3)


def test_layers_are_unbiased_over_seeds() -> None:
    torch.manual_seed(0)
    weight, total, runs = torch.randn(4, 30), torch.zeros(4, 30), 2000
    for seed in range(runs):
        layer = nn.Linear(30, 4)
        layer.weight.data.copy_(weight)
        made = quantize_layer(layer, LayerBits(8))
        sample_weights(made, 1.0, np.random.default_rng(seed))
        total += made.weight.detach()
    step = weight.abs().mean(1, keepdim=True)  # Σ|w|/K with K = n: a count errs by less than one
    assert float(((total / runs - weight) / step).abs().max()) < 5 * 0.5 / runs**0.5


def counts(layer: Any) -> Tensor:
    q = layer.weight_quantizer
    return q.rows(layer._parameters["weight"].detach()) / q.scale.reshape(-1, 1)


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
@pytest.mark.parametrize("make", [lambda: nn.Linear(32, 6), lambda: nn.ConvTranspose2d(8, 6, 4)])
def test_weights_are_whole_counts_times_the_l1_norm_by_samples(make: Any, granularity: Any) -> None:
    torch.manual_seed(1)
    plain = make()
    weight = plain.weight.detach().clone()
    layer = quantize_layer(plain, LayerBits(8, granularity, group=16))
    told = sample_weights(layer, 2.0, np.random.default_rng(3))
    q = layer.weight_quantizer
    assert isinstance(q, Quantizer)
    found, rows = counts(layer), q.rows(weight)
    torch.testing.assert_close(found, found.round(), atol=1e-4, rtol=0)
    assert found.round().abs().sum(1).tolist() == [2.0 * rows.shape[1]] * len(rows)
    torch.testing.assert_close(
        q.scale.reshape(-1), rows.abs().sum(1) / (2 * rows.shape[1]), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(
        layer.weight, layer._parameters["weight"], rtol=1e-5, atol=1e-7
    )  # rounding changes nothing more
    assert torch.equal(
        q.integers(layer._parameters["weight"]).reshape(-1).abs().max(),
        found.round().abs().max().to(torch.int8),
    )
    assert told.zeros == int((found.round() == 0).sum())
    assert told.bits == int(found.round().abs().max()).bit_length() + 1
    assert not told.held


def test_counts_never_leave_the_grid_and_pruned_weights_stay_pruned() -> None:
    layer = nn.Linear(50, 2)
    with torch.no_grad():
        layer.weight.normal_()
        layer.weight[0, 0], layer.weight[0, 1:9], layer.weight[1] = 100.0, 0.0, 0.0
    made = quantize_layer(layer, LayerBits(4))
    told = sample_weights(made, 64.0, np.random.default_rng(0))
    found = counts(made).round()
    assert told.held
    assert told.samples[0] < 64 * 50
    assert 6 <= int(found[0, 0]) == int(found.abs().max()) <= 7
    assert not found[0, 1:9].any()
    assert not found[1].any()
    assert bool(torch.isfinite(made.weight).all())


def test_more_samples_err_less_and_leave_fewer_zeros() -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 64)
    errors, zeros = [], []
    for samples in (0.25, 1.0, 4.0, 16.0):
        layer = nn.Linear(64, 16)
        layer.weight.data.copy_(weight)
        made = quantize_layer(layer, LayerBits(8))
        zeros.append(sample_weights(made, samples, np.random.default_rng(0)).zeros)
        errors.append(float((made.weight.detach() - weight).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert zeros == sorted(zeros, reverse=True)
    assert zeros[0] >= 0.75 * weight.numel()  # at most one weight in four can be hit


def config(**settings: Any) -> QuantizeConfig:
    return QuantizeConfig(**{"calibration": 16, "method": "monte_carlo", **settings})


def test_a_model_is_sampled_alike_every_time_and_its_file_holds_the_counts(tmp_path: Path) -> None:
    model = small_models.gan().eval()
    made, again, other = (quantize_model(model, config(samples=4.0, seed=s)) for s in (0, 0, 1))
    assert torch.equal(made.model.sample(4, seed=1), again.model.sample(4, seed=1))
    assert not torch.equal(made.model.sample(4, seed=1), other.model.sample(4, seed=1))
    layers = quantized_layers(made.model).values()
    zeros = sum(int((m.weight == 0).sum()) for m in layers) / sum(m.weight.numel() for m in layers)
    assert any(note.startswith(f"weights sampled: {zeros:.0%} are zero") for note in made.notes)
    tables = [m.weight_quantizer.integers(m._parameters["weight"]) for m in layers]
    stored = onnx.load(export_graphs(made.model, tmp_path)["generator"]).graph.initializer
    found = [onnx.numpy_helper.to_array(t) for t in stored if t.data_type == onnx.TensorProto.INT8]
    wanted = sorted(t.numpy().tobytes() for t in tables)
    assert sorted(t.tobytes() for t in found if t.ndim > 1) == wanted
    save_model(made.model, tmp_path / "model")
    assert torch.equal(load_model(tmp_path / "model").sample(4, seed=1), made.model.sample(4, seed=1))


def test_what_cannot_be_sampled_is_refused() -> None:
    with pytest.raises((CallError, ValidationError), match="monte_carlo"):
        QuantizeConfig(samples=2.0)
    with pytest.raises((CallError, ValidationError), match="symmetric"):
        QuantizeConfig(method="monte_carlo", mode="weights", symmetric=False)
    layer = quantize_layer(nn.Linear(8, 8), LayerBits(8, symmetric=False))
    with pytest.raises(NiwakiError, match="symmetric"):
        sample_weights(layer, 1.0, np.random.default_rng(0))
