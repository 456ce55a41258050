"""LoRA weights merged on the way in: what the layers and the low-rank paths beside them compute together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from niwaki.adapters import adapt_pipeline
from niwaki.core.contract import CallError
from niwaki_runtime import noise

pytest.importorskip("diffusers")

STEPS, SEED, N, RANK = 3, 3, 2, 2
CLOSE = 1e-4
KINDS: dict[str, Callable[[Path], Any]] = {
    "StableDiffusion": pipelines.text_to_image,
    "XL": pipelines.xl,
    "3": lambda path: pipelines.sd3(path, with_t5=False),
}
OPTIONS: dict[str, dict[str, Any]] = {"3": {"length": 256}}


def drawn(pipeline: Any, ends: tuple[str, ...] = ("to_q", "to_out.0", "conv1", "q_proj")) -> dict[str, Any]:
    """Random A and B of some layers, by component and layer."""
    rng = torch.Generator().manual_seed(7)
    found = {}
    for component, network in pipeline.components.items():
        if not isinstance(network, nn.Module) or component == "vae":
            continue
        for name, layer in network.named_modules():
            if name.endswith(ends) and hasattr(layer, "weight"):
                shape = layer.weight.shape
                down = torch.randn((RANK, *shape[1:]), generator=rng) * 0.3
                up = torch.randn((shape[0], RANK, *(1,) * (len(shape) - 2)), generator=rng) * 0.3
                found[component, name] = down, up
    return found


def written(pairs: dict[str, Any], path: Path, write: Callable[[str, str], tuple[str, str]]) -> Path:
    tensors = {}
    for (component, name), matrices in pairs.items():
        tensors.update(zip(write(component, name), matrices, strict=True))
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


def peft(component: str, name: str) -> tuple[str, str]:
    return f"{component}.{name}.lora_A.weight", f"{component}.{name}.lora_B.weight"


def kohya(component: str, name: str) -> tuple[str, str]:
    start = {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}.get(component, "lora_unet")
    flat = f"{start}_{name.replace('.', '_')}"
    return f"{flat}.lora_down.weight", f"{flat}.lora_up.weight"


def processors(component: str, name: str) -> tuple[str, str]:
    """As diffusers wrote them while they were weights of attention's processors."""
    if component.startswith("text_encoder"):
        for new, old in (("q_proj", "to_q"), ("out_proj", "to_out")):
            name = name.replace(new, f"{old}_lora")
        return f"{component}.{name}.down.weight", f"{component}.{name}.up.weight"
    if name.endswith(("to_q", "to_out.0")):
        attention, _, layer = name.removesuffix(".0").rpartition(".")
        name = f"{attention}.processor.{layer}_lora"
        return f"{component}.{name}.down.weight", f"{component}.{name}.up.weight"
    return f"{component}.{name}.lora.down.weight", f"{component}.{name}.lora.up.weight"


def beside(pipeline: Any, pairs: dict[str, Any], scale: float) -> None:
    """The low-rank path beside each layer, as its paper draws it."""

    def hook(down: Tensor, up: Tensor) -> Callable[..., Tensor]:
        def after(layer: Any, given: Any, out: Tensor) -> Tensor:
            if isinstance(layer, nn.Conv2d):
                low = nn.functional.conv2d(given[0], down, None, layer.stride, layer.padding)
                return out + scale * nn.functional.conv2d(low, up)
            return out + scale * (given[0] @ down.mT) @ up.mT

        return after

    for (component, name), matrices in pairs.items():
        pipeline.components[component].get_submodule(name).register_forward_hook(hook(*matrices))


def theirs(pipeline: Any) -> np.ndarray:
    latents = torch.from_numpy(noise.normal(SEED, 0, N, (4, 4, 4)))
    made: np.ndarray = pipeline(
        ["a three", "a nine"], num_inference_steps=STEPS, latents=latents, output_type="np"
    ).images
    return made


def ours(pipeline: Any, kind: str, lora: Any) -> np.ndarray:
    model = adapt_pipeline(pipeline, steps=STEPS, lora=lora, **OPTIONS.get(kind, {}))
    made: np.ndarray = pipelines.shown(model.sample(N, seed=SEED, condition=["a three", "a nine"]))
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", [peft, kohya, processors])
def test_merged_is_what_the_path_beside_computes(
    kind: str, write: Callable[[str, str], tuple[str, str]], tmp_path: Path
) -> None:
    if write is processors and kind == "3":
        pytest.skip("of before there was a transformer with two streams")
    pipeline = KINDS[kind](tmp_path)
    pairs = drawn(pipeline)
    assert {component for component, _ in pairs} >= {"text_encoder"}
    file = written(pairs, tmp_path / "lora.safetensors", write)
    before, made = ours(pipeline, kind, ()), ours(pipeline, kind, f"{file}:0.7")
    np.testing.assert_allclose(ours(pipeline, kind, ()), before, atol=0, err_msg="what was given has changed")
    beside(pipeline, pairs, 0.7)
    np.testing.assert_allclose(made, theirs(pipeline), atol=CLOSE)
    assert np.abs(made - before).max() > 10 * CLOSE


