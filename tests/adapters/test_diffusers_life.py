"""An adapted pipeline lives as our models do: trained, pruned, kept, exported, and written back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch

import niwaki
import niwaki_runtime
from niwaki import data
from niwaki.adapters import AdaptedPipeline, adapt_pipeline, save_pipeline
from niwaki.core.contract import Batch, CallError, Context
from niwaki.deployment import export_graphs, package
from niwaki.models import load_model, save_model
from niwaki.surgery.cuts import Cut
from niwaki.surgery.edits import apply_edits
from niwaki.training import TrainConfig, fit

diffusers = pytest.importorskip("diffusers")

STEPS = 3
KINDS: dict[str, Callable[[Path], AdaptedPipeline]] = {
    "unconditional": lambda path: adapt_pipeline(pipelines.ddim(), steps=STEPS),
    "text": lambda path: adapt_pipeline(
        pipelines.text_to_image(path), steps=STEPS, guidance=2.0, captions=pipelines.CAPTIONS
    ),
    "prompts": lambda path: adapt_pipeline(pipelines.text_to_image(path), steps=STEPS),
    "two texts": lambda path: adapt_pipeline(
        pipelines.xl(path), steps=STEPS, guidance=2.0, captions=pipelines.CAPTIONS
    ),
    "three texts": lambda path: adapt_pipeline(
        pipelines.sd3(path), steps=STEPS, guidance=2.0, captions=pipelines.CAPTIONS, length=12
    ),
    "squares": lambda path: adapt_pipeline(
        pipelines.flux(path), steps=STEPS, captions=pipelines.CAPTIONS, length=12, size=8
    ),
    "classes": lambda path: adapt_pipeline(pipelines.dit(10), steps=STEPS),
}
CUTS = (  # a resnet's inner width: conv1's outputs and all that reads them
    Cut("denoiser.network.mid_block.resnets.0.conv1", "out", tuple(range(8))),
    Cut("denoiser.network.mid_block.resnets.0.time_emb_proj", "out", tuple(range(8))),
    Cut("denoiser.network.mid_block.resnets.0.norm2", "out", tuple(range(8))),
    Cut("denoiser.network.mid_block.resnets.0.conv2", "in", tuple(range(8))),
)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> AdaptedPipeline:
    return KINDS[request.param](tmp_path / "words")


def cut(model: AdaptedPipeline, cuts: tuple[Cut, ...]) -> AdaptedPipeline:
    apply_edits(model, cuts)
    model.surgery = (*model.surgery, *cuts)
    return model


def batch(n: int = 6) -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch({"x": torch.rand(n, 1, 8, 8, generator=rng) * 2 - 1, "class": torch.arange(n) % 10})


def losses(model: AdaptedPipeline) -> dict[str, torch.Tensor]:
    found = {}
    for phase in model.phases():
        ctx = Context(0, 0.0, "main", {}, torch.Generator().manual_seed(1))
        found[phase.name] = sum(model.loss(phase.name, batch(), ctx).values())
    return found  # type: ignore[return-value]


def test_every_phase_trains_what_it_names_and_nothing_else(model: AdaptedPipeline) -> None:
    found = losses(model)
    assert set(found) == ({"denoiser"} if model.decoder is None else {"denoiser", "decoder"})
    for phase in model.phases():
        model.zero_grad()
        losses(model)[phase.name].backward()
        named = {
            n for n, p in model.named_parameters() if any(n.startswith(f"{s}.") for s in phase.parameters)
        }
        reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert reached
        assert reached <= named


@torch.no_grad()
def test_it_encodes_and_decodes_where_it_works_on_latents(model: AdaptedPipeline) -> None:
    if model.decoder is None:
        assert set(model.programs()) == {"sample", "inpaint", "upscale", "edit", "encode", "decode"}
        return
    assert set(model.programs()) == {"sample", "inpaint", "upscale", "edit", "invert", "encode", "decode"}
    assert list(model.shipped_programs()) == ["sample", "decode"], "the encoder is no part of sampling"
    x = batch(3).x
    z = model.run("encode", 3, inputs=x)
    torch.testing.assert_close(z, model.encode(x))
    assert tuple(z.shape[1:]) == model.program("encode").output.shape
    torch.testing.assert_close(model.run("decode", 3, inputs={"latents": z}), model.decode(z))


def test_the_loss_of_noise_is_one_of_a_network_that_says_nothing(tmp_path: Path) -> None:
    """E ‖ε − 0‖² = 1 per value; the x₀ network's is E ‖x₀‖²."""
    for prediction, expected in (("epsilon", 1.0), ("sample", float(batch(512).x.square().mean()))):
        scheduler = diffusers.DDIMScheduler(prediction_type=prediction)
        model = adapt_pipeline(pipelines.ddim(scheduler), steps=2)
        with torch.no_grad():
            for p in model.denoiser.network.conv_out.parameters():  # type: ignore[union-attr]
                p.zero_()
        ctx = Context(0, 0.0, "main", {}, torch.Generator().manual_seed(0))
        assert model.loss("denoiser", batch(512), ctx)["denoiser"].item() == pytest.approx(expected, rel=0.03)


