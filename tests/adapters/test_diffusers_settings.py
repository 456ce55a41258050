"""Every setting of a pipeline is kept or refused by name, every network is compared with its library's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pipelines import ddim, dit, text_to_image, vae
from safetensors.torch import load_file, save_file

from niwaki.adapters import adapt_pipeline
from niwaki.core.contract import CallError, NiwakiError


def edited(folder: Path, part: str, **settings: Any) -> Path:
    file = folder / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A text-to-image folder, written anew for each test by a copy."""
    import shutil

    home = tmp_path_factory.mktemp("pipelines")
    text_to_image(home / "words").save_pretrained(home / "sd")

    def fresh(to: Path) -> Path:
        return Path(shutil.copytree(home / "sd", to / "sd"))

    return fresh


@pytest.mark.parametrize(
    ("part", "settings", "text"),
    [
        ("unet", {"time_cond_proj_dim": 16}, "time_cond_proj_dim = 16"),
        ("unet", {"class_embed_type": "timestep"}, "class_embed_type = 'timestep'"),
        ("unet", {"num_class_embeds": 4}, "num_class_embeds = 4"),
        ("unet", {"sample_size": None}, "does not say its sample_size"),
        ("unet", {"a_setting_of_tomorrow": 3}, "a_setting_of_tomorrow = 3"),
        ("unet", {"quantization_config": {"quant_method": "bitsandbytes"}}, "bitsandbytes.*float weights"),
        ("unet", {"in_channels": 9}, "in_channels|do not fit|cannot be read|9 channels"),
        ("unet", {"out_channels": 8}, "out_channels|do not fit|cannot be read"),
        ("vae", {"a_setting_of_tomorrow": True}, "'vae' has the setting a_setting_of_tomorrow"),
        ("text_encoder", {"use_attention_mask": True}, "use_attention_mask = True"),
        ("text_encoder", {"hidden_act": "nothing"}, "cannot be read|make no network"),
        ("text_encoder", {"quantization_config": {"quant_method": "gptq"}}, "gptq.*float weights"),
    ],
)
def test_a_setting_that_is_lost_is_refused_by_name(
    part: str, settings: dict[str, Any], text: str, kept: Any, tmp_path: Path
) -> None:
    with pytest.raises(NiwakiError, match=text):
        adapt_pipeline(edited(kept(tmp_path), part, **settings), steps=2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"force_zeros_for_empty_prompt": True}, "force_zeros_for_empty_prompt = True"),
        ({"tokenizer": ["transformers", "BertTokenizer"]}, "'BertTokenizer'; known are CLIPTokenizer"),
        ({"tokenizer": ["transformers", "T5Tokenizer"]}, "the tokenizer's files cannot be read"),
    ],
)
def test_what_the_index_says_is_refused_by_name(
    change: dict[str, Any], text: str, kept: Any, tmp_path: Path
) -> None:
    folder = kept(tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(NiwakiError, match=text):
        adapt_pipeline(folder, steps=2)


@pytest.mark.parametrize(
    "settings", [{"shift_factor": 0.6}, {"latents_mean": [0.5] * 4}, {"scaling_factor": 0.3}]
)
@torch.no_grad()
def test_latents_are_decoded_as_these_pipelines_decode_them(settings: dict[str, Any]) -> None:
    pipeline = dit()
    pipeline.vae.register_to_config(**settings)
    z = torch.randn((2, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    wanted = pipeline.vae.decode(z / pipeline.vae.config.scaling_factor).sample
    made = adapt_pipeline(pipeline, steps=2)
    torch.testing.assert_close(made.decode(z), wanted, atol=1e-5, rtol=1e-4)
    x = wanted.clamp(-1, 1)
    latents = pipeline.vae.encode(x).latent_dist.mode() * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(made.encode(x), latents, atol=1e-5, rtol=1e-4)


def _fused(unet: Any) -> None:
    for module in unet.modules():
        if hasattr(module, "fuse_projections"):
            module.fuse_projections()


def _freeu(unet: Any) -> None:
    for block in unet.up_blocks:
        for name, value in {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4}.items():
            setattr(block, name, value)


def _lora(unet: Any) -> None:
    unet.conv_in.lora_A = torch.nn.Conv2d(1, 2, 1)


def _processor(unet: Any) -> None:
    class IPAdapterAttnProcessor:
        def __call__(self, attn: Any, hidden_states: Any, **rest: Any) -> Any:
            return hidden_states

    unet.mid_block.attentions[0].processor = IPAdapterAttnProcessor()


def _hooked(unet: Any) -> None:
    unet.conv_out.register_forward_hook(lambda module, given, out: out * 1.1)


def _scaled(unet: Any) -> None:
    for module in unet.modules():
        if type(module).__name__ == "Attention":
            module.scale *= 2.0


def _exchanged(unet: Any) -> None:
    unet.conv_act = torch.nn.ReLU()


def _patched(unet: Any) -> None:
    old = unet.mid_block.forward
    unet.mid_block.forward = lambda *a, **k: old(*a, **k) * 1.1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_fused, "'unet' has fused projections.*unfuse_qkv_projections"),
        (_freeu, "up_blocks.0' .*'b1' set to 1.2"),
        (_lora, "adapter that was not merged"),
        (_processor, "attention processor IPAdapterAttnProcessor"),
        (_hooked, "'unet' computes something else .* differ by"),
        (_scaled, "'scale' set to"),
        (_exchanged, "'conv_act' of .* is a ReLU"),
        (_patched, "'unet' computes something else .* differ by"),
    ],
)
def test_what_was_changed_by_hand_is_refused(change: Any, text: str) -> None:
    pipeline = ddim()
    change(pipeline.unet)
    with pytest.raises(NiwakiError, match=text):
        adapt_pipeline(pipeline, steps=2)


