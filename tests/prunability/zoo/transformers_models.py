"""transformers' language models and encoders, small and untrained."""

from __future__ import annotations

from typing import Any

import torch
from prunability.zoo.case import Calls, case, floats, whole
from torch import nn

TOKENS = whole("tokens", 32, 8)
SMALL: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "attn_implementation": "eager",
}  # fmt: skip


def _language(name: str, **settings: Any) -> None:
    @case("transformers", TOKENS, name=name.lower())
    def make() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{name}Config")(**{**SMALL, **settings})
        cls = getattr(transformers, f"{name}ForCausalLM", None) or getattr(transformers, f"{name}LMHeadModel")
        model = cls(config).eval()
        return Calls(model, lambda m, x: m(input_ids=x, use_cache=False, return_dict=True).logits)


_language("GPT2", n_embd=32, n_layer=2, n_head=4, n_positions=16)
_language("Llama", num_key_value_heads=2)
_language("Qwen2", num_key_value_heads=2)
_language("Qwen3", num_key_value_heads=2, head_dim=8)
_language("GPTNeoX")
_language("OPT", ffn_dim=48, word_embed_proj_dim=32)
_language("Bloom", n_head=4, n_layer=2)
_language("Mistral", num_key_value_heads=2)
_language("Gemma", num_key_value_heads=1, head_dim=8)
_language("Phi")
_language("StableLm", num_key_value_heads=4)
_language("GPTJ", n_embd=32, n_layer=2, n_head=4, n_positions=16, rotary_dim=4)
_language("Falcon", num_kv_heads=4, multi_query=False, new_decoder_architecture=False, alibi=False)


@case("transformers", TOKENS)
def t5_encoder() -> nn.Module:
    """Relative positions: a table with one column per head."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    return Calls(T5EncoderModel(config).eval(), lambda m, x: m(input_ids=x).last_hidden_state)


@case("transformers", TOKENS)
def clip_text() -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    model = CLIPTextModelWithProjection(CLIPTextConfig(**SMALL, projection_dim=16)).eval()
    return Calls(model, lambda m, x: m(input_ids=x).text_embeds)


@case("transformers", TOKENS)
def bert() -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    return Calls(BertForMaskedLM(BertConfig(**SMALL)).eval(), lambda m, x: m(input_ids=x).logits)


@case("transformers", floats("x", 3, 16, 16))
def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    settings = {k: v for k, v in SMALL.items() if k not in ("vocab_size", "max_position_embeddings")}
    config = ViTConfig(**settings, image_size=16, patch_size=4, num_labels=5)
    return Calls(ViTForImageClassification(config).eval(), lambda m, x: m(pixel_values=x).logits)


torch.manual_seed(0)
