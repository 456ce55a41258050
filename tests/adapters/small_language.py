"""Language models of `transformers` in small: every architecture that the cache was written for."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from niwaki.adapters.language import LanguageModel, adapt_language_model

LEVELS, LENGTH = 61, 32

_SHARED: dict[str, Any] = {"vocab_size": LEVELS, "bos_token_id": 0, "eos_token_id": 1}
_WIDE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 48,
    **_SHARED,
}
_GROUPED = {**_WIDE, "intermediate_size": 48, "num_key_value_heads": 2}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48, **_SHARED}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _GROUPED),
    "llama, tied": ("llama", {**_GROUPED, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {**_GROUPED, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**_GROUPED, "head_dim": 16}),
    "mistral, window": ("mistral", {**_GROUPED, "sliding_window": 7}),
    "gpt2": ("gpt2", _GPT2),
    "gpt_neox": ("gpt_neox", {**_WIDE, "intermediate_size": 64}),
    "opt": ("opt", {**_WIDE, "ffn_dim": 64, "word_embed_proj_dim": 32, "pad_token_id": 1}),
    "mixtral": ("mixtral", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": (
        "qwen3_moe",
        {**_GROUPED, "moe_intermediate_size": 16, "num_experts": 5, "num_experts_per_tok": 2, "head_dim": 16},
    ),
    "gemma3": ("gemma3_text", {**_GROUPED, "head_dim": 8, "sliding_window": 7}),
}


def network(name: str, **more: Any) -> Any:
    """Always the same weights, large enough for logits that differ; more: settings of the configuration."""
    kind, settings = CONFIGS[name]
    settings = {**settings, **more}
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **settings), attn_implementation="eager"
    )
    with torch.no_grad():
        for p in made.parameters():
            p += 0.1 * torch.randn_like(p)
    return made.eval()


def adapted(name: str, **options: Any) -> LanguageModel:
    """With as many tokens as the tokenizer has, where one is given."""
    more = {"vocab_size": 300} if "tokenizer" in options else {}
    return adapt_language_model(network(name, **more), **{"length": LENGTH, "stride": 8, **options})
