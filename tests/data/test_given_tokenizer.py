"""Text cut with a tokenizer that is given: its tokens, its identity, and models that read with another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, load
from niwaki.data.reading.tokens import byte_tokenizer, learned_tokenizer
from niwaki.data.sources.text import passages
from niwaki.evaluation.judges.reading import bytes_of, refuse_other_tokens
from niwaki_runtime.tokenizer import FILE, Tokenizer

LINES = [
    f"Paragraph {i} says that {i * 7 % 13} cats sat on {i * 5 % 11} mats, and why not." for i in range(400)
]
TEXT = "\n\n".join(LINES)


def made(kind: str = "bytes", size: int = 300) -> str:
    if kind == "bytes":
        return learned_tokenizer(LINES, size)
    found = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.decoder = decoders.WordPiece(cleanup=False)
    found.train_from_iterator(
        LINES, trainers.WordPieceTrainer(vocab_size=90, special_tokens=["[UNK]", "[SEP]"])
    )
    return str(found.to_str())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def config(home: Path, **settings: Any) -> DataConfig:
    return DataConfig.model_validate(
        {"source": "text", "path": str(home / "text.txt"), "length": 32, **settings}
    )


@pytest.mark.parametrize("kind", ["bytes", "words"])
@pytest.mark.parametrize("end", [None, 1])
def test_windows_are_the_text_in_the_given_tokens(kind: str, end: int | None, home: Path) -> None:
    text = made(kind)
    dataset = load(config(home, tokenizer=text, **({} if end is None else {"end": end})))
    theirs = tokenizers.Tokenizer.from_str(text)
    assert dataset.spec.levels == theirs.get_vocab_size()
    assert dataset.files[FILE] == text
    between = [end] if end is not None else theirs.encode("\n\n").ids
    every = {tuple(theirs.encode(p).ids + between) for p in passages([TEXT])}
    for window in dataset.train.x[:20].tolist():
        inside = any(_holds(row + row, window[4:20]) for row in every) or any(
            _holds(a, window[4:12]) or _holds(a, window[12:20]) for a in every
        )
        assert inside
    size = float(dataset.train.attributes["bytes"].double().mean()) / 32
    said = len(bytes_of(dataset, dataset.train.x.numpy().astype(np.int64)) or b"") / dataset.train.x.numel()
    assert abs(size - said) < 0.35 * said  # blanks between words are counted, and not always written


def _holds(row: tuple[int, ...], part: list[int]) -> bool:
    return any(list(row[i : i + len(part)]) == part for i in range(len(row) - len(part) + 1))


def test_the_tokenizer_is_part_of_the_data_wherever_it_lies(home: Path) -> None:
    (home / "a").mkdir()
    (home / "a" / FILE).write_text(made())
    (home / "b.json").write_text(made())
    other = json.loads(made())
    other["added_tokens"].append({**other["added_tokens"][0], "id": 300, "content": "<never>"})
    given = (str(home / "a"), str(home / "b.json"), made(), json.dumps(other))
    prints = [load(config(home, tokenizer=where)).fingerprint for where in given]
    assert len(set(prints[:3])) == 1
    assert prints[3] != prints[0]


def test_data_without_one_stay_what_they_were(home: Path) -> None:
    assert not {"tokenizer", "end"} & config(home).model_dump().keys()
    assert load(config(home)).files[FILE] == byte_tokenizer()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"tokenizer": "nowhere.json"}, "there is no tokenizer.json at 'nowhere.json'"),
        ({"tokenizer": "{}"}, "not the text of a tokenizer"),
        (
            {"tokenizer": json.dumps({"model": {"vocab": {"a": 0}}, "decoder": {"type": "X"}})},
            "no decoder 'X'",
        ),
        ({"tokenizer": made(), "vocabulary": 400}, "has 300 tokens, data.vocabulary is 400"),
        ({"tokenizer": made(), "end": 300}, "data.end must be a token"),
        ({"end": 3}, "data.end is a token of data.tokenizer"),
    ],
)
def test_what_does_not_fit_is_said(settings: dict[str, Any], text: str, home: Path) -> None:
    with pytest.raises(CallError, match=text):
        load(config(home, **settings))


def _permuted(record: dict[str, Any]) -> None:
    vocabulary = record["model"]["vocab"]
    names = sorted(vocabulary, key=vocabulary.get)
    record["model"]["vocab"] = {n: i for i, n in enumerate([*names[:5], *reversed(names[5:])])}


def _unmerged(record: dict[str, Any]) -> None:
    record["model"]["merges"] = record["model"]["merges"][:-1]


def _prefixed(record: dict[str, Any]) -> None:
    record["pre_tokenizer"]["add_prefix_space"] = True


def _lowered(record: dict[str, Any]) -> None:
    record["normalizer"] = {"type": "Lowercase"}


def _added(record: dict[str, Any]) -> None:
    record["added_tokens"][0]["content"] = "<end>"


@pytest.mark.parametrize("change", [_permuted, _unmerged, _prefixed, _lowered, _added])
def test_another_tokenizer_of_the_same_size_is_refused(change: Any, home: Path) -> None:
    record = json.loads(made())
    change(record)
    dataset = load(config(home, tokenizer=made()))
    with pytest.raises(CallError, match="cut with another tokenizer than the model's"):
        refuse_other_tokens({FILE: json.dumps(record)}, dataset)


def test_the_same_tokenizer_in_other_words_is_the_same(home: Path) -> None:
    dataset = load(config(home, tokenizer=made()))
    record = json.loads(made())
    record["truncation"] = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    record["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in record["model"]["merges"]]
    for text in (json.dumps(record, indent=1), tokenizers.Tokenizer.from_str(made()).to_str(pretty=True)):
        refuse_other_tokens({FILE: text}, dataset)
    refuse_other_tokens({}, dataset)
    assert len(Tokenizer(made())) == 300
