"""Weights of files and folders that other packages saved: renamed, taken in part, or refused."""

from __future__ import annotations

import pytest
import torch
from training_toys import Regression

from niwaki.core.store import write_tensors
from niwaki.training import TrainConfig, fit, init_from_hashes
from niwaki_runtime.errors import CallError, NiwakiError


def weights(seed: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return Regression().state_dict()


def trained(vectors, source, notes=None, **settings):
    torch.manual_seed(0)
    model = Regression()
    config = TrainConfig.model_validate(
        {"steps": 1, "batch": 8, "lr": 0.0, "init_from": str(source), **settings}
    )
    fit(model, vectors, config, seed=0, note=None if notes is None else notes.append)
    return model.state_dict()


@pytest.mark.parametrize("ends", [["diffusion_pytorch_model"], ["model-1-of-2", "model-2-of-2"]])
def test_a_folder_of_safetensors_is_taken_whole(vectors, tmp_path, ends):
    named = weights()
    for k, end in enumerate(ends):
        part = {n: t for i, (n, t) in enumerate(named.items()) if i % len(ends) == k}
        write_tensors(tmp_path / f"{end}.safetensors", part)
    write_tensors(tmp_path / f"{ends[0]}.fp16.safetensors", {n: t * 0 for n, t in named.items()})
    found = trained(vectors, tmp_path)
    assert all(torch.equal(found[n], t) for n, t in named.items())
    before = init_from_hashes(TrainConfig(init_from=str(tmp_path)))
    write_tensors(tmp_path / f"{ends[-1]}.safetensors", {n: t + 1 for n, t in part.items()})
    assert init_from_hashes(TrainConfig(init_from=str(tmp_path))) != before


def test_names_are_changed_by_how_they_begin(vectors, tmp_path):
    named = weights()
    file = tmp_path / "timm.safetensors"
    write_tensors(file, {n.replace("net.", "module.layers."): t for n, t in named.items()})
    found = trained(vectors, file, init_rename={"module.": "wrong.", "module.layers.": "net."})
    assert all(torch.equal(found[n], t) for n, t in named.items())
    with pytest.raises(NiwakiError, match=r"whose name begins with 'modul_'.*module.layers.0"):
        trained(vectors, file, init_rename={"modul_": ""})
    with pytest.raises(NiwakiError, match=r"gives two weights of .* one name"):
        trained(vectors, file, init_rename={"module.layers.0.": "a.", "module.layers.2.": "a."})


def test_all_that_does_not_fit_is_said_in_one_sentence_or_left_out_where_that_is_allowed(vectors, tmp_path):
    named, torch_made = weights(), weights(0)
    del named["net.0.bias"]
    named |= {"net.2.weight": torch.zeros(1, 9), "head.a": torch.zeros(2), "head.b": torch.zeros(2)}
    write_tensors(tmp_path / "model.safetensors", named)
    said = (
        r"holds 'head.a' and 1 more, which the model does not have; "
        r"'net.2.weight' has the shape \(1, 9\) in .* but \(1, 8\) in the model"
    )
    with pytest.raises(NiwakiError, match=said):
        trained(vectors, tmp_path)
    notes = []
    found = trained(vectors, tmp_path, notes, init_partial=True)
    assert torch.equal(found["net.0.weight"], named["net.0.weight"])
    assert torch.equal(found["net.2.bias"], named["net.2.bias"])
    for left in ("net.0.bias", "net.2.weight"):
        assert torch.equal(found[left], torch_made[left])
    (note,) = notes
    assert note.startswith("2 weights were taken: ")
    assert "lacks 'net.0.bias'" in note
    assert "'head.a' and 1 more" in note
    write_tensors(tmp_path / "model.safetensors", {"head.a": torch.zeros(2)})
    with pytest.raises(NiwakiError, match=r"head.a"):
        trained(vectors, tmp_path, init_partial=True)


@pytest.mark.parametrize("place", ["pytorch_model.bin", "."])
def test_pickles_are_refused_with_the_line_that_converts_them(vectors, tmp_path, place):
    torch.save(weights(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CallError, match=r"pickle can run any program.*weights_only=True"):
        trained(vectors, tmp_path / place)
