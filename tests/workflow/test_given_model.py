"""A generator written outside the package goes the whole way: adapted, evaluated, pruned, quantized, run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import niwaki
import niwaki_runtime
from niwaki import data
from niwaki.core.contract import CallError
from niwaki.recipe import recipe_from
from niwaki.workflow.run_directory import RunDirectory


def outside_dcgan(width: int = 32) -> nn.Module:
    """Radford's stack of transposed convolutions, as found in many repositories: z (n, 100, 1, 1) → 8×8."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.ConvTranspose2d(100, 2 * width, 4, 1, 0, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(True),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(True),
        nn.Conv2d(width, 1, 3, padding=1),
        nn.Tanh(),
    )
    with torch.no_grad():  # BatchNorm sees some noise, as after a training
        for _ in range(20):
            net(torch.randn(64, 100, 1, 1))
    return net.eval()


PLAN = [
    {"kind": "prune", "ratio": 0.5, "importance": "activation"},
    {"kind": "finetune", "steps": 40, "batch": 32},
    {"kind": "quantize", "calibration": 64},
]


@pytest.mark.slow
def test_an_outside_dcgan_is_compressed_and_judged(tmp_path: Path) -> None:
    digits = data.load(data.DataConfig(source="digits"))
    model = niwaki.adapt(outside_dcgan(), latent=(100, 1, 1), spec=digits.spec)
    settings = {"data": digits, "out": tmp_path / "small", "plan": PLAN, "n": 200, "features": ("random",)}
    found = niwaki.compress(model, ["export.memory=false"], rounds=2, **settings)
    before, after = found["measured"]["before"], found["measured"]["after"]
    assert after["bytes"] < 0.3 * before["bytes"]
    quantized = found["steps"][-1]["quantized"]
    assert quantized, "no operator was quantized"
    for axis in ("fidelity", "diversity"):
        assert found["verdict"][axis]["outcome"] in ("no loss", "loss", "inconclusive")
        low, high = found["verdict"][axis]["interval"]
        assert low <= found["verdict"][axis]["delta"] <= high
    # It ends as a run does: with records, a table, a verdict in words, and a page.
    for name in ("evaluation.json", "compression.json", "export.json", "verdict.json", "report.html"):
        assert (tmp_path / "small" / name).is_file(), name
    assert found["report"] == tmp_path / "small" / "report.html"
    assert "beyond" in found["verdict"]["fidelity"]["text"] or found["verdict"]["fidelity"]["text"]
    again = niwaki.compress(model, ["export.memory=false"], rounds=2, **settings)
    assert again["stages"] == found["stages"], "a second call finds everything done"
    # The bundle that was judged is the bundle that is there, and it samples what the pruned model does.
    bundle = niwaki_runtime.load(found["bundle"])
    assert bundle.manifest.verdict["diversity"]["outcome"] == found["verdict"]["diversity"]["outcome"]
    made = bundle.sample(64, seed=5)
    assert made.shape == (64, 1, 8, 8)
    assert np.abs(made).max() <= 1.0
    own = model.sample(64, seed=5).numpy()
    alike = np.corrcoef(made.ravel(), own.ravel())[0, 1]
    other = np.corrcoef(made.ravel(), model.sample(64, seed=6).numpy().ravel())[0, 1]
    assert alike > other + 0.3, "the same seed must make nearly the same sample"


def test_an_outside_model_needs_data_of_its_shape(tmp_path: Path) -> None:
    model = niwaki.adapt(outside_dcgan(8), latent=(100, 1, 1))
    with pytest.raises(CallError, match="name the data"):
        niwaki.compress(model)
    with pytest.raises(CallError, match="name the data"):
        niwaki.evaluate(model)
    large = niwaki.adapt(nn.Sequential(outside_dcgan(8), nn.Upsample(scale_factor=2)), latent=(100, 1, 1))
    with pytest.raises(CallError, match=r"\(1, 16, 16\).*\(1, 8, 8\)"):
        niwaki.evaluate(large, data="digits")


def test_evaluate_takes_a_model_and_finds_what_it_does_in_a_run(tmp_path: Path) -> None:
    model = niwaki.adapt(outside_dcgan(8), latent=(100, 1, 1))
    asked = {"n": 100, "features": ("random",), "cache": tmp_path}
    found = niwaki.evaluate(model, data="digits", metrics=["frechet", "vendi"], **asked)
    assert found["n"] == 100
    assert list(found["trained"]["random"]) == ["frechet", "vendi"]
    assert found["extractors"][0]["name"] == "random"
    assert "fit" in found["fitness"]["random"]
    assert found["gate"]["trained"]["passed"] in (True, False)
    assert "clusters" in found["clusters"]["trained"]
    json.dumps(found, allow_nan=False)
    with pytest.raises(CallError, match="did you mean 'vendi'"):
        niwaki.evaluate(model, data="digits", metrics=["vendy"], **asked)


def test_a_run_that_trained_its_own_model_is_not_written_over(tmp_path: Path) -> None:
    digits = data.load(data.DataConfig(source="digits"))
    model = niwaki.adapt(outside_dcgan(4), latent=(100, 1, 1), spec=digits.spec)
    recipe = recipe_from({"data": {"source": "digits"}, "model": {"name": "vae"}, "train": {"steps": 1}})
    trained = RunDirectory.create(recipe, tmp_path / "trained")
    trained.adopt()
    before = {p: p.read_bytes() for p in trained.path.rglob("*") if p.is_file()}
    with pytest.raises(CallError, match="trained itself; choose another --out"):
        niwaki.search(model, budget="size=/4", data=digits, out=trained.path)
    with pytest.raises(CallError, match="trained itself; choose another --out"):
        niwaki.compress(model, data=digits, out=trained.path)
    assert {p: p.read_bytes() for p in trained.path.rglob("*") if p.is_file()} == before
