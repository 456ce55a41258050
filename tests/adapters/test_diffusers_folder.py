"""Pipelines on disk: read without pickles and without their authors' code, refused in one sentence."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pipelines
import pytest
import torch
from safetensors.torch import load_file, save_file

from niwaki.adapters import adapt_pipeline
from niwaki.core.contract import CallError, DataSpec, NiwakiError

pytest.importorskip("diffusers")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pipelines.ddim().save_pretrained(tmp_path / "ddim")
    return tmp_path / "ddim"


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_and_an_object_are_the_same_model(folder: Path) -> None:
    a, b = adapt_pipeline(folder, steps=2), adapt_pipeline(pipelines.ddim(), steps=2)
    assert torch.equal(a.sample(2, seed=0), b.sample(2, seed=0))
    assert a.spec == DataSpec.of("image", (1, 8, 8))


def test_a_name_on_the_hub_is_fetched_without_pickles_and_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(name: str, *, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        if name != "their/pipeline":
            raise OSError("no network")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    a, b = adapt_pipeline("their/pipeline", steps=2), adapt_pipeline(folder, steps=2)
    assert torch.equal(a.sample(2, seed=0), b.sample(2, seed=0))
    assert not any(fnmatch(f, p) for p in asked for f in ("unet/model.bin", "unet/my_unet.py", "x.ckpt"))
    with pytest.raises(NiwakiError, match="could not be had from the hub"):
        adapt_pipeline("another/pipeline")


def test_the_pipeline_stays_as_it_is(tmp_path: Path) -> None:
    pipeline = pipelines.ddim()
    before = {k: v.clone() for k, v in pipeline.unet.state_dict().items()}
    with torch.no_grad():
        for p in adapt_pipeline(pipeline).parameters():
            p.zero_()
    assert all(torch.equal(v, before[k]) for k, v in pipeline.unet.state_dict().items())


def test_text_to_image_from_a_folder(tmp_path: Path) -> None:
    pipeline = pipelines.text_to_image(tmp_path / "words")
    pipeline.save_pretrained(tmp_path / "folder")
    a, b = (adapt_pipeline(source, steps=2) for source in (tmp_path / "folder", pipeline))
    assert torch.equal(a.sample(1, seed=0, condition="a two"), b.sample(1, seed=0, condition="a two"))
    assert set(a.shipped_graphs()) == {"text", "denoiser", "decoder"}
    assert set(a.graphs()) == {"text", "denoiser", "decoder", "encoder"}
    with pytest.raises(CallError, match="has 14 tokens, and this model reads 12"):
        a.sample(1, seed=0, condition="a twelve three")
    with pytest.raises(CallError, match="captions are for"):
        adapt_pipeline(pipelines.ddim(), captions=("a", "b"))


def test_half_precision_is_read_where_there_is_no_other(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    half = {k: v.half() for k, v in load_file(weights).items()}
    save_file(
        half, weights.with_suffix(".fp16.safetensors").with_name("diffusion_pytorch_model.fp16.safetensors")
    )
    weights.unlink()
    model = adapt_pipeline(folder, steps=2)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    whole = adapt_pipeline(pipelines.ddim(), steps=2)
    torch.testing.assert_close(model.sample(2, seed=0), whole.sample(2, seed=0), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt"])
def test_pickled_weights_are_refused_with_the_remedy(folder: Path, name: str) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / name)
    with pytest.raises(CallError, match=f"{name} is a pickle.*convert it: python -c .*save_pretrained"):
        adapt_pipeline(folder)


def test_code_of_its_own_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = folder.parent / "ran"
    code = f"open({str(ran)!r}, 'w').close()\nclass MyUNet: pass\n"
    (folder / "my_unet.py").write_text(code)
    (folder / "unet" / "my_unet.py").write_text(code)
    monkeypatch.chdir(folder)
    edited(folder / "model_index.json", unet=["my_unet", "MyUNet"])
    with pytest.raises(CallError, match=r"'unet' is a 'my_unet.MyUNet', code of its own"):
        adapt_pipeline(folder)
    edited(folder / "model_index.json", unet=["diffusers", "UNet2DModel"], _class_name=["my_unet", "MyUNet"])
    with pytest.raises(CallError, match="the pipeline is code of its own"):
        adapt_pipeline(folder)
    edited(folder / "model_index.json", _class_name="DDIMPipeline")
    adapt_pipeline(folder)
    assert not ran.exists()


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    good = load_file(path)
    save_file({k: v for k, v in good.items() if k != "conv_in.weight"}, path)
    with pytest.raises(NiwakiError, match=r"lacks the weights 'conv_in.weight'"):
        adapt_pipeline(folder)
    save_file({**good, "extra.weight": torch.zeros(1)}, path)
    with pytest.raises(NiwakiError, match=r"has no place for the weights 'extra.weight'"):
        adapt_pipeline(folder)
    save_file({**good, "conv_in.weight": torch.zeros(3, 1, 3, 3)}, path)
    with pytest.raises(NiwakiError, match=r"conv_in.weight"):
        adapt_pipeline(folder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(NiwakiError, match="cannot be read"):
        adapt_pipeline(folder)


def test_what_is_no_pipeline_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CallError, match="does not exist"):
        adapt_pipeline(tmp_path / "nowhere")
    with pytest.raises(CallError, match=r"no model_index.json"):
        adapt_pipeline(tmp_path)
    (tmp_path / "sd.ckpt").write_bytes(b"")
    with pytest.raises(CallError, match=r"is a single file.*from_single_file"):
        adapt_pipeline(tmp_path / "sd.ckpt")
    with pytest.raises(CallError, match="not int"):
        adapt_pipeline(3)
    with pytest.raises(CallError, match="the spec is of"):
        adapt_pipeline(folder, spec=DataSpec.of("image", (3, 8, 8)))
    with pytest.raises(CallError, match="not asked by prompts"):
        adapt_pipeline(folder, steps=1).sample(1, seed=0, condition="a three")
    edited(folder / "model_index.json", _class_name="KandinskyPipeline")
    with pytest.raises(CallError, match="no adapter for the pipeline 'KandinskyPipeline'"):
        adapt_pipeline(folder)
