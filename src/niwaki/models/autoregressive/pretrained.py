"""Weights of GPT-2- and Llama-like folders, as `transformers` writes them, read into our transformer:
`config.json` and safetensors, no pickle, no other package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, NiwakiError, Tokens, ValueSpec
from niwaki.core.hub_folder import PICKLES
from niwaki.core.paths import expanded
from niwaki.core.store import read_json
from niwaki.models.autoregressive.transformer import Transformer, TransformerConfig

__all__ = ["read_transformer"]

_TOKENIZER = "tokenizer.json"
_UNUSED = (".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq")  # buffers, no weights


def read_transformer(folder: str | Path, *, length: int | None = None, dropout: float = 0.0) -> Transformer:
    """The transformer in a folder: its logits are those of `transformers` to 1e-5.

    What stands before the first token is the folder's token for the beginning of a text. A `tokenizer.json`
    beside the weights goes with the model.

    length: tokens of a sequence; None is as many as the folder's model has places for
    Raises CallError for a folder without such a model; NiwakiError for files that cannot be read, and for
    weights that are missing or left over.
    """
    folder = expanded(folder)
    record = _described(folder)
    kind = str(record.get("model_type"))
    if kind not in _KINDS:
        raise CallError(f"'{folder}' holds a model of the type '{kind}'; those that can be read: {_names()}")
    settings, places, rename = _KINDS[kind](record, folder)
    weights = _weights(folder)
    length = places if length is None else length
    if not 1 <= length <= places:
        raise CallError(
            f"the model in '{folder}' has {places} places, so length must be 1 to {places}, not {length}"
        )
    text = (folder / _TOKENIZER).read_text() if (folder / _TOKENIZER).is_file() else ""
    values = Tokens(int(record["vocab_size"]), _TOKENIZER if text else "")
    spec = DataSpec({"x": ValueSpec("text", (length,), "T", values)})
    config = TransformerConfig(**settings, dropout=dropout, stride=min(32, length))
    model = Transformer(config, spec)
    _fill(model, {new: w for name, w in weights.items() for new, w in rename(name, w)}, record, folder)
    if text:
        model.files = {_TOKENIZER: text}
    return model.eval()


def _described(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise CallError(f"there is no config.json in '{folder}'")
    record = read_json(folder / "config.json")
    if not isinstance(record, dict):
        raise NiwakiError(f"{folder / 'config.json'} does not describe a model")
    return record


def _weights(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = next((f.name for f in sorted(folder.iterdir()) if f.suffix in PICKLES), None)
        why = f"'{pickled}' may be a pickle, which is not read" if pickled else "model.safetensors is missing"
        raise CallError(f"there are no weights in '{folder}': {why}")
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            found |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise NiwakiError(f"{file} cannot be read: {error}") from None
    return {name: w.float() for name, w in found.items() if not name.endswith(_UNUSED)}


Renamed = Callable[[str, Tensor], list[tuple[str, Tensor]]]


def _number(record: Mapping[str, Any], name: str, folder: Path, default: int | None = None) -> int:
    value = record.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise NiwakiError(f"{folder / 'config.json'}: '{name}' must be a whole number above 0, not {value!r}")
    return value


def _gpt2(record: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], int, Renamed]:
    """Radford et al. 2019. Its layers are written as convolutions, inputs first."""
    width = _number(record, "n_embd", folder)
    if record.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"):
        raise CallError(
            f"the activation '{record['activation_function']}' in '{folder}' is not that of GPT-2"
        )
    settings = {
        "width": width,
        "depth": _number(record, "n_layer", folder),
        "heads": _number(record, "n_head", folder),
        "hidden": record.get("n_inner") or 4 * width,
        "tied": bool(record.get("tie_word_embeddings", True)),
        "eps": record.get("layer_norm_epsilon", 1e-5),
        "positions": "learned",
        "feed_forward": "gelu",
        "bias": True,
    }
    parts = {
        "ln_1": "norm1",
        "ln_2": "norm2",
        "attn.c_proj": "attention.out",
        "mlp.c_fc": "up",
        "mlp.c_proj": "down",
    }

    def rename(name: str, w: Tensor) -> list[tuple[str, Tensor]]:
        name = name.removeprefix("transformer.")
        ends = {"wte.weight": "embed.weight", "wpe.weight": "places.weight", "lm_head.weight": "head.weight"}
        if name in ends:
            return [(ends[name], w)]
        if name.startswith("ln_f."):
            return [(name.replace("ln_f", "norm"), w)]
        _, layer, rest = name.split(".", 2)
        part, leaf = rest.rsplit(".", 1)
        w = w.t() if w.ndim == 2 else w
        if part == "attn.c_attn":
            each = zip("qkv", w.chunk(3, 0), strict=True)
            return [(f"blocks.{layer}.attention.{letter}.{leaf}", third) for letter, third in each]
        return [(f"blocks.{layer}.{parts.get(part, part)}.{leaf}", w)]

    return settings, _number(record, "n_positions", folder), rename


def _llama(record: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], int, Renamed]:
    """Touvron et al. 2023, and what is built like it."""
    width, heads = _number(record, "hidden_size", folder), _number(record, "num_attention_heads", folder)
    rope = record.get("rope_parameters") or record.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise CallError(f"the positions in '{folder}' are stretched ('rope_type'), which is not read")
    if (record.get("head_dim") or width // heads) * heads != width:
        raise CallError(f"the heads in '{folder}' are not as wide together as its stream, which is not read")
    if record.get("hidden_act", "silu") != "silu":
        raise CallError(f"the activation '{record['hidden_act']}' in '{folder}' is not that of Llama")
    biased = bool(record.get("attention_bias", record.get("model_type") == "qwen2"))
    window = record.get("sliding_window") if record.get("use_sliding_window", True) else None
    settings = {
        "width": width,
        "depth": _number(record, "num_hidden_layers", folder),
        "heads": heads,
        "kv_heads": _number(record, "num_key_value_heads", folder, heads),
        "hidden": _number(record, "intermediate_size", folder),
        "tied": bool(record.get("tie_word_embeddings", False)),
        "eps": record.get("rms_norm_eps", 1e-6),
        "base": rope.get("rope_theta", record.get("rope_theta", 10_000.0)),
        "window": window,
        "norm": "rms",
        "feed_forward": "swiglu",
        "bias": biased,
    }
    parts = {
        "input_layernorm": "norm1",
        "post_attention_layernorm": "norm2",
        "self_attn.q_proj": "attention.q",
        "self_attn.k_proj": "attention.k",
        "self_attn.v_proj": "attention.v",
        "self_attn.o_proj": "attention.out",
        "mlp.gate_proj": "gate",
        "mlp.up_proj": "up",
        "mlp.down_proj": "down",
    }

    def rename(name: str, w: Tensor) -> list[tuple[str, Tensor]]:
        name = name.removeprefix("model.")
        ends = {
            "embed_tokens.weight": "embed.weight",
            "norm.weight": "norm.weight",
            "lm_head.weight": "head.weight",
        }
        if name in ends:
            return [(ends[name], w)]
        _, layer, rest = name.split(".", 2)
        part, leaf = rest.rsplit(".", 1)
        return [(f"blocks.{layer}.{parts.get(part, part)}.{leaf}", w)]

    return settings, _number(record, "max_position_embeddings", folder), rename


def _mixtral(record: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], int, Renamed]:
    """Jiang et al. 2024: Llama's, with experts in each block, written one by one or all in a tensor."""
    settings, places, plain = _llama(record, folder)
    settings["experts"] = {
        "count": _number(record, "num_local_experts", folder),
        "chosen": _number(record, "num_experts_per_tok", folder),
        "balance": float(record.get("router_aux_loss_coef", 0.0)),
    }

    def rename(name: str, w: Tensor) -> list[tuple[str, Tensor]]:
        layer, found, rest = name.partition(next((p for p in _MIXTURES if p in name), "\0"))
        if not found:
            return plain(name, w)
        block = f"blocks.{layer.rsplit('.', 1)[-1]}.experts"
        if rest == "gate.weight":
            return [(f"{block}.router.weight", w)]
        if rest == "experts.gate_up_proj":
            halves = zip(("gate", "up"), w.chunk(2, 1), strict=True)
            return [
                (f"{block}.experts.{i}.{k}.weight", one) for k, half in halves for i, one in enumerate(half)
            ]
        if rest == "experts.down_proj":
            return [(f"{block}.experts.{i}.down.weight", one) for i, one in enumerate(w)]
        _, i, part, _ = rest.split(".")
        return [(f"{block}.experts.{i}.{ {'w1': 'gate', 'w2': 'down', 'w3': 'up'}[part] }.weight", w)]

    return settings, places, rename


