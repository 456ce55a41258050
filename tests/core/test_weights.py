"""Weights from elsewhere are taken whole, or what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from niwaki.core.weights import matched, refuse_quantized, stored_types
from niwaki_runtime.errors import CallError, NiwakiError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


def weights() -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network().state_dict().items()}


def test_counters_of_batch_norm_are_not_asked_for() -> None:
    own, bare = weights(), {k: v for k, v in weights().items() if "num_batches" not in k}
    found = matched(own, bare, "file")
    network().load_state_dict(found)
    assert found.keys() == own.keys()


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_another_width_are_taken(kind: torch.dtype) -> None:
    given = {k: v.to(kind) if v.is_floating_point() else v.float() for k, v in weights().items()}
    network().load_state_dict(matched(weights(), given, "file"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "g_ema.", "model.", "a.b.", "generator."])
@pytest.mark.parametrize("beside", [False, True])
def test_a_prefix_is_named(prefix: str, beside: bool) -> None:
    given = {prefix + k: v for k, v in weights().items()} | ({"d.0.bias": torch.ones(1)} if beside else {})
    text = f"names its weights with '{prefix}' in front .*removeprefix"
    with pytest.raises(NiwakiError, match=text) as caught:
        matched(weights(), given, "file")
    assert ("1 weights of something else" in str(caught.value)) == beside
    with pytest.raises(NiwakiError, match=f"without the '{prefix}'"):
        matched({prefix + k: v for k, v in weights().items()}, weights(), "file")


@pytest.mark.parametrize(
    "kind",
    [
        torch.int8,
        torch.uint8,
        torch.int32,
        torch.bool,
        torch.complex64,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
    ],
)
def test_numbers_of_another_kind_are_no_weights(kind: torch.dtype) -> None:
    given = weights()
    given["2.weight"] = given["2.weight"].to(kind)
    with pytest.raises(NiwakiError, match=r"'2.weight' as .*give the float weights"):
        matched(weights(), given, "file")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("2.qweight", "quantized weights"),  # GPTQ, AWQ
        ("2.weight.absmax", "quantized weights"),  # bitsandbytes, 4 bits
        ("2.SCB", "quantized weights"),  # bitsandbytes, 8 bits
        ("2.weight_scale_inv", "quantized weights"),  # fp8
        ("2.weight_packed", "quantized weights"),  # compressed-tensors
        ("2.lora_A.weight", "adapter that was not merged"),
        ("2.base_layer.weight", "adapter that was not merged"),
        ("unet.down.lora.up.weight", "adapter that was not merged"),
        ("3.bias", "holds '3.bias', which the model does not have"),
    ],
)
def test_what_the_network_has_no_place_for_is_named(name: str, text: str) -> None:
    with pytest.raises(NiwakiError, match=text):
        matched(weights(), weights() | {name: torch.ones(2)}, "file")


def test_missing_ones_are_named_and_counted() -> None:
    with pytest.raises(NiwakiError, match=r"lacks the weights 0\.bias and 6 more"):
        matched(weights(), {"0.weight": weights()["0.weight"]}, "file")


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "torchao"])
def test_a_quantized_config_is_refused_by_its_method(method: str) -> None:
    config = json.loads(json.dumps({"quantization_config": {"quant_method": method, "bits": 4}}))
    with pytest.raises(CallError, match=f"quantized weights .*{method}.*float weights"):
        refuse_quantized(config, {}, "folder")


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_types_are_read_without_the_weights(kind: torch.dtype, tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(2).to(kind), "a.bias": torch.zeros(2)}, tmp_path / "x.safetensors")
    types = stored_types([tmp_path / "x.safetensors"])
    assert types.keys() == {"a.weight", "a.bias"}
    assert types["a.bias"] == "F32"
    with pytest.raises(CallError, match=r"'a.weight' is"):
        refuse_quantized({}, types, "folder")
    refuse_quantized({}, {"h.attn.bias": "U8", "a.weight": "BF16"}, "folder")  # a mask, and a plain type
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(NiwakiError, match="not a whole safetensors file"):
        stored_types([tmp_path / "x.safetensors"])
