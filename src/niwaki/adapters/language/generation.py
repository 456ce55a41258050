"""How a language model is to be sampled by its own settings: `generation_config.json`, or config.json."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from niwaki.core.contract import CallError

__all__ = ["Generation", "generation_of"]

_NEUTRAL: dict[str, float] = {
    "min_length": 0, "min_new_tokens": 0, "num_beams": 1, "num_beam_groups": 1, "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0,
    "typical_p": 1.0, "min_p": 0.0, "top_h": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
    "diversity_penalty": 0.0, "guidance_scale": 1.0, "penalty_alpha": 0.0, "assistant_ensemble_weight": 0.0,
}  # fmt: skip
"""Settings → the value that changes nothing. Any setting is neutral where it is none, false or empty."""
_TRANSLATED = ("eos_token_id", "bos_token_id", "do_sample", "temperature", "top_k", "top_p")
_SILENT = (
    "max_length", "max_new_tokens", "max_cache_len", "pad_token_id", "decoder_start_token_id",
    "length_penalty", "early_stopping", "use_cache", "cache_implementation", "cache_config",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    "return_dict_in_generate", "return_legacy_cache", "renormalize_logits", "remove_invalid_values",
    "num_assistant_tokens",
    "is_assistant", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_early_exit",
    "assistant_lookbehind", "target_lookbehind", "prompt_lookup_num_tokens", "max_matching_ngram_size",
    "use_mtp", "speculation_type", "compile_config", "disable_compile", "continuous_batching_config",
    "low_memory", "prefill_chunk_size", "transformers_version", "trust_remote_code",
)  # fmt: skip
"""Settings that change how tokens are reached, not which; lengths, which are arguments of ours."""
_TOP_K = 50
"""What transformers takes where it is to draw and nothing is said."""


@dataclass(frozen=True)
class Generation:
    """What of the settings is taken over.

    stops: tokens that end a sample
    first: tokens that may stand before the first one, the likeliest first
    temperature, top_k, top_p: where the settings say that samples are drawn; else those of the model itself
    """

    stops: tuple[int, ...]
    first: tuple[int, ...]
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


def generation_of(network: Any, levels: int, ignore: Collection[str] = ()) -> Generation:
    """The generation settings of a language model of transformers.

    levels: tokens that the model can make
    ignore: settings that are left out on purpose
    Raises CallError, by name, for a setting that has an effect and no counterpart here.
    """
    record = {k: v for k, v in vars(network.generation_config).items() if not k.startswith("_")}
    for name, value in sorted(record.items()):
        if name in (*_TRANSLATED, *_SILENT, *ignore) or value is None or value is False:
            continue
        if isinstance(value, list | tuple | dict | str) and not value:
            continue
        if name in _NEUTRAL and value == _NEUTRAL[name]:
            continue
        raise CallError(
            f"the model's generation setting '{name}' ({value!r}) has no counterpart in niwaki's sampler; "
            f"ignore=['{name}'] samples without it"
        )
    first = (*_tokens(record, "bos_token_id", levels), *_tokens(record, "eos_token_id", levels))
    found = Generation(_tokens(record, "eos_token_id", levels), first)
    if not record.get("do_sample"):
        return found
    temperature, top_k, top_p = (record.get(name) for name in ("temperature", "top_k", "top_p"))
    return Generation(
        found.stops,
        found.first,
        1.0 if temperature is None else _number("temperature", temperature),
        _TOP_K if top_k is None else int(_number("top_k", top_k)),
        1.0 if top_p is None else _number("top_p", top_p),
    )


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CallError(f"the model's generation setting '{name}' must be a number, not {value!r}")
    return value


def _tokens(record: dict[str, Any], name: str, levels: int) -> tuple[int, ...]:
    """Tokens that a setting names, one or several; those that the model cannot make are none."""
    value = record.get(name)
    every = value if isinstance(value, list | tuple) else [] if value is None else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in every):
        raise CallError(f"the model's generation setting '{name}' must be a token or several, not {value!r}")
    return tuple(dict.fromkeys(token for token in every if 0 <= token < levels))