@pytest.mark.slow
def test_a_pruned_one_comes_back_in_a_fresh_process_without_its_folder(
    model: AdaptedPipeline, tmp_path: Path
) -> None:
    if "mid_block" in dict(model.denoiser.network.named_children()):
        cut(model, CUTS)
    save_model(model, tmp_path / "model")
    made = model.sample(2, seed=4)
    assert torch.equal(load_model(tmp_path / "model").sample(2, seed=4), made)
    if model.text is not None and model.config.captions:  # one fresh process is enough to see it
        code = (
            "import sys, numpy as np; from niwaki.models import load_model;"
            "np.save(sys.argv[2], load_model(sys.argv[1]).sample(2, seed=4).numpy())"
        )
        words = [sys.executable, "-c", code, str(tmp_path / "model"), str(tmp_path / "again.npy")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=200, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(np.load(tmp_path / "again.npy"), made.numpy(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "two texts", "three texts", "squares"])
def test_the_bundle_runs_on_both_engines(kind: str, tmp_path: Path) -> None:
    model = KINDS[kind](tmp_path / "words")  # all three roles of graphs
    model = cut(model, CUTS) if hasattr(model.denoiser.network, "mid_block") else model
    bundle = package(model, export_graphs(model, tmp_path / "graphs", check=False), tmp_path / "small.niwaki")
    asked = np.array([3, 10])
    for engine in ("openvino", "onnxruntime"):
        made = niwaki_runtime.load(bundle, engine=engine, precision="exact").sample(
            2, seed=1, condition=asked
        )
        np.testing.assert_allclose(made, model.sample(2, seed=1, condition=asked).numpy(), atol=1e-4)


def test_written_back_and_read_by_diffusers(model: AdaptedPipeline, tmp_path: Path) -> None:
    with torch.no_grad():  # weights may change in any way
        for p in model.parameters():
            p.mul_((p.abs() > 0.02).to(p.dtype))
    folder = save_pipeline(model, tmp_path / "folder")
    theirs = diffusers.DiffusionPipeline.from_pretrained(folder)
    assert type(theirs).__name__ == model.config.pipeline
    config = model.config
    again = adapt_pipeline(
        folder,
        steps=STEPS,
        guidance=config.told or config.guidance,
        captions=config.captions,
        length=config.length or None,
        size=model.spec.shape[1:] if config.size else None,
    )
    assert torch.equal(again.sample(2, seed=0), model.sample(2, seed=0))
    for name, part in model.parts().items():
        for key, value in getattr(theirs, name).state_dict().items():
            assert torch.equal(value, part.state_dict()[key]), key


def test_an_uneven_cut_is_no_folder_and_the_layer_is_named(tmp_path: Path) -> None:
    model = cut(KINDS["unconditional"](tmp_path), CUTS)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("kept")
    with pytest.raises(CallError, match=r"'unet\.mid_block\.resnets\.0\..*UNet2DModel has.*bundle"):
        save_pipeline(model, tmp_path / "folder")
    assert (tmp_path / "folder" / "mine.txt").exists()


def test_an_even_cut_is_a_folder(tmp_path: Path) -> None:
    """The second stage from 16 to 12 channels everywhere: what `block_out_channels` can say."""
    model = adapt_pipeline(pipelines.ddim(attention=False, groups=1), steps=STEPS)
    narrow = pipelines.unet((8, 12), attention=False, groups=1).state_dict()
    kept = {  # 32 channels are 16 joined with 16, 24 are 16 joined with the 8 of the first stage
        (16, 12): range(12),
        (32, 24): (*range(12), *range(16, 28)),
        (24, 20): (*range(12), *range(16, 24)),
    }
    cuts = []
    for name, module in model.denoiser.network.named_modules():
        for side, axis in (("out", 0), ("in", 1)):
            if not hasattr(module, "weight") or module.weight.ndim <= axis:
                continue
            widths = (module.weight.shape[axis], narrow[f"{name}.weight"].shape[axis])
            if widths[0] != widths[1]:
                cuts.append(Cut(f"denoiser.network.{name}", side, tuple(kept[widths])))
    cut(model, tuple(cuts))
    folder = save_pipeline(model, tmp_path / "even")
    assert diffusers.UNet2DModel.load_config(folder / "unet")["block_out_channels"] == [8, 12]
    again = adapt_pipeline(folder, steps=STEPS)
    torch.testing.assert_close(again.sample(2, seed=0), model.sample(2, seed=0), atol=1e-5, rtol=0)
    save_model(model, tmp_path / "model")  # both ways of keeping it are one model
    assert torch.equal(load_model(tmp_path / "model").sample(2, seed=0), model.sample(2, seed=0))


PLAN: list[dict[str, Any]] = [
    {"kind": "prune", "ratio": 0.3, "round_to": 1, "min_width": 4},
    {"kind": "finetune", "steps": 120, "batch": 64, "lr": 1e-3},
    {"kind": "quantize", "calibration": 64},
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unconditional", "text", "classes"])
def test_trained_on_digits_compressed_and_judged(kind: str, tmp_path: Path) -> None:
    digits = data.load(data.DataConfig(source="digits"))
    model = KINDS[kind](tmp_path / "words")
    before = losses(model)
    settings = TrainConfig(steps=240, batch=64, lr=2e-3, ema=0.99)
    fit(model, digits.train, settings, seed=0)
    model.eval()
    real = Batch({"x": digits.test.values()[:256], "class": digits.test.y[:256]})
    ctx = Context(0, 0.0, "main", {}, torch.Generator().manual_seed(1))
    assert model.loss("denoiser", real, ctx)["denoiser"].item() < 0.8 * before["denoiser"].item()
    found = niwaki.compress(
        model, data=digits, out=tmp_path / "small", plan=PLAN, n=200, features=("random",)
    )
    assert found["measured"]["after"]["bytes"] < 0.7 * found["measured"]["before"]["bytes"]
    assert found["steps"][-1]["quantized"]
    small = niwaki_runtime.load(found["bundle"])
    assert np.isfinite(small.sample(4, seed=0)).all()
    error = [step["error"] for step in found["steps"]]
    assert error[1] < error[0], "fine-tuning brought nothing back"
