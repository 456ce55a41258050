"""Every setting of a language model is taken over or refused by name, and what is built again is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from small_language import LENGTH, adapted, network
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from niwaki.adapters.language import adapt_language_model
from niwaki.core.contract import CallError, NiwakiError
from niwaki.models import load_model, save_model
from niwaki_runtime.tokenizer import Tokenizer

FITS = {"length": LENGTH, "stride": 8}
TEXTS = ["to be, or not to be: that is the question. ", "whether 'tis nobler in the mind to suffer "] * 8


def tokenizer(*, first: bool = False, last: bool = False, kind: str = "bytes") -> tokenizers.Tokenizer:
    """Byte pairs with 280 tokens, or words with a normaliser; `first` and `last` are put around texts."""
    if kind == "bytes":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=280,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    else:
        made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["<s>", "</s>", "[UNK]"])
    made.train_from_iterator(TEXTS, trainer)
    if first or last:
        template = f"{'<s> ' if first else ''}$A{' </s>' if last else ''}"
        made.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return made


def folder(path: Path, name: str = "llama", words: tokenizers.Tokenizer | None = None, **files: Any) -> Path:
    """A model as its library writes it, with a tokenizer, and `files` beside or in the place of its own."""
    network(name, vocab_size=300).save_pretrained(path)
    if words is not None:
        words.save(str(path / "tokenizer.json"))
    for stem, record in files.items():
        old = path / f"{stem}.json"
        kept = json.loads(old.read_text()) if old.is_file() and isinstance(record, dict) else {}
        old.write_text(json.dumps({**kept, **record} if isinstance(record, dict) else record))
    return path


@pytest.mark.parametrize(
    "setting",
    [
        {"repetition_penalty": 1.1}, {"no_repeat_ngram_size": 3}, {"min_p": 0.1}, {"num_beams": 4},
        {"suppress_tokens": [3, 4]}, {"begin_suppress_tokens": [5]}, {"bad_words_ids": [[7, 8]]},
        {"min_new_tokens": 5}, {"forced_eos_token_id": 1}, {"typical_p": 0.9}, {"guidance_scale": 2.0},
        {"stop_strings": ["end"]}, {"max_time": 1.0}, {"a_setting_of_tomorrow": 3},
        {"sequence_bias": [[[3], 1.0]]}, {"exponential_decay_length_penalty": [4, 1.1]},
    ],
)  # fmt: skip
def test_a_generation_setting_without_a_counterpart_is_refused_by_name(setting: dict[str, Any]) -> None:
    made = network("llama")
    for name, value in setting.items():
        setattr(made.generation_config, name, value)
        with pytest.raises(CallError, match=f"generation setting '{name}'.*ignore="):
            adapt_language_model(made, **FITS)
        assert adapt_language_model(made, ignore=[name], **FITS).config.length == LENGTH


def test_settings_that_change_no_token_are_no_reason() -> None:
    made = network("llama")
    made.generation_config.update(
        max_new_tokens=5, pad_token_id=3, use_cache=False, repetition_penalty=1.0, num_beams=1,
        min_length=0, output_scores=True, temperature=0.3, top_p=0.2,
    )  # fmt: skip
    config = adapt_language_model(made, **FITS).config
    assert (config.temperature, config.top_k, config.top_p) == (
        1.0,
        0,
        1.0,
    )  # nobody says: draw


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, (1.0, 50, 1.0)),  # what transformers takes where nothing is said
        ({"temperature": 0.6, "top_p": 0.9}, (0.6, 50, 0.9)),
        ({"temperature": 1.3, "top_k": 0}, (1.3, 0, 1.0)),
    ],
)
def test_what_is_drawn_from_is_taken_over(given: dict[str, Any], wanted: tuple[float, int, float]) -> None:
    made = network("llama")
    made.generation_config.update(do_sample=True, **given)
    sampler = adapt_language_model(made, **FITS).sampler()
    assert (sampler.temperature, sampler.top_k, sampler.top_p) == wanted


@pytest.mark.parametrize(
    ("files", "stops"),
    [
        ({"generation_config": {"eos_token_id": [1, 7, 9]}}, (1, 7, 9)),
        ({"generation_config": {"eos_token_id": 5}}, (5,)),
        ({"generation_config": {"eos_token_id": [7, 7, 299, 300, 1]}}, (7, 299, 1)),  # 300 cannot be made
        ({"generation_config": {"eos_token_id": None}}, ()),
    ],
)
def test_every_stop_token_stops(files: dict[str, Any], stops: tuple[int, ...], tmp_path: Path) -> None:
    model = adapt_language_model(folder(tmp_path, **files), **FITS)
    assert tuple(t for t in (model.config.stop, *model.config.stops) if t >= 0) == stops
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    for sample in model.sample(30, seed=0, temperature=2.0).tolist():
        at = next((i for i, token in enumerate(sample) if token in stops), LENGTH - 1)
        assert set(sample[at:]) == {sample[at]}
    named = theirs.generation_config.eos_token_id
    assert set(stops) <= set(named if isinstance(named, list) else [named])
    save_model(model, tmp_path / "ours")
    again = load_model(tmp_path / "ours")
    assert again.sampler() == model.sampler()


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("first", [False, True])
def test_a_prompt_is_continued_as_the_library_continues_it(name: str, first: bool, tmp_path: Path) -> None:
    """With the token of beginning where the tokenizer puts it, and without where it puts none."""
    words = tokenizer(first=first)
    model = adapt_language_model(folder(tmp_path, name, words), **FITS)
    assert model.config.alone != first
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    for text in ("to be", "the mind of", "x"):
        ids, own = words.encode(text).ids, Tokenizer(model.tokenizer_json).encode(text)
        prompt = np.full(model.config.prompt, -1)
        prompt[: len(own)] = own
        made = model.sample(1, seed=0, condition=prompt, temperature=0.0)[0].tolist()
        wanted = theirs.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=LENGTH - len(own),
            do_sample=False, pad_token_id=1,
        )[0].tolist()[len(ids) - len(own) :]  # fmt: skip
        assert made[: len(wanted)] == wanted


def test_the_first_token_that_is_given_stands_before_every_prompt() -> None:
    made = adapted("llama", tokenizer=tokenizer(), first=5)
    assert (made.config.first, made.config.alone) == (5, False)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"tokenizer": json.loads(tokenizer(last=True).to_str())}, "behind every text"),
        ({"tokenizer_config": {"tokenizer_class": "X", "auto_map": {"AutoTokenizer": ["a.B"]}}}, "read"),
        ({"tokenizer": []}, "tokenizer.json"),
        ({"tokenizer": {"decoder": {"type": "Guess"}}}, "no decoder 'Guess'"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_is_not_covered_is_refused(files: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(NiwakiError, match=text):
        adapt_language_model(folder(tmp_path, words=tokenizer(), **files), **FITS)


@pytest.mark.parametrize("kind", ["bytes", "words"])
def test_files_beside_the_tokenizer_are_read_as_the_library_reads_them(kind: str, tmp_path: Path) -> None:
    words = tokenizer(kind=kind, first=True)
    count = words.get_vocab_size()
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": True,
        "added_tokens_decoder": {
            str(count): {"content": "<user>", "special": True}, str(count + 1): {"content": "zebra"}
        },
    }  # fmt: skip
    folder(tmp_path, words=words, tokenizer_config=config)
    model = adapt_language_model(tmp_path, **FITS)
    assert (model.config.first, model.config.alone) == (0, False)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer(model.tokenizer_json)
    for text in ("to be <user> a zebra , isn 't it ?", "zebras"):
        ids = theirs(text)["input_ids"]
        assert ids == [0, *ours.encode(text)]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_tokens_that_the_network_does_not_know_are_refused(tmp_path: Path) -> None:
    words = tokenizer()
    words.add_tokens([f"extra {i}" for i in range(30)])
    with pytest.raises(CallError, match=r"up to number 309, the LlamaForCausalLM knows 300"):
        adapt_language_model(folder(tmp_path, words=words), **FITS)


def _scaled(made: Any) -> None:
    made.model.layers[1].self_attn.scaling *= 2.0


def _hooked(made: Any) -> None:
    made.model.norm.register_forward_hook(lambda module, given, out: out * 1.5)


def _exchanged(made: Any) -> None:
    made.model.layers[0].mlp = torch.nn.Identity()


def _turned(made: Any) -> None:
    made.model.rotary_emb.inv_freq *= 0.5


def _grown(made: Any) -> None:
    made.model.layers[0].extra = torch.nn.Linear(3, 3)


def _adapter(made: Any) -> None:
    made.model.layers[0].mlp.lora_A = torch.nn.Linear(32, 2, bias=False)


def _patched(made: Any) -> None:
    old = made.model.layers[1].mlp.forward
    made.model.layers[1].mlp.forward = lambda x: old(x) + 0.1


def _normed(made: Any) -> None:
    made.model.norm.variance_epsilon = 0.1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_scaled, "'model.layers.1.self_attn'.*'scaling' set to"),
        (_hooked, "differ by .* from what transformers computes"),
        (_exchanged, "lacks the weights|has no place|which the model does not have|Identity"),
        (_turned, "buffer 'model.rotary_emb.inv_freq'"),
        (_grown, "extra"),
        (_adapter, "adapter that was not merged"),
        (_patched, "differ by .* from what transformers computes"),
        (_normed, "'variance_epsilon' set to 0.1"),
    ],
)
def test_what_was_changed_by_hand_is_refused(change: Any, text: str) -> None:
    made = network("llama")
    change(made)
    with pytest.raises(NiwakiError, match=text):
        adapt_language_model(made, **FITS)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "mixtral"])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_float32_and_stays_so(name: str, kind: torch.dtype, tmp_path: Path) -> None:
    """From memory and from a folder alike, as the library computes with float32; read back, the same bits."""
    half = network(name).to(kind)
    half.save_pretrained(tmp_path / "theirs")
    ours = [adapt_language_model(half, **FITS), adapt_language_model(tmp_path / "theirs", **FITS)]
    assert all(p.dtype == kind for p in half.parameters())  # what was given stays as it is
    save_model(ours[0], tmp_path / "ours")
    x = torch.randint(2, 61, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = [m.logits(x) for m in (*ours, load_model(tmp_path / "ours"))]  # type: ignore[attr-defined]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def _without(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in weights.items() if k != "model.norm.weight"}


def _renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{k}": v for k, v in weights.items()}


def _whole_numbers(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: (v * 10).to(torch.int8) if v.ndim == 2 else v for k, v in weights.items()}


def _eighths(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.to(torch.float8_e4m3fn) if v.ndim == 2 else v for k, v in weights.items()}


def _wider(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: torch.cat([v, v]) if k.endswith("up_proj.weight") else v for k, v in weights.items()}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_without, "lacks 1 weights, 'model.norm.weight'"),
        (_renamed, "named with 'module.' in front"),
        (_whole_numbers, "quantized weights .* is I8"),
        (_eighths, "quantized weights .* is F8_E4M3"),
        (_wider, "up_proj|could not be loaded"),
        (lambda w: w | {"model.layers.0.mlp.up_proj.bias": torch.ones(48)}, "holds 1 weights .*no place for"),
        (
            lambda w: w | {"model.layers.2.mlp.up_proj.weight": torch.ones(48, 32)},
            "holds 1 weights .*no place",
        ),
        (lambda w: w | {"model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(2, 32)}, "adapter"),
        (lambda w: w | {"model.layers.0.mlp.up_proj.qweight": torch.ones(2, 32)}, "quantized weights"),
    ],
)
def test_weights_are_accounted_for_on_both_sides(change: Any, text: str, tmp_path: Path) -> None:
    folder(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(NiwakiError, match=text):
        adapt_language_model(tmp_path, **FITS)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4"])
def test_quantized_folders_are_refused_by_their_method(method: str, tmp_path: Path) -> None:
    folder(tmp_path, config={"quantization_config": {"quant_method": method, "bits": 4}})
    with pytest.raises(CallError, match=f"{method}.*float weights"):
        adapt_language_model(tmp_path, **FITS)


@pytest.mark.parametrize(
    "settings",
    [{"return_dict": False}, {"output_hidden_states": True}, {"output_attentions": True}, 
     {"torchscript": True}, {"use_cache": False}],
)  # fmt: skip
def test_the_form_of_an_answer_is_no_setting(settings: dict[str, Any], tmp_path: Path) -> None:
    plain = adapted("llama")
    network("llama").save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**record, **settings}))
    made = adapt_language_model(tmp_path, **FITS)
    assert torch.equal(made.sample(2, seed=0), plain.sample(2, seed=0))


@pytest.mark.parametrize(
    "settings", [{"hidden_act": "nothing"}, {"num_attention_heads": 5}, {"hidden_size": "wide"},
                 {"rope_parameters": {"rope_type": "odd"}}, {"num_hidden_layers": -1}]
)  # fmt: skip
def test_a_broken_config_is_one_sentence(settings: dict[str, Any], tmp_path: Path) -> None:
    folder(tmp_path, config=settings)
    with pytest.raises(NiwakiError):
        adapt_language_model(tmp_path, **FITS)


def test_an_adapter_alone_is_no_model(tmp_path: Path) -> None:
    folder(tmp_path, adapter_config={"peft_type": "LORA"})
    with pytest.raises(CallError, match=r"an adapter .* no whole model"):
        adapt_language_model(tmp_path, **FITS)


_MIXED = {
    "vocab_size": 61, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 48,
    "intermediate_size": 48, "moe_intermediate_size": 16, "num_experts": 4, "num_local_experts": 4,
    "num_experts_per_tok": 2, "moe_num_experts": 4, "moe_k": 2, "n_routed_experts": 4, "n_group": 1,
    "topk_group": 1, "shared_expert_intermediate_size": 16, "head_dim": 8,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["olmoe", "qwen2_moe", "granitemoe", "phimoe", "ernie4_5_moe", "gpt_oss"])
def test_experts_become_plain_layers_or_the_model_is_refused(kind: str) -> None:
    """Equal to the library's own, which `adapt_language_model` compares; gpt-oss has attention sinks."""
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **_MIXED))
    if kind == "gpt_oss":
        with pytest.raises(CallError, match="attention sinks"):
            adapt_language_model(made, **FITS)
        return
    model = adapt_language_model(made, **FITS)
    assert "PlainExperts" in {type(module).__name__ for module in model.modules()}
    assert all(p.ndim < 3 for p in model.parameters())
