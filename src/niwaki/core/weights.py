"""Weights from elsewhere against those that a network has: all is taken, or what does not fit is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from niwaki_runtime.errors import CallError, NiwakiError, nearest

__all__ = ["matched", "refuse_adapters", "refuse_quantized", "stored_types"]

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""What is a number as it stands. Floats of eight bits and fewer need their scales."""
_COUNTERS = "num_batches_tracked"
"""Of BatchNorm: counted in training, never read when sampling; older files have none."""
_QUANTIZED = re.compile(
    r"\.(qweight|qzeros|g_idx|SCB|absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*|"
    r"weight_packed|weight_scale(_inv)?|weight_zero_point|weight_format|input_scale|blocks|W_q|codebooks)$"
)
"""What quantized weights are called: GPTQ, AWQ, bitsandbytes, fp8, compressed-tensors, MXFP4, HQQ, AQLM."""
_NUMBERS = {"F64", "F32", "F16", "BF16"}
_ADAPTERS = re.compile(r"(^|[._])(lora|loha|lokr|oft|hada|ia3|dora)_|\.base_layer\.|lora\.(down|up)\.")


def matched(own: Mapping[str, Tensor], given: Mapping[str, Tensor], origin: Any) -> dict[str, Tensor]:
    """`given`, ready to be loaded strictly: with every name of `own`, in its shapes, as numbers of its kind.

    own:    the network's `state_dict`
    origin: where they come from, for what is said
    Counters of BatchNorm that are missing stay as they are.
    Raises NiwakiError naming what is missing, not known, of another shape or type, under a prefix, or an
    adapter that was not merged.
    """
    foreign = {name: given[name] for name in given.keys() - own.keys()}
    refuse_adapters(foreign, origin)
    refuse_quantized({}, {name: _kind(value) for name, value in foreign.items()}, origin)
    counters = {name for name in own if name.endswith(_COUNTERS)}
    missing = sorted(own.keys() - given.keys() - counters)
    if missing:
        _prefixed(own.keys() - counters, given, origin)
        raise NiwakiError(f"{origin} lacks the weights {_some(missing)}")
    extra = sorted(given.keys() - own.keys())
    if extra:
        more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
        raise NiwakiError(
            f"{origin} holds '{extra[0]}'{more}, which the model does not have; {nearest(extra[0], own)}"
        )
    for name, value in given.items():
        mine = own[name]
        if mine.shape != value.shape:
            raise NiwakiError(
                f"{origin} does not fit the model: it has {name} {tuple(value.shape)}, "
                f"not {tuple(mine.shape)}"
            )
        if not _takes(mine.dtype, value.dtype) and name not in counters:
            raise NiwakiError(
                f"{origin} holds '{name}' as {_type(value.dtype)}, where the model has {_type(mine.dtype)}; "
                "quantized or converted weights are no numbers without their scales: give the float weights"
            )
    return {**{name: own[name] for name in counters}, **given}


def refuse_quantized(config: Mapping[str, Any], types: Mapping[str, str], origin: Any) -> None:
    """Raises CallError where a config or the names and types of weights say that they are not the float ones.

    types: of each weight, as safetensors calls it (`BF16`, `I8`, `F8_E4M3` …)
    """
    remedy = "niwaki needs the float weights: name the model that it was made from, and quantize here"
    for name in ("quantization_config", "compression_config", "quantization"):
        if found := config.get(name):
            method = found.get("quant_method") or found.get("method") if isinstance(found, Mapping) else found
            raise CallError(
                f"{origin} holds quantized weights ({name}: {method or 'of an unnamed kind'}); {remedy}"
            )
    for name, kind in types.items():
        odd = name.endswith(("weight", "_proj")) and kind not in _NUMBERS
        if odd or kind.startswith(("F8", "F4", "F6")) or _QUANTIZED.search(name):
            raise CallError(f"{origin} holds quantized weights ('{name}' is {kind}); {remedy}")


def refuse_adapters(names: Iterable[str], origin: Any) -> None:
    """Raises CallError where weights are those of LoRA or its kin, beside a network or alone."""
    found = sorted(name for name in names if _ADAPTERS.search(name))
    if found:
        raise CallError(
            f"{origin} holds {len(found)} weights of an adapter that was not merged ('{found[0]}'); "
            "merge it into the network first (fuse_lora in diffusers, merge_and_unload in peft)"
        )


def stored_types(files: Sequence[Path]) -> dict[str, str]:
    """Type of each weight in safetensors files, as they call it. Raises NiwakiError for a damaged file."""
    found: dict[str, str] = {}
    for path in files:
        try:
            with safe_open(str(path), framework="pt") as file:
                found |= {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise NiwakiError(f"{path} is not a whole safetensors file: {error}") from error
    return found


def _takes(mine: torch.dtype, given: torch.dtype) -> bool:
    if mine == given or (mine in FLOATS and given in FLOATS):
        return True
    return _whole(mine) and _whole(given)


def _whole(kind: torch.dtype) -> bool:
    return not (kind.is_floating_point or kind.is_complex or kind == torch.bool)


def _kind(value: Tensor) -> str:
    """The type of a tensor, as far as `refuse_quantized` asks: integers may be a network's own."""
    if value.is_floating_point() and value.dtype not in FLOATS:
        return _type(value.dtype).upper().replace("FLOAT", "F")
    return "F32"


def _type(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _prefixed(own: Iterable[str], given: Mapping[str, Tensor], origin: Any) -> None:
    """Raises NiwakiError where the names would fit without what stands in front of them, or with it."""
    names = set(own)
    first = min(names)
    for name in given:
        prefix = name.removesuffix(first)
        if prefix != name and prefix.endswith(".") and all(prefix + n in given for n in names):
            rest = sum(not n.startswith(prefix) for n in given)
            beside = f" and holds {rest} weights of something else" if rest else ""
            kept = f" if k.startswith('{prefix}')" if rest else ""
            raise NiwakiError(
                f"{origin} names its weights with '{prefix}' in front ('{name}'){beside}; write them "
                'without: python -c "from safetensors.torch import load_file as l, save_file as s; '
                f"s({{k.removeprefix('{prefix}'): v for k, v in l('{origin}').items(){kept}}}, 'PLAIN')\""
            )
    for prefix in sorted({n[: i + 1] for n in names for i, c in enumerate(n) if c == "."}, key=len):
        if all(n.removeprefix(prefix) in given for n in names):
            raise NiwakiError(
                f"{origin} names its weights without the '{prefix}' that the model's names begin with "
                f"('{first}'): give the weights of the whole module, or the part of it that they are of"
            )


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
