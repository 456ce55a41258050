"""Chats as data: records of several habits, splits, masks, and the questions that are on board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading import docs_chats, python_docs
from niwaki.data.reading.chat_files import conversation_of, read_chats
from niwaki.data.sources import chats as source
from niwaki_runtime.chat_template import Chats
from niwaki_runtime.tokenizer import FILE

ASKED = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
RECORDS: list[dict[str, Any]] = [
    {"messages": ASKED},
    {"prompt": "Why?", "completion": "So."},
    {"prompt": "Why?", "response": "So."},
    {"instruction": "Why?", "input": "", "output": "So."},
    {"question": "Why?", "answer": "So."},
    {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
    {"messages": [*ASKED, {"role": "user", "content": "unanswered"}]},
]


@pytest.mark.parametrize("record", RECORDS, ids=[",".join(r) for r in RECORDS])
def test_records_of_every_habit_are_the_same_conversation(record: dict[str, Any]) -> None:
    assert conversation_of(record) == ASKED


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ([], "table"),
        ({}, "neither"),
        ({"messages": []}, "empty"),
        ({"messages": [{"role": "judge", "content": "a"}]}, "judge"),
        ({"messages": [{"role": "user", "content": 3}]}, "no text"),
        ({"messages": [{"role": "user", "content": "a"}]}, "nothing in it"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "nothing was asked"),
        ({"messages": [*ASKED, ASKED[1]]}, "an answer follows an answer"),
        ({"messages": [{"role": "user", "content": "\ud800"}, ASKED[1]]}, "surrogate"),
        ({"prompt": "a", "response": "b\udfff"}, "surrogate"),
    ],
)
def test_records_without_a_conversation_say_why(record: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        conversation_of(record)


ENDS = ("\n", "\r\n", "\r")


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x7f", "\ufeff"])
def test_lines_end_where_those_of_json_do(tmp_path: Path, inside: str) -> None:
    asked = f"one{inside}two"
    raw = json.dumps({"prompt": asked, "response": "So."}, ensure_ascii=False)
    for end in ENDS:
        file = tmp_path / "chats.jsonl"
        file.write_bytes(("\ufeff" + end.join([raw, raw, ""])).encode())
        found, findings, _ = read_chats(str(file))
        assert [chat[0]["content"] for chat in found] == [asked, asked]
        assert not findings


@pytest.mark.parametrize("broken", ["[" * 100_000, '{"messages": ' + "[" * 100_000, "{", "1" * 5000, "nul"])
def test_a_broken_line_is_set_aside_and_no_other(tmp_path: Path, broken: str) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join([json.dumps(RECORDS[0]), broken, json.dumps(RECORDS[1])]))
    found, findings, _ = read_chats(str(file))
    assert found == [ASKED, ASKED]
    assert [f.kind for f in findings] == ["unreadable"]
    file.write_text(broken)
    with pytest.raises(CallError, match="holds no conversation"):
        read_chats(str(file))


def lines(n: int = 120) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What is {i} times {i}?", "response": f"It is {i * i}.", "system": "Reckon."}
        for i in range(n)
    ]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, lines())))
    return tmp_path


def loaded(home: Path, **settings: Any) -> Dataset:
    path = settings.pop("path", str(home / "chats.jsonl"))
    return load(DataConfig.model_validate({"source": "chats", "path": path, "length": 64, **settings}))


@pytest.mark.parametrize("settings", [{}, {"vocabulary": 280}])
def test_rows_are_conversations_filled_up_with_the_end(settings: dict[str, Any], home: Path) -> None:
    dataset = loaded(home, **settings)
    chats = Chats.of(dataset.files)
    assert dataset.spec.x.values.end == chats.end
    said = set()
    for split in (dataset.train, dataset.validation, dataset.test):
        for x, mask, prompt, size in zip(
            split.x.tolist(), split.column("answers").data.tolist(), split.column("prompt").data.tolist(),
            split.attributes["bytes"].tolist(), strict=True,
        ):  # fmt: skip
            messages = chats.messages(x)
            tokens, counted = chats.tokens(messages)
            assert x == tokens + [chats.end] * (64 - len(tokens))
            assert mask == counted + [0] * (64 - len(tokens))
            assert [t for t in prompt if t >= 0] == chats.prompt(messages[:-1])
            assert size == len(messages[-1]["content"]) + 1
            said.add(messages[1]["content"])
    assert said == {one["prompt"] for one in lines()}


def test_a_question_lies_in_one_split_whatever_is_answered(home: Path) -> None:
    twice = [{**one, "response": f"{one['response']} {k}"} for one in lines(60) for k in "ab"]
    (home / "chats.jsonl").write_text("\n".join(map(json.dumps, twice)))
    dataset = loaded(home)
    chats = Chats.of(dataset.files)
    asked = [{chats.messages(x)[1]["content"] for x in s.x} for s in dataset.splits.values()]
    assert sum(map(len, asked)) == len(set.union(*asked)) == 60


def test_what_does_not_fit_ends_earlier_or_is_set_aside(home: Path) -> None:
    more = [{"role": "user", "content": "x" * 50}, {"role": "assistant", "content": "y"}]
    long = [
        {
            "messages": [
                {"role": "user", "content": f"Why {i}?"},
                {"role": "assistant", "content": "So."},
                *more,
            ]
        }
        for i in range(60)
    ]
    long.append({"prompt": "z" * 80, "response": "a"})
    (home / "chats.jsonl").write_text("\n".join(map(json.dumps, long)))
    dataset = loaded(home)
    assert all(len(Chats.of(dataset.files).messages(x)) == 2 for x in dataset.train.x)
    words = " ".join(f.text for f in dataset.audit.findings)
    assert "1 conversations whose first answer" in words
    assert "60 conversations end before" in words


def test_broken_lines_are_set_aside_and_named(home: Path) -> None:
    with open(home / "chats.jsonl", "a") as file:
        file.write('\n{"messages": 3}\nnot json\n')
    found = [f for f in loaded(home).audit.findings if f.kind == "unreadable"]
    assert len(found) == 1
    assert "2 lines" in found[0].text
    assert [item.split(" ")[0] for item in sorted(found[0].items)] == ["chats.jsonl:121:", "chats.jsonl:122:"]


@pytest.mark.parametrize("text", ["", "{}", "not json"])
def test_a_file_without_conversations_is_refused(text: str, home: Path) -> None:
    (home / "other.jsonl").write_text(text)
    with pytest.raises(CallError, match="no conversation"):
        loaded(home, path=str(home / "other.jsonl"))


def test_the_tokenizer_of_a_base_comes_first(home: Path) -> None:
    base = loaded(home, vocabulary=270).files[FILE]
    known = json.loads(base)
    known["added_tokens"] = [a for a in known["added_tokens"] if a["id"] < 270]
    dataset = loaded(home, tokenizer=json.dumps(known))
    assert dataset.files[FILE] == base
    assert dataset.spec.levels == 274


def some_entries() -> list[docs_chats.Entry]:
    return [
        docs_chats.Entry(f"mod.f{i}", f"a{i}, *, b", f"Return the thing of number {i}.") for i in range(300)
    ]


@pytest.mark.parametrize("dealt", [0.0, 0.8])
def test_functions_of_the_test_split_are_in_no_training_conversation(
    dealt: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path))
    monkeypatch.setattr(docs_chats, "entries", some_entries)
    texts = [f"Say what {i} is, and why. Return the thing of number {i}." for i in range(400)]
    monkeypatch.setattr(python_docs, "documents", lambda: iter(texts))
    options = {"source": "python-docs-chats", "length": 700, "chats": 200, "dealt": dealt}
    dataset = load(DataConfig.model_validate(options))
    chats = Chats.of(dataset.files)
    known = {e.line: e for e in some_entries()}
    assert set(dataset.splits) == {"train", "validation", "test", source.REPHRASED}

    def said(split: str) -> str:
        return "\n".join(chats.said(x) for x in dataset.split(split).x)

    learned, asked_later = said("train"), said("test") + said("validation")
    others = [e for e in known.values() if f" {e.name}(" in asked_later]
    assert len(others) > 60
    for entry in others:
        assert f" {entry.name}(" not in learned
        assert entry.sentence not in learned
    kept = [way.split("{")[0] for topic in docs_chats.TOPICS for way in topic.rephrased]
    for name, split in dataset.splits.items():
        for x in split.x:
            messages = chats.messages(x)
            notes = messages[0]["content"].split("\n")
            assert name == "train" or set(notes) <= set(known)
            for asked, answer in zip(messages[1::2], messages[2::2], strict=True):
                call = answer["content"].removeprefix("Call it as ").removeprefix("See ").split(":")[0]
                assert sum(call in note for note in notes) == (answer["content"] != docs_chats.UNKNOWN)
                last = name == source.REPHRASED and answer is messages[-1]
                assert not any(asked["content"].startswith(k) for k in kept) or last


def test_entries_are_short_and_stand_once() -> None:
    found = [
        e for path, module in list(python_docs.modules())[:25] for e in docs_chats.entries_of(path, module)
    ]
    assert len(found) > 20
    assert all(np.array([len(e.name), len(e.arguments), len(e.sentence)]).max() <= 80 for e in found)
    assert all(e.sentence.endswith(".") and "\n" not in e.line for e in found)
