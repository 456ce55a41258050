"""Raw text for a language model that brings its tokenizer is cut with that; other windows are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_language import adapted

import niwaki
from niwaki.core.contract import CallError
from niwaki.data import DataConfig, load
from niwaki.data.reading.tokens import byte_tokenizer, learned_tokenizer
from niwaki.workflow.context import context_for
from niwaki.workflow.given_model import check_samples_fit
from niwaki.workflow.own_tokenizer import cut_with_own, with_file, write_tokenizer
from niwaki_runtime.tokenizer import FILE, Tokenizer

LINES = [f"Paragraph {i} says that {i * 7 % 13} cats sat on {i * 5 % 11} mats, why not." for i in range(400)]
OTHERS = [f"In {i} other words, {i % 9} dogs lie under {i % 7} chairs of wood." for i in range(400)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("\n\n".join(LINES))
    return tmp_path


def data(place: Path, **settings: Any) -> dict[str, Any]:
    return {"source": "text", "path": str(place / "text.txt"), "length": 32, **settings}


@pytest.mark.parametrize("size", [270, 300])
def test_raw_text_is_cut_with_the_models_own(size: int, place: Path) -> None:
    text = learned_tokenizer(LINES, size)
    model = adapted("llama", tokenizer=text)
    context = context_for(data(place))
    cut_with_own(context, model)
    dataset = context.dataset
    assert dataset.files[FILE] == model.tokenizer_json == text
    assert dataset.spec.levels == size
    check_samples_fit(model, dataset)
    read = Tokenizer(text).decode(dataset.train.x[0].tolist())
    assert any(word in read for word in ("Paragraph", "cats", "mats"))
    assert (dataset.train.x == model.config.stop).any()  # between passages stands what ends a sample


@pytest.mark.parametrize("vocabulary", [None, 300])
@pytest.mark.parametrize("stop", [-1, 0])
def test_text_is_cut_as_it_was_for_training(place: Path, vocabulary: int | None, stop: int) -> None:
    """Whoever judges a model of learned tokens later reads the windows that its own run read."""
    learned = load(DataConfig.model_validate(data(place, vocabulary=300)))
    model = adapted("llama", tokenizer=learned.files[FILE])
    model.config = model.config.model_copy(update={"stop": stop})
    context = context_for(data(place, **({} if vocabulary is None else {"vocabulary": vocabulary})))
    cut_with_own(context, model)
    for split in ("train", "test"):
        assert np.array_equal(context.dataset.split(split).x, learned.split(split).x)
    assert vocabulary is None or context.dataset.fingerprint == learned.fingerprint


def test_a_vocabulary_that_is_learned_is_another_tokenizer(place: Path) -> None:
    model = adapted("llama", tokenizer=learned_tokenizer(LINES, 300))
    with pytest.raises(CallError, match=r"data\.vocabulary=280 learns a tokenizer.*of 300 tokens"):
        cut_with_own(context_for(data(place, vocabulary=280)), model)


@pytest.mark.parametrize("other", ["bytes", "of the same size", "given"])
def test_windows_in_other_tokens_are_refused(other: str, place: Path) -> None:
    """Before anything is trained or judged, whatever the number of tokens."""
    model = adapted("llama", tokenizer=learned_tokenizer(LINES, 300))
    foreign = learned_tokenizer(OTHERS, 300)
    settings = {"bytes": {}, "of the same size": {"vocabulary": 300}, "given": {"tokenizer": foreign}}[other]
    dataset = load(DataConfig.model_validate(data(place, **settings)))
    if other == "of the same size":
        dataset.files[FILE] = foreign
    with pytest.raises(CallError, match="cut with another tokenizer than the model's"):
        niwaki.compress(model, data=dataset, out=place / "small", plan=[{"kind": "quantize"}])
    with pytest.raises(CallError, match="cut with another tokenizer than the model's"):
        niwaki.evaluate(model, data=dataset)
    assert not (place / "small").exists()


def test_bytes_stay_bytes(place: Path) -> None:
    """A model of plain bytes reads what the source makes anyhow: the same data as ever."""
    context = context_for(data(place))
    cut_with_own(context, adapted("llama", tokenizer=byte_tokenizer()))
    assert context.dataset.fingerprint == load(DataConfig.model_validate(data(place))).fingerprint
    assert context.dataset.train.x.dtype == context.dataset.train.x.new_empty(0).byte().dtype


def test_a_run_names_its_tokenizer_by_a_file(place: Path) -> None:
    text = learned_tokenizer(LINES, 280)
    config = DataConfig.model_validate(data(place, tokenizer=text))
    section = with_file(config.model_dump(mode="json"), place / "run")
    assert section["tokenizer"] == str(place / "run" / FILE)
    write_tokenizer(config, place / "run")
    again = load(DataConfig.model_validate(section))
    assert again.fingerprint == load(config).fingerprint
    assert np.array_equal(again.test.x, load(config).test.x)