def test_several_are_added_to_a_folder(tmp_path: Path) -> None:
    """Of two files the first is for the denoiser alone, and without its name in front."""
    pipeline = pipelines.text_to_image(tmp_path / "words")
    pipeline.save_pretrained(tmp_path / "folder")
    pairs = drawn(pipeline)
    one = {place: pair for place, pair in pairs.items() if place[0] == "unet"}
    two = {place: pair for place, pair in pairs.items() if place[1].endswith("to_q")}
    bare = lambda component, name: tuple(f"base_model.model.{name}.lora_{m}.weight" for m in "AB")  # noqa: E731
    files = written(one, tmp_path / "1.safetensors", bare), written(two, tmp_path / "2.safetensors", peft)
    made = ours(tmp_path / "folder", "", [files[0], f"{files[1]}:-0.5"])
    beside(pipeline, one, 1.0)
    beside(pipeline, two, -0.5)
    np.testing.assert_allclose(made, theirs(pipeline), atol=CLOSE)


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({}, 1.0),
        ({"lora_alpha": 6}, 6 / RANK),
        ({"lora_alpha": 6, "use_rslora": True}, 6 / RANK**0.5),
        ({"lora_alpha": 6, "alpha_pattern": {"to_q": 1.0, "conv1": 1.0, "to_out.0": 1.0}}, 1 / RANK),
    ],
)
def test_alpha_is_read_beside_the_weights(settings: dict[str, Any], factor: float, tmp_path: Path) -> None:
    pipeline = pipelines.text_to_image(tmp_path / "words")
    pairs = {place: pair for place, pair in drawn(pipeline).items() if place[0] == "unet"}
    bare = lambda component, name: tuple(f"base_model.model.{name}.lora_{m}.weight" for m in "AB")  # noqa: E731
    written(pairs, tmp_path / "adapter_model.safetensors", bare)
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    made = ours(pipeline, "", tmp_path)
    beside(pipeline, pairs, factor)
    np.testing.assert_allclose(made, theirs(pipeline), atol=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_what_diffusers_fuses(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    pipeline = KINDS[kind](tmp_path)
    pairs = drawn(pipeline)
    file = written(pairs, tmp_path / "pytorch_lora_weights.safetensors", peft)
    made = ours(pipeline, kind, f"{tmp_path}:0.7")
    pipeline.load_lora_weights(str(file))
    pipeline.fuse_lora(lora_scale=0.7, components=[*dict.fromkeys(place[0] for place in pairs)])
    np.testing.assert_allclose(made, theirs(pipeline), atol=CLOSE)


NAME = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
GOOD = {f"unet.{NAME}.lora_A.weight": torch.ones(2, 16), f"unet.{NAME}.lora_B.weight": torch.ones(16, 2)}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"unet.mid_block.nowhere.lora_A.weight": 0, "unet.mid_block.nowhere.lora_B.weight": 1},
            "fits no layer",
        ),
        (
            {"text_encoder_2.q.lora_A.weight": 0, "text_encoder_2.q.lora_B.weight": 1},
            "'text_encoder_2', which",
        ),
        ({f"unet.{NAME}.lora_A.weight": 0}, r"not its matrix B \(up\)"),
        ({f"unet.{NAME}.lora_B.weight": 1}, r"not its matrix A \(down\)"),
        ({f"unet.{NAME}.lora_magnitude_vector": 0}, r"not its matrix A \(down\)"),
        ({f"unet.{NAME}.lokr_w1": 0}, "no weight of LoRA"),
        ({f"unet.{NAME}.weight": 0}, "no weight of LoRA"),
        ({f"unet.{NAME}.lora_A.weight": 1, f"unet.{NAME}.lora_B.weight": 1}, "made for another model"),
        ({}, "holds no weights"),
    ],
)
def test_what_fits_nothing_is_named(weights: dict[str, int], message: str, tmp_path: Path) -> None:
    pipeline = pipelines.text_to_image(tmp_path / "words")
    values = list(GOOD.values())
    save_file({key: values[i].clone() for key, i in weights.items()}, tmp_path / "lora.safetensors")
    with pytest.raises(CallError, match=message) as refusal:
        adapt_pipeline(pipeline, lora=tmp_path / "lora.safetensors")
    assert "\n" not in str(refusal.value)


def test_what_is_no_file_of_weights_is_said(tmp_path: Path) -> None:
    pipeline = pipelines.text_to_image(tmp_path / "words")
    torch.save({}, tmp_path / "lora.bin")
    for given, message in (
        (tmp_path / "nowhere.safetensors", "no LoRA weights at .*nowhere.safetensors"),
        (f"{tmp_path / 'nowhere'}:0.5", "no LoRA weights at .*nowhere "),
        (tmp_path / "lora.bin", "is a pickle"),
        (tmp_path / "words", "holds no LoRA weights"),
    ):
        with pytest.raises(CallError, match=message):
            adapt_pipeline(pipeline, lora=[given])
