"""Text in windows: nothing is lost or shared between splits, and the tokens say what the text said."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, Feeder, load
from niwaki.data.reading import python_docs
from niwaki.data.sources.text import PASSAGE, passages, tokenizer_json
from niwaki.data.splitting import by_hash
from niwaki_runtime.tokenizer import Tokenizer

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "wizards", "mix"]


def essay(seed: int, paragraphs: int = 60) -> str:
    rng = np.random.default_rng(seed)
    return "\n\n".join(" ".join(rng.choice(WORDS, 40)) for _ in range(paragraphs))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(4):
        (tmp_path / f"{i}.txt").write_text(essay(i), encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def topics() -> Dataset:
    return load(DataConfig(source="python-docs", length=128, docstrings=False))


def test_passages_lose_no_paragraph() -> None:
    text = essay(0)
    found = passages([text, "", "\n\n\n", "end"])
    assert "\n\n".join(found) == f"{text}\n\nend"
    assert all(len(p) >= PASSAGE for p in found[:-2])
    assert passages(["a\0b"]) == ["ab"]


def test_windows_are_the_passages_of_their_split_in_order(folder: Path) -> None:
    config = DataConfig(source="text", path=str(folder), length=64)
    data = load(config)
    pieces = passages(essay(i) for i in range(4))
    split = by_hash([hashlib.sha256(p.encode()).digest() for p in pieces], config.fractions, 0)
    for k, name in enumerate(("train", "validation", "test")):
        stream = b"".join(p.encode() + b"\0" for p, s in zip(pieces, split, strict=True) if s == k)
        count = len(stream) // 64
        wanted = {stream[i * 64 : (i + 1) * 64] for i in range(count)}
        assert {bytes(row.tolist()) for row in data.split(name).x} == wanted
        assert len(data.split(name)) == count


def test_what_training_sees(topics: Dataset) -> None:
    assert topics.spec.modality == "text"
    assert (topics.spec.shape, topics.spec.levels) == ((128,), 256)
    batch = Feeder(topics.train, 8, seed=0).batch(0)
    assert batch.x.dtype == torch.int64
    assert batch.x.shape == (8, 128)
    text = Tokenizer(tokenizer_json(DataConfig(source="python-docs", docstrings=False))).decode(batch.x[0])
    assert sum(c.isascii() and (c.isalpha() or c == " ") for c in text) > 64


def test_it_is_the_same_again_and_elsewhere(topics: Dataset, tmp_path: Path, folder: Path) -> None:
    again = load(DataConfig(source="python-docs", length=128, docstrings=False))
    assert again.fingerprint == topics.fingerprint
    other = load(DataConfig(source="python-docs", length=128, docstrings=False, seed=1))
    assert other.fingerprint != topics.fingerprint
    here = load(DataConfig(source="text", path=str(folder)))
    moved = folder.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert load(DataConfig(source="text", path=str(moved))).fingerprint == here.fingerprint


def test_learned_tokens_are_fewer_and_say_the_same(folder: Path) -> None:
    pytest.importorskip("tokenizers")
    config = DataConfig(source="text", path=str(folder), length=32, vocabulary=300)
    data = load(config)
    tokenizer = Tokenizer(tokenizer_json(config))
    assert len(tokenizer) == data.spec.levels == 300
    text = essay(0) + essay(1) + essay(2) + essay(3)
    inside = [tokenizer.decode(row, special=True) for row in data.train.x]
    assert all(all(part in text for part in row.split("<|endoftext|>")) for row in inside)
    sizes = data.train.attributes["bytes"].double()
    spelled = torch.tensor([float(len(r.replace("<|endoftext|>", "\0"))) for r in inside]).double()
    assert abs(float((sizes.mean() / spelled.mean()) - 1)) < 0.02
    assert float(sizes.mean()) > 2 * 32


def test_bytes_weigh_one_each(topics: Dataset) -> None:
    assert (topics.test.attributes["bytes"] == 128).all()


def test_the_documentation_names_what_it_describes() -> None:
    texts = list(python_docs.documents(docstrings=False))
    assert len(texts) > 50
    assert any("assert_stmt" in t for t in texts)


def test_files_that_are_no_text_are_named(folder: Path) -> None:
    (folder / "photo.png").write_bytes(b"\x89PNG")
    (folder / "latin.txt").write_bytes("é".encode("latin-1") * 10)
    found = load(DataConfig(source="text", path=str(folder))).audit
    assert found.of_kind("other files")[0].items == ("photo.png",)
    assert "latin.txt: byte 0 is not UTF-8" in found.of_kind("unreadable")[0].items


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="does not exist"):
        load(DataConfig(source="text", path=str(tmp_path / "no")))
    with pytest.raises(CallError, match="holds no text files"):
        load(DataConfig(source="text", path=str(tmp_path)))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CallError, match="none of the 1 files"):
        load(DataConfig(source="text", path=str(tmp_path)))
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(CallError, match="shorter than one window"):
        load(DataConfig(source="text", path=str(tmp_path)))
    with pytest.raises(CallError, match=r"no setting 'lenght'; did you mean 'length'"):
        DataConfig(source="python-docs", lenght=3)
    with pytest.raises(CallError, match="makes no tokens"):
        tokenizer_json(DataConfig(source="digits"))