_MIXTURES = (".block_sparse_moe.", ".mlp.")
"""What the experts of a block are called, by version of the package."""


_KINDS = {"gpt2": _gpt2, "llama": _llama, "mistral": _llama, "mixtral": _mixtral, "qwen2": _llama}


def _names() -> str:
    return ", ".join(sorted(_KINDS))


def _fill(model: Transformer, given: dict[str, Tensor], record: Mapping[str, Any], folder: Path) -> None:
    """Weights into their places. Raises NiwakiError for those that are missing, left over or of another
    shape."""
    own = model.state_dict()
    first = record.get("bos_token_id")
    first = 0 if first is None else int(first)
    for name in ("embed.weight", "head.weight"):  # ours have a row more: the token before the first
        if name in given:
            given[name] = torch.cat([given[name], given[name][first : first + 1]])
    if "places.weight" in given:
        rows = given["places.weight"]
        places = len(own["places.weight"])
        more = max(0, places - len(rows))  # read beyond the end, but never looked at
        given["places.weight"] = torch.cat([rows, rows.new_zeros(more, rows.shape[1])])[:places]
    if model.config.tied:
        given["head.weight"] = given["embed.weight"]
    elif "head.weight" not in given and "embed.weight" in given:
        raise NiwakiError(f"the weights in '{folder}' have no 'lm_head'")
    for name in own:
        if name.endswith("attention.out.bias") and name not in given:  # Qwen's has none
            given[name] = torch.zeros_like(own[name])
    for what, names in (("missing", own.keys() - given.keys()), ("left over", given.keys() - own.keys())):
        if names:
            raise NiwakiError(f"weights in '{folder}' are {what}: {', '.join(sorted(names)[:3])}")
    for name, weight in given.items():
        if weight.shape != own[name].shape:
            shapes = f"{tuple(weight.shape)} instead of {tuple(own[name].shape)}"
            raise NiwakiError(f"'{name}' in '{folder}' has the shape {shapes}")
    model.load_state_dict(given)
