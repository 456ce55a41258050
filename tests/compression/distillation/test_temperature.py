"""The temperature that gives a student's samples their distances back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from compression import small_models
from torch import nn

import niwaki
import niwaki_runtime
from niwaki.compression import CompressConfig, SamplingConfig, compress
from niwaki.compression.distillation.temperature import matched_temperature, mean_distance, spread_option
from niwaki.core.contract import CallError, GenerativeModel, NiwakiError


def scaled(factor: float) -> GenerativeModel:
    """x = factor · z, of one channel."""
    layer = nn.Conv1d(1, 1, 1, bias=False)
    nn.init.constant_(layer.weight, factor)
    return niwaki.adapt(layer, latent=(1, 6), shape=(1, 6), low=-8.0, high=8.0)


@pytest.mark.parametrize("factor", [0.8, 0.97, 1.1, 1.6])
def test_closed_form_of_a_linear_generator(factor: float) -> None:
    found, share = matched_temperature(scaled(factor), scaled(1.0), n=256)
    assert share == pytest.approx(factor, rel=1e-5)
    assert found == pytest.approx(1 / factor, abs=2e-3)


def test_the_mean_of_what_is_not_told_apart() -> None:
    """t = z₁ + z₂ and s = E[t | z₁] = z₁: Var t = Var s + E(t − s)², so √2 of the noise restores it."""

    class Two(nn.Module):
        def __init__(self, both: bool) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, float(both)]))

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return (z * self.weight).sum(1, keepdim=True)

    teacher, student = (niwaki.adapt(Two(b), latent=(2,), shape=(1,), low=-9.0, high=9.0) for b in (1, 0))
    found, _ = matched_temperature(student, teacher, n=1024)
    assert found == pytest.approx(2**0.5, rel=0.05)


def test_distances_are_taken_where_somebody_looks() -> None:
    """Seen squared, a sample scaled by 0.8 lies at 0.64 of the distances."""
    _, share = matched_temperature(
        scaled(0.8), scaled(1.0), extractor=lambda x: x.reshape(len(x), -1) ** 2, n=256
    )
    assert share == pytest.approx(0.64, rel=1e-5)


def test_distances_within_groups() -> None:
    x = np.array([[0.0], [1.0], [100.0], [103.0], [500.0]], np.float32)
    assert mean_distance(x, np.array([0, 0, 1, 1, 2])) == pytest.approx(2.0)
    assert mean_distance(x[:3], np.zeros(3)) == pytest.approx((1 + 100 + 99) / 3)
    with pytest.raises(CallError, match="no two of them"):
        mean_distance(x, np.arange(5))


def test_of_a_style_based_generator_it_is_the_truncation() -> None:
    """Whose noise has no length that would matter; at the teacher's ψ it is the teacher."""
    models = []
    for psi in (0.6, 1.0):
        torch.manual_seed(0)
        settings = {"latent": 6, "style": 8, "width": 8, "max_width": 16, "sampling": {"truncation": psi}}
        models.append(niwaki.models.build("stylegan2", settings, small_models.IMAGE).eval())
    student, teacher = models
    assert spread_option(student) == "truncation"
    found, share = matched_temperature(student, teacher, n=256)
    assert share < 0.95
    assert found == pytest.approx(1.0, abs=2e-3)


def test_refusals() -> None:
    with pytest.raises(CallError, match="has no temperature to match"):
        matched_temperature(small_models.ddpm(), small_models.ddpm())
    with pytest.raises(NiwakiError, match=r"no temperature between 0\.5 and 2"):
        matched_temperature(scaled(0.1), scaled(1.0), n=64)
    with pytest.raises(CallError, match="'evaluations', 'solver', 'spacing' or 'temperature'"):
        SamplingConfig()
    for wrong in (0.0, -1.0, "warm"):
        with pytest.raises(CallError, match="temperature"):
            SamplingConfig(temperature=wrong)


def test_it_is_saved_with_the_model_and_reaches_the_device(tmp_path: Path) -> None:
    """Through the step, in which the device's noise is scaled and the graph stays what it was."""
    model = niwaki.models.build(
        "dcgan", {"latent": 8, "width": 8, "max_width": 16, "norm": "none"}, small_models.IMAGE
    ).eval()
    plan = CompressConfig.model_validate(
        {"steps": [{"kind": "sampling", "temperature": 1.25}], "measure": False}
    )
    made = compress(model, None, plan, workdir=tmp_path, seed=0)
    assert made.model.sampler().temperature == 1.25
    wanted = model.sample(4, seed=1, temperature=1.25)
    assert torch.equal(made.model.sample(4, seed=1), wanted)
    exact = niwaki_runtime.load(made.bundle, precision="exact")
    np.testing.assert_allclose(exact.sample(4, seed=1), wanted, atol=1e-4)
    (record,) = compress(made.model, None, plan, workdir=tmp_path / "again", seed=0).records
    assert record.idle
    assert "nothing to do: the step 'sampling' changed nothing" in record.notes[0]


def test_a_plan_finds_it(tmp_path: Path) -> None:
    """A network that is as it was needs none, and says so."""
    plan = CompressConfig.model_validate(
        {"steps": [{"kind": "sampling", "temperature": "match"}], "measure": False}
    )
    (record,) = compress(scaled(1.0), None, plan, workdir=tmp_path, seed=0).records
    assert "nothing to do: the step 'sampling' changed nothing: temperature 1" in record.notes[0]
