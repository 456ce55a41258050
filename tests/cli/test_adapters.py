"""Low-rank adapters through recipe and command line: trained, merged, exported, put on their base again."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
import yaml

from niwaki.core.store import read_tensors
from niwaki.models.io import load_model

DATA = {"source": "digits", "labels": False}
MODEL = {"name": "mlp-gan"}
TRAIN = {"steps": 4, "batch": 32, "ema": 0.5, "precision": "fp32", "lr": 1e-2}


@pytest.fixture
def runs(niwaki, tmp_path, monkeypatch):
    """A base, and what was fine-tuned from it."""
    monkeypatch.chdir(tmp_path)
    adapters = {"name": "dora", "rank": 2, "on": ["generator"], "also": ["discriminator"]}
    for name, further in (("base", {}), ("tuned", {"init_from": "runs/base", "adapters": adapters})):
        recipe = {"name": name, "data": DATA, "model": MODEL, "train": {**TRAIN, **further}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        done = niwaki("train", f"{name}.yaml", "--out", f"runs/{name}")
        assert done.status == 0, done.err
    return tmp_path / "runs"


def test_adapters_are_merged_on_the_way_out_and_found_alone(niwaki, runs) -> None:
    base, tuned = (read_tensors(runs / n / "model" / "model.safetensors") for n in ("base", "tuned"))
    assert base.keys() == tuned.keys()
    assert {n for n in base if not torch.equal(base[n], tuned[n])} >= {
        n for n in base if n.startswith("generator.") and base[n].ndim > 1
    }
    assert all(torch.equal(base[n], tuned[n]) for n in base if n.startswith("generator") and "bias" in n)
    file = runs / "tuned" / "adapters" / "main.safetensors"
    done = niwaki("sample", "runs/base", "-n", 4, "--lora", file, "--out", "adapted.npy", "--device", "cpu")
    assert done.status == 0, done.err
    expected = load_model(runs / "tuned" / "model").sample(4, seed=0)
    assert np.allclose(np.load("adapted.npy"), np.asarray(expected), atol=1e-5)


@pytest.mark.slow
def test_the_bundle_has_no_operator_more(niwaki, runs) -> None:
    import onnx

    def operators(name: str) -> list[str]:
        done = niwaki("export", f"runs/{name}", "--json")
        assert done.status == 0, done.err
        with zipfile.ZipFile(done.json["bundle"]) as bundle:
            graphs = [bundle.read(n) for n in sorted(bundle.namelist()) if n.endswith(".onnx")]
        assert graphs
        return [n.op_type for g in graphs for n in onnx.load_model_from_string(g).graph.node]

    assert operators("tuned") == operators("base")


def test_what_does_not_fit_is_a_wrong_call(niwaki, runs) -> None:
    for override, said in (
        ("train.adapters.on=[nowhere]", "train.adapters.on names 'nowhere'"),
        ("train.adapters.name=lorra", "did you mean 'lora'"),
        ("train.adapters.also=[]", "has no parameters left to train"),
    ):
        done = niwaki("train", "tuned.yaml", "--out", "runs/other", override)
        assert done.status == 2
        assert said in done.err
    done = niwaki("sample", "runs/base", "--lora", "nothing.safetensors")
    assert done.status == 2
    assert "no LoRA weights at nothing.safetensors" in done.err
