"""Files of LoRA weights, as diffusers, peft and kohya's scripts write them, as pairs of matrices by layer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.hub_folder import PICKLES
from niwaki.core.store import read_json

__all__ = ["Lora", "Pair", "read_pairs"]

_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""What diffusers and peft call the file in a folder."""
_MATRIX = re.compile(r"^(.+?)[._]lora(?:_linear_layer)?[._](A|B|down|up)(?:\.default)?\.weight$")
_MAGNITUDE = re.compile(r"^(.+?)[._](lora_magnitude_vector)(?:\.default)?(?:\.weight)?$")
"""Of DoRA, as peft writes it."""
_ALPHA = re.compile(r"^(.+?)(?:[._]lora(?:_linear_layer)?)?\.(alpha)$")
"""Keys: the layer, and what it is of."""
_OLD = (
    (re.compile(r"\.processor(?=\.to_)"), ""),
    (re.compile(r"\.to_out$"), ".to_out.0"),
)
"""What diffusers called the layers of attention when their weights were those of a processor."""
_OLD_TEXT = tuple((re.compile(rf"\.to_{a}$"), f".{b}_proj") for a, b in zip("qkv", "qkv", strict=True)) + (
    (re.compile(r"\.to_out(\.0)?$"), ".out_proj"),
)
_FLAT = {"lora_unet_": "", "lora_transformer_": "", "lora_te_": "text_encoder", "lora_te1_": "text_encoder",
         "lora_te2_": "text_encoder_2", "lora_te3_": "text_encoder_3"}  # fmt: skip
"""What stands before names of layers whose dots are underscores → the component."""


@dataclass(frozen=True)
class Lora:
    """A file of LoRA weights, or the folder of one, and the factor s that they are added with."""

    path: Path
    scale: float = 1.0

    @classmethod
    def of(cls, given: str | Path) -> Lora:
        """`path`, or `path:0.8`. Raises CallError where nothing lies there."""
        path, scale = Path(given).expanduser(), 1.0
        if not path.exists():
            before, colon, after = str(given).rpartition(":")
            with suppress(ValueError):  # a name with a colon in it
                path, scale = (Path(before).expanduser(), float(after)) if colon else (path, scale)
        if not path.exists():
            raise CallError(f"there are no LoRA weights at {path} (PATH, or PATH:0.8 to scale them)")
        return cls(path, scale)


@dataclass(frozen=True)
class Pair:
    """The two matrices of one layer.

    key:       of the first of them in the file, for what is said
    component: of the pipeline; empty for the denoiser
    module:    name of the layer in it; `flat` where its dots are underscores
    down, up:  A `(r, in, …)` and B `(out, r, …)`
    factor:    α/r
    magnitude: of DoRA, one number for each output; None of LoRA
    """

    key: str
    component: str
    module: str
    flat: bool
    down: Tensor
    up: Tensor
    factor: float
    magnitude: Tensor | None = None


def read_pairs(path: Path) -> list[Pair]:
    """All pairs of a file, or of the one in a folder. Raises CallError for a pickle, for a folder without
    such a file, for keys that are not those of LoRA and for a matrix without its other."""
    file = _file(path)
    tensors, settings = _read(file)
    layers: dict[str, dict[str, Any]] = {}
    for key, value in tensors.items():
        match = _MATRIX.match(key) or _MAGNITUDE.match(key) or _ALPHA.match(key)
        if match is None:
            raise CallError(
                f"{file} holds '{key}', which is no weight of LoRA as diffusers and peft write it ("
                "LoHa, LoKr, biases and whole layers are not merged here); merge it where it was made"
            )
        layer = layers.setdefault(match[1], {})
        layer[{"A": "down", "B": "up"}.get(match[2], match[2])] = value
        layer.setdefault("key", key)
    pairs = []
    for name, layer in layers.items():
        if "down" not in layer or "up" not in layer:
            lacking = "A (down)" if "down" not in layer else "B (up)"
            raise CallError(f"{file} holds '{layer['key']}' and not its matrix {lacking}")
        component, module, flat = _place(name)
        rank = int(layer["down"].shape[0])
        alpha = float(layer["alpha"]) if "alpha" in layer else None
        factor = alpha / rank if alpha is not None else _factor(settings, component, module, rank)
        magnitude = layer.get("lora_magnitude_vector")
        pairs.append(
            Pair(layer["key"], component, module, flat, layer["down"], layer["up"], factor, magnitude)
        )
    if not pairs:
        raise CallError(f"{file} holds no weights")
    return pairs


def _file(path: Path) -> Path:
    if path.is_dir():
        found = next((path / name for name in _FILES if (path / name).is_file()), None)
        if found is None:
            raise CallError(f"{path} holds no LoRA weights ({' or '.join(_FILES)})")
        return found
    if path.suffix.lower() in PICKLES:
        raise CallError(f"{path} is a pickle, which can run any code when it is read; give it as safetensors")
    return path


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights by key, and the settings that diffusers writes into the file or peft beside it."""
    try:
        with safe_open(str(file), framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            noted = (opened.metadata() or {}).get("lora_adapter_metadata")
    except (OSError, SafetensorError) as error:
        raise NiwakiError(f"{file} is not a whole safetensors file: {error}") from error
    beside = file.parent / "adapter_config.json"
    if noted:
        return tensors, dict(json.loads(noted))
    if file.name == "adapter_model.safetensors" and beside.is_file():
        return tensors, dict(read_json(beside))
    return tensors, {}


def _place(name: str) -> tuple[str, str, bool]:
    """Component, layer and whether its name is flat."""
    for start, component in _FLAT.items():
        if name.startswith(start):
            return component, name.removeprefix(start), True
    name = name.removeprefix("base_model.model.")
    first, _, rest = name.partition(".")
    component = first if first in ("unet", "transformer") or first.startswith("text_encoder") else ""
    module = rest if component else name
    for pattern, new in _OLD_TEXT if component.startswith("text_encoder") else _OLD:
        module = pattern.sub(new, module)
    return component, module, False


def _factor(settings: Mapping[str, Any], component: str, module: str, rank: int) -> float:
    """α/r by peft's settings, α/√r where they are rank-stabilised; 1 where nothing says α."""
    before = f"{component}." if component and f"{component}.lora_alpha" in settings else ""
    alpha = settings.get(f"{before}lora_alpha")
    for pattern, value in (settings.get(f"{before}alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    if alpha is None:
        return 1.0
    return float(alpha) / (math.sqrt(rank) if settings.get(f"{before}use_rslora") else rank)