def test_ways_to_save_memory_are_no_reason() -> None:
    pipeline = dit()
    pipeline.vae.enable_slicing()
    plain = adapt_pipeline(dit(), steps=2).sample(1, seed=0, condition=3)
    assert torch.equal(adapt_pipeline(pipeline, steps=2).sample(1, seed=0, condition=3), plain)
    pipeline.vae.enable_tiling()
    with pytest.raises(CallError, match="'vae' has 'use_tiling' set to True"):
        adapt_pipeline(pipeline, steps=2)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_in_memory_is_taken_as_float32(kind: torch.dtype) -> None:
    pipeline = ddim()
    pipeline.unet.to(kind)
    made = adapt_pipeline(pipeline, steps=2)
    assert {p.dtype for p in made.parameters()} == {torch.float32}
    assert {p.dtype for p in pipeline.unet.parameters()} == {kind}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda w: {k: v for k, v in w.items() if k != "conv_in.weight"},
            "lacks the weights 'conv_in.weight'",
        ),
        (lambda w: {f"module.{k}": v for k, v in w.items()}, "lacks the weights|cannot be read"),
        (lambda w: w | {"conv_in.extra": torch.ones(1)}, "has no place for the weights 'conv_in.extra'"),
        (lambda w: w | {"conv_in.weight": w["conv_in.weight"].to(torch.int8)}, "quantized weights .* is I8"),
        (lambda w: w | {"conv_in.lora_A.weight": torch.ones(1)}, "adapter that was not merged"),
        (lambda w: w | {"conv_in.weight": w["conv_in.weight"].to(torch.float8_e4m3fn)}, "is F8_E4M3"),
        (lambda w: w | {"conv_in.weight.absmax": torch.ones(1)}, "quantized weights"),
    ],
)
def test_weights_are_accounted_for_on_both_sides(change: Any, text: str, tmp_path: Path) -> None:
    ddim().save_pretrained(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(NiwakiError, match=text):
        adapt_pipeline(tmp_path, steps=2)


def test_added_tokens_are_read_or_refused(tmp_path: Path) -> None:
    """Textual inversion: a token for each learned word, known to the tokenizer and to the text encoder."""
    pipeline = text_to_image(tmp_path / "words")
    pipeline.tokenizer.add_tokens(["<my-cat>"])
    with pytest.raises(CallError, match="has 55 tokens, its text encoder knows 54"):
        adapt_pipeline(pipeline, steps=2)
    pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer))
    pipeline.save_pretrained(tmp_path / "sd")
    wanted = pipeline.tokenizer("a <my-cat> b", padding="max_length", max_length=12)["input_ids"]
    for source in (pipeline, tmp_path / "sd"):
        made = adapt_pipeline(source, steps=2)
        assert made.read_prompts("a <my-cat> b").tolist() == wanted
        assert 54 in wanted


def test_prompts_longer_than_the_text_encoder_reads_are_refused(tmp_path: Path) -> None:
    pipeline = text_to_image(tmp_path / "words")
    pipeline.tokenizer.model_max_length = 20
    with pytest.raises(CallError, match="model_max_length = 20, its text encoder reads 12"):
        adapt_pipeline(pipeline, steps=2)


def test_an_inpainting_network_is_refused() -> None:
    pipeline = dit()
    pipeline.register_modules(vae=type(vae()).from_config({**vae().config, "latent_channels": 3}))
    with pytest.raises(NiwakiError, match="takes 4 channels and its 'vae' has 3"):
        adapt_pipeline(pipeline, steps=2)
