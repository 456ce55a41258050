"""Folders of `transformers` read into our transformer: the same logits, and one sentence for every other
folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from niwaki.core.contract import CallError, NiwakiError
from niwaki.models.autoregressive.pretrained import read_transformer

transformers = pytest.importorskip("transformers")

LEVELS, LENGTH = 61, 24
_SHARED: dict[str, Any] = {"vocab_size": LEVELS, "bos_token_id": 3, "eos_token_id": 1}
_WIDE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": LENGTH,
    **_SHARED,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": LENGTH, **_SHARED}),
    "llama": ("llama", _WIDE),
    "llama, tied, other base": ("llama", {**_WIDE, "tie_word_embeddings": True, "rope_theta": 500.0}),
    "llama, biases": ("llama", {**_WIDE, "attention_bias": True}),
    "mistral, window": ("mistral", {**_WIDE, "sliding_window": 7}),
    "qwen2": ("qwen2", _WIDE),
    "mixtral": (
        "mixtral",
        {**_WIDE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
}


def network(kind: str, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **settings), attn_implementation="eager"
    )
    with torch.no_grad():
        for p in made.parameters():
            p += 0.1 * torch.randn_like(p)
    return made.eval()


@pytest.mark.parametrize(("kind", "settings"), KINDS.values(), ids=KINDS)
def test_logits_are_those_of_transformers(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = network(kind, settings)
    theirs.save_pretrained(tmp_path)
    ours = read_transformer(tmp_path)
    x = torch.randint(LEVELS, (3, LENGTH), generator=torch.Generator().manual_seed(0))
    fed = torch.cat([torch.full((3, 1), 3), x[:, :-1]], 1)
    with torch.no_grad():
        expected = theirs(input_ids=fed, use_cache=False).logits
        torch.testing.assert_close(ours.logits(x), expected, atol=1e-5, rtol=1e-5)
        greedy = ours.sample(1, seed=0, temperature=0.0)
        assert torch.equal(ours.logits(greedy).argmax(-1), greedy)


def test_shorter_sequences_and_a_tokenizer(tmp_path: Path) -> None:
    network(*KINDS["gpt2"]).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    model = read_transformer(tmp_path, length=9)
    assert model.spec.shape == (9,)
    assert model.files == {"tokenizer.json": "{}"}
    with pytest.raises(CallError, match="1 to 24"):
        read_transformer(tmp_path, length=25)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "opt"}, "'opt'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "stretched"),
        ({"head_dim": 16}, "heads"),
        ({"hidden_act": "relu"}, "relu"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_hidden_layers": 3}, "missing"),
        ({"num_hidden_layers": 1}, "left over"),
        ({"intermediate_size": 48}, "shape"),
    ],
)
def test_other_folders_are_refused_in_one_sentence(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    network(*KINDS["llama"]).save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(record | change))
    with pytest.raises(NiwakiError, match=says) as caught:
        read_transformer(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="no config"):
        read_transformer(tmp_path)
    network(*KINDS["llama"]).config.save_pretrained(tmp_path)
    with pytest.raises(CallError, match="missing"):
        read_transformer(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CallError, match="pickle"):
        read_transformer(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(NiwakiError, match="cannot be read"):
        read_transformer(tmp_path)
