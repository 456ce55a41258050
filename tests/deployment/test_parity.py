"""After a whole sampling run the device has the samples of the workshop, and a difference is found where it
arises."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from niwaki import models
from niwaki.core.contract import DataSpec
from niwaki.deployment import export_graphs, package, parity, record_calls
from niwaki.deployment.parity import worst_graphs


@pytest.mark.parametrize("name", ["conv", "transposed", "denoiser", "flow", "cache"])
def test_samples_agree_to_1e_4_after_the_whole_run(name: str, exported: Callable, tmp_path: Path) -> None:
    model, paths = exported(name)
    report = parity(model, package(model, paths, tmp_path / "a.niwaki"), n=6, seed=11)
    assert set(report["engines"]) == {"openvino", "onnxruntime"}
    assert report["passed"], report
    assert report["exact"] <= 1e-4
    assert worst_graphs(report).keys() == paths.keys()


def test_every_step_of_the_solver_is_compared(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("denoiser")
    report = parity(model, package(model, paths, tmp_path / "a.niwaki"), n=2, steps=4)
    for by in report["engines"].values():
        assert len(by["exact"]["steps"]["denoiser"]) == 4  # guidance is batched: one call a step


def test_recording_changes_no_sample(build: Callable) -> None:
    model = build("cache")
    samples, calls = record_calls(model, 3, seed=5)
    np.testing.assert_array_equal(samples, model.sample(3, seed=5).numpy())
    recorded = calls["decode"].calls
    assert [int(inputs[1][0]) for inputs, _ in recorded] == list(range(6))
    for (_, outputs), (inputs, _) in pairwise(recorded):
        np.testing.assert_array_equal(outputs[1], inputs[2])  # the state is handed on


def test_other_weights_are_noticed(build: Callable, tmp_path: Path) -> None:
    model = build("conv")
    bundle = package(model, export_graphs(model, tmp_path / "g"), tmp_path / "a.niwaki")
    with torch.no_grad():
        model.net.body[-2].bias += 0.01
    report = parity(model, bundle, n=2)
    assert not report["passed"]
    assert report["exact"] > 1e-3
    assert min(worst_graphs(report).values()) > 1e-3


def test_the_trained_mode_of_the_model_is_kept(build: Callable) -> None:
    model = build("conv").train()
    record_calls(model, 1)
    assert model.training


@pytest.mark.parametrize("name", ["transformer", "state-space"])
def test_of_tokens_the_calls_are_compared(name: str, tmp_path: Path) -> None:
    """A recurrent state lets rounding grow until a token is drawn otherwise: no defect of a bundle."""
    torch.manual_seed(0)
    spec = DataSpec.of("text", (16,), levels=12)
    model = models.build(name, {"width": 16, "depth": 2, "heads": 2}, spec).eval()
    bundle = package(model, export_graphs(model, tmp_path / "g"), tmp_path / "a.niwaki")
    report = parity(model, bundle, n=2)
    calls = max(by["exact"]["graphs"]["decode"] for by in report["engines"].values())
    assert report["exact"] <= calls < report["tolerance"]
    assert report["passed"]
    with torch.no_grad():
        model.head.weight.mul_(2.0)
    assert not parity(model, bundle, n=2)["passed"]
