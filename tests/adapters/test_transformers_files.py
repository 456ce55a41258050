"""Folders in and out: safetensors and JSON only, tied weights once, and a tokenizer that stays with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from small_language import LENGTH, adapted, network

from niwaki.adapters.language import LanguageModel, adapt_language_model
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_tensors
from niwaki.data.reading.tokens import byte_tokenizer, learned_tokenizer
from niwaki.models import load_model, save_model
from niwaki_runtime.tokenizer import Tokenizer


def loaded(folder: Path, **options: object) -> LanguageModel:
    return adapt_language_model(folder, length=LENGTH, stride=8, **options)  # type: ignore[arg-type]


def test_a_folder_holds_the_same_model_and_its_tokenizer(tmp_path: Path) -> None:
    network("llama", vocab_size=300).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer())
    model = loaded(tmp_path)
    again = adapted("llama", tokenizer=byte_tokenizer())
    assert torch.equal(model.sample(2, seed=0), again.sample(2, seed=0))
    assert model.tokenizer_json == byte_tokenizer()
    assert loaded(tmp_path, tokenizer=byte_tokenizer()).tokenizer_json == byte_tokenizer()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama, tied", "gpt2"])
def test_it_is_reloaded_in_a_fresh_process_without_the_folder(name: str, tmp_path: Path) -> None:
    network(name, vocab_size=300).save_pretrained(tmp_path / "theirs")
    model = loaded(tmp_path / "theirs", tokenizer=byte_tokenizer())
    shutil.rmtree(tmp_path / "theirs")
    save_model(model, tmp_path / "ours")
    kept = read_tensors(tmp_path / "ours" / "model.safetensors")
    assert sum(k.endswith(("lm_head.weight", "wte.weight", "embed_tokens.weight")) for k in kept) == 1
    assert "dtype" not in json.loads((tmp_path / "ours" / "model.json").read_text())["config"]["network"]
    program = (
        "import sys, numpy; from niwaki.models import load_model; m = load_model(sys.argv[1]);"
        "numpy.save(sys.argv[2], m.sample(3, seed=5).numpy()); print(len(m.tokenizer_json))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "ours"), str(tmp_path / "x.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), model.sample(3, seed=5).numpy())
    assert int(done.stdout) == len(byte_tokenizer())


def test_what_is_loaded_is_the_same_and_still_tied(tmp_path: Path) -> None:
    model = adapted("llama, tied", tokenizer=byte_tokenizer(), prompt=4, stop=-1)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, LanguageModel)
    assert again.config == model.config
    assert again.sampler() == model.sampler()
    assert again.network.lm_head.weight is again.network.model.embed_tokens.weight
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def test_gpt2s_transposed_layers_become_plain_ones() -> None:
    kinds = {type(m).__name__ for m in adapted("gpt2").modules()}
    assert "Conv1D" not in kinds
    assert "Linear" in kinds


def test_norms_become_torchs_own_where_they_are_the_same() -> None:
    def kinds(name: str) -> set[str]:
        return {type(m).__name__ for m in adapted(name).modules() if "Norm" in type(m).__name__}

    assert kinds("llama") == {"RMSNorm"}
    assert kinds("qwen3") == {"RMSNorm"}
    assert kinds("gemma3") == {"Gemma3RMSNorm"}  # its weights count from 0


def test_a_tokenizer_of_the_package_is_taken_as_it_is() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    text = learned_tokenizer(["to be or not to be, that is the question " * 5] * 3, 270)
    model = adapted("llama", tokenizer=tokenizers.Tokenizer.from_str(text))
    words = "that is not it"
    assert Tokenizer(model.tokenizer_json).decode(Tokenizer(text).encode(words)) == words


def test_pickled_weights_are_refused_with_the_remedy(tmp_path: Path) -> None:
    network("llama").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(CallError, match=r"pickle can run any program .*save_pretrained"):
        loaded(tmp_path)
    with pytest.raises(CallError, match="pickle can run any program"):
        loaded(tmp_path / "pytorch_model.bin")


def test_code_of_its_own_is_not_run(tmp_path: Path) -> None:
    network("llama").save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('')")
    record |= {"model_type": "mine", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(CallError, match="code of its own, which is not run"):
        loaded(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="there is no folder"):
        loaded(tmp_path / "nowhere")
    network("llama").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NiwakiError, match="could not be loaded as a language model"):
        loaded(tmp_path)
    file.unlink()
    with pytest.raises(NiwakiError, match=r"model\.safetensors is missing"):
        loaded(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**record, "num_hidden_layers": 3}))
    file.write_bytes(whole)
    with pytest.raises(NiwakiError, match="lacks 9 weights"):
        loaded(tmp_path)


def test_a_name_on_the_hub_is_fetched_without_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network("llama").save_pretrained(tmp_path)
    asked: list[str] = []

    def fetch(name: str, *, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        if name != "their/model":
            raise OSError("no network")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    model = adapt_language_model("their/model", length=LENGTH, stride=8)
    assert torch.equal(model.sample(2, seed=0), adapted("llama").sample(2, seed=0))
    assert not any(fnmatch(f, p) for p in asked for f in ("pytorch_model.bin", "modeling.py", "x.pt"))
    with pytest.raises(NiwakiError, match="could not be had from the hub"):
        adapt_language_model("another/model")


def test_an_encoder_is_no_language_model(tmp_path: Path) -> None:
    network("llama").save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**record, "model_type": "vit"}))
    with pytest.raises(CallError, match="type 'vit', no causal language model"):
        loaded(tmp_path)
