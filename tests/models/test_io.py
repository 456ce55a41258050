"""Saved models come back, cut as they were; what does not fit is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_cases import make

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_json, read_tensors, write_json, write_tensors
from niwaki.models import load_model, save_model
from niwaki.surgery.cuts import Cut
from niwaki.surgery.edits import apply_edits

CUTS = (
    Cut("generator.body.1", "out", (0, 2, 3, 6)),
    Cut("generator.body.2", "out", (0, 2, 3, 6)),
    Cut("generator.output.0", "in", (0, 2, 3, 6)),
)


def test_surgery_is_replayed(tmp_path: Path) -> None:
    model = make("dcgan").eval()
    apply_edits(model, CUTS)
    model.surgery = CUTS
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.surgery == CUTS
    assert again.generator.output[0].in_channels == 4
    assert torch.equal(again.sample(4, seed=2), model.sample(4, seed=2))
    save_model(again, tmp_path / "twice")
    assert torch.equal(load_model(tmp_path / "twice").sample(4, seed=2), model.sample(4, seed=2))


def test_cutting_channels_that_are_dead_changes_nothing(tmp_path: Path) -> None:
    model = make("dcgan").eval()
    with torch.no_grad():
        dead = [c for c in range(8) if c not in CUTS[0].keep]
        model.generator.output[0].weight[:, dead] = 0.0
    before = model.sample(4, seed=2)
    apply_edits(model, CUTS)
    torch.testing.assert_close(model.sample(4, seed=2), before, atol=1e-6, rtol=0)


def test_weights_are_not_pickled(tmp_path: Path) -> None:
    save_model(make("vae"), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert read_json(tmp_path / "model.json")["name"] == "vae"


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_model(make("dcgan"), tmp_path)
    weights = read_tensors(tmp_path / "model.safetensors")
    record = read_json(tmp_path / "model.json")

    name, value = next(iter(weights.items()))
    for changed, message in [
        ({k: v for k, v in weights.items() if k != name}, "lacks the weights"),
        ({**weights, "generator.stray": value}, "'generator.stray'"),
        ({**weights, name: value[:1]}, "does not fit the model"),
    ]:
        write_tensors(tmp_path / "model.safetensors", changed)
        with pytest.raises(NiwakiError, match=message):
            load_model(tmp_path)
    write_tensors(tmp_path / "model.safetensors", weights)

    for changed, error, message in [
        ({**record, "format": 99}, NiwakiError, "update niwaki"),
        ({**record, "name": "dcgn"}, CallError, "did you mean 'dcgan'"),
        ({**record, "config": {**record["config"], "width": -1}}, CallError, "model.width"),
        ({"format": 1}, NiwakiError, "does not describe a model"),
        ([], NiwakiError, "does not describe a model"),
    ]:
        write_json(tmp_path / "model.json", changed)
        with pytest.raises(error, match=message):
            load_model(tmp_path)


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    save_model(make("dcgan"), tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NiwakiError, match="safetensors"):
        load_model(tmp_path)
    with pytest.raises(NiwakiError, match="does not exist"):
        load_model(tmp_path / "nowhere")
