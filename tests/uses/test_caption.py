"""Captions of pictures: of files and of the data's own, and how they are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import niwaki
from niwaki import models
from niwaki.core.contract import DataSpec, Tokens, ValueSpec
from niwaki.data import DataConfig, load
from niwaki.data.reading.captions import word_tokenizer
from niwaki.uses.caption import said_rightly
from niwaki_runtime.errors import CallError

WORDS = ("bold", "red", "A", "B")


def teller(tokenizer: bool = True) -> Any:
    torch.manual_seed(0)
    caption = ValueSpec("text", (4,), "T", Tokens(1 + len(WORDS), "tokenizer.json"))
    spec = DataSpec({"x": DataSpec.of("image", (1, 8, 8)).x, "caption": caption})
    settings = {"width": 4, "codes": 8, "prior_width": 16, "prior_layers": 1}
    model = models.build("text-image", settings, spec)
    model.files = {"tokenizer.json": word_tokenizer(WORDS)} if tokenizer else {}
    return model.eval()


def test_files_are_captioned_in_words(tmp_path: Path) -> None:
    model = teller()
    x = np.random.default_rng(0).uniform(-1, 1, (3, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    made = niwaki.use("caption", model, tmp_path / "x.npy", out=tmp_path / "said.csv")
    tokens = model.run("caption", 3, inputs={"x": x}).numpy()
    names = ["", *WORDS]
    said = [" ".join(names[t] for t in row if t) for row in tokens]
    assert [row["caption"] for row in made.rows] == said
    assert (tmp_path / "said.csv").read_text("utf-8").splitlines()[0] == "name,caption"


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_caption_says_what_samples_have_that_the_data_know_by_it(split: str) -> None:
    settings = {"samples": 300, "size": 16, "characters": "ABCDEF", "attributes": ("colour", "place")}
    data = load(DataConfig.model_validate({"source": "glyph-pages", **settings}))
    column = data.splits[split].columns["caption"].data.numpy().astype(np.int64)
    assert set(said_rightly(column, data, split).values()) == {1.0}
    colour = data.splits[split].columns["colour"].data
    train = data.train.columns
    other = column.copy()
    for i in range(len(other)):  # the same character in another colour
        known = train["caption"].data[train["colour"].data != colour[i]]
        other[i] = known[0].numpy()
    wrong = said_rightly(other, data, split)
    assert wrong["colour"] == wrong["caption"] == 0.0
    assert 0.0 < wrong["class"] < 1.0
    assert set(said_rightly(np.zeros_like(column), data, split).values()) == {0.0}


@pytest.mark.parametrize(
    ("kind", "text"),
    [("mute", "ships no tokenizer"), ("vqvae", "no program 'caption'"), ("told", "name the files")],
)
def test_what_is_lacking_is_said(kind: str, text: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    x = [] if kind == "told" else [tmp_path / "x.npy"]
    model = teller(kind != "mute")
    if kind == "vqvae":
        model = models.build("vqvae", {"width": 4}, DataSpec.of("image", (1, 8, 8))).eval()
    with pytest.raises(CallError, match=text):
        niwaki.use("caption", model, x)
