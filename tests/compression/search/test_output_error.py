"""Errors of a network's outputs: a closed form, and the order of coarser and coarser rounding."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from compression import small_models

from niwaki.compression.quantization.adaptive import as_batches
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.search.output_error import OutputError
from niwaki.compression.sensitivity.config import SensitivityConfig
from niwaki.compression.sensitivity.trials import trials


def test_outputs_that_are_scaled_about_their_mean_are_off_by_a_known_share() -> None:
    model = small_models.ddpm().eval()
    items = calibration_inputs(model, 16)
    error = OutputError(model, items)
    assert error.of(copy.deepcopy(model)) == 0.0
    changed = copy.deepcopy(model)
    ((name, given),) = as_batches(model, items, 64).items()
    with torch.no_grad():
        y = model.shipped_graphs()[name](*given)

    def off(module: object, inputs: object, out: torch.Tensor) -> torch.Tensor:
        return out + 0.1 * (out - y.mean(0))

    changed.shipped_graphs()[name].module.register_forward_hook(off)
    assert error.of(changed) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("name", ["ddpm", "gan"])
def test_coarser_weights_make_larger_errors(name: str) -> None:
    torch.manual_seed(0)
    model = getattr(small_models, name)().eval()
    error = OutputError(model, calibration_inputs(model, 32))
    by_layer: dict[str, list[float]] = {}
    for trial in trials(model, SensitivityConfig(ratios=(), bits=(8, 4, 2), activations=False), seed=0):
        by_layer.setdefault(trial.layer, []).append(error.of(trial.make()))
    for fine, medium, coarse in by_layer.values():
        assert fine <= medium <= coarse
    assert max(found[-1] for found in by_layer.values()) > 0


def test_without_inputs_there_is_no_error_to_tell() -> None:
    model = small_models.ddpm().eval()
    assert math.isnan(OutputError(model, {}).of(model))


def test_networks_that_are_called_step_by_step_have_an_error() -> None:
    model = small_models.recurrent().eval()
    error = OutputError(model, calibration_inputs(model, 16))
    assert error.of(copy.deepcopy(model)) == 0.0
    changed = copy.deepcopy(model)
    torch.nn.init.zeros_(changed.cell.head.weight)
    assert 0.0 < error.of(changed) < math.inf
