"""Texts on the command line: they stop, they fit, and they come piece by piece."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from niwaki import load
from niwaki.core.contract import DataSpec, Tokens, ValueSpec
from niwaki.data.reading.tokens import byte_tokenizer
from niwaki.models import build, save_model
from niwaki_runtime.tokenizer import Tokenizer

LENGTH = 40


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random transformer over bytes."""
    spec = DataSpec({"x": ValueSpec("text", (LENGTH,), "T", Tokens(256, "tokenizer.json"))})
    torch.manual_seed(0)
    model = build("transformer", {"width": 16, "depth": 1, "heads": 2}, spec)
    model.files = {"tokenizer.json": byte_tokenizer()}
    return save_model(model, tmp_path_factory.mktemp("texts") / "model")


def test_a_stream_is_what_is_written(niwaki: Any, written: Path, tmp_path: Path) -> None:
    whole, grown = tmp_path / "a.txt", tmp_path / "b.txt"
    assert niwaki("sample", written, "-n", 3, "-o", whole, "top_k=60").status == 0
    said = niwaki("sample", written, "-n", 3, "-o", grown, "--stream", "top_k=60")
    assert said.status == 0
    texts = whole.read_text().split("\n\n" + "─" * 40 + "\n\n")
    assert grown.read_text() == whole.read_text()
    assert said.out.startswith("\n\n".join(texts))
    assert str(grown) in said.out
    piped = niwaki("sample", written, "-n", 2, "-o", grown, "--stream", "--json")
    assert json.loads(piped.out)["n"] == 2


@pytest.mark.parametrize(
    ("option", "fits"),
    [
        ("stop=[a, '0']", r"[^a0]*"),
        ("regex='(yes|no), \\d{2,}'", r"(yes|no), \d+"),
        ("schema={type: array, items: {type: boolean}, maxItems: 3}", r"\[.*\]"),
    ],
)
def test_texts_are_steered_by_name(
    niwaki: Any, written: Path, tmp_path: Path, option: str, fits: str
) -> None:
    assert niwaki("sample", written, "-n", 8, "-o", tmp_path / "a.npz", option).status == 0
    model = load(written)
    name, value = next(iter(_read(option).items()))
    for row in model.sample(8, **{name: value}):
        assert re.fullmatch(fits, Tokenizer(byte_tokenizer()).decode(row), re.DOTALL)


def _read(option: str) -> dict[str, Any]:
    from niwaki.recipe import parse_overrides

    return {".".join(path): value for path, value, _ in parse_overrides([option])}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("regex='^a'", "the place '^'"),
        ("schema={type: date}", "no known type"),
        ("regex='a{99}'", "at least 99 tokens"),
        ("stop=''", "must not be empty"),
    ],
)
def test_what_cannot_be_is_told(niwaki: Any, written: Path, tmp_path: Path, option: str, said: str) -> None:
    found = niwaki("sample", written, "-n", 1, "-o", tmp_path / "a.txt", option)
    assert found.status == 2
    assert said in found.err
