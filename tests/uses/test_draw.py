"""Drawing: captions from words and from files, and what a model must be for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import niwaki
from niwaki import models
from niwaki.core.contract import DataSpec, Tokens, ValueSpec
from niwaki.data.reading.captions import word_tokenizer
from niwaki_runtime.errors import CallError

IMAGES = DataSpec.of("image", (1, 16, 16), classes=3)
WORDS = ("bold", "red", "A", "B")


def artist(tokenizer: bool = True) -> Any:
    torch.manual_seed(0)
    caption = ValueSpec("text", (4,), "T", Tokens(1 + len(WORDS), "tokenizer.json"))
    settings: dict[str, Any] = {
        "autoencoder": {"name": "spatial-vae", "width": 4},
        "widths": (8,),
        "blocks": 1,
        "attention": (),
        "words": 8,
        "sampling": {"steps": 2},
    }
    model = models.build("latent-diffusion", settings, DataSpec({**IMAGES.columns, "caption": caption}))
    model.files = {"tokenizer.json": word_tokenizer(WORDS)} if tokenizer else {}
    return model.eval()


def test_a_caption_is_asked_as_its_tokens(tmp_path: Path) -> None:
    model = artist()
    made = niwaki.use("draw", model, "bold red A", seed=3, guidance=2.0, out=tmp_path / "a.png")
    want = model.run("sample", 1, seed=3, inputs={"caption": np.array([[1, 2, 3, 0]])}, guidance=2.0)
    np.testing.assert_allclose(made.x, want, atol=1e-6)
    assert made.record == {"n": 1, "captions": ["bold red A"]}
    assert (tmp_path / "a.png").exists()


def test_captions_come_from_files_and_words_together(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("red A\n\nbold B\n")
    made = niwaki.use("draw", artist(), [tmp_path / "captions.txt", "A"], n=2, out=tmp_path / "made")
    assert made.record["captions"] == ["red A", "bold B", "A"]
    assert made.x is not None
    assert made.x.shape == (6, 1, 16, 16)
    files = sorted(f.name for f in (tmp_path / "made").iterdir())
    assert files == ["A-2.png", "A.png", "bold B-2.png", "bold B.png", "red A-2.png", "red A.png"]


@pytest.mark.parametrize(
    ("kind", "words", "text"),
    [
        ("artist", [], "say what is to be drawn"),
        ("artist", ["  "], "say what is to be drawn"),
        ("mute", ["A"], "ships no tokenizer"),
        ("ddpm", ["A"], "asked by a text, and this one is asked by class"),
        ("transformer", ["A"], "for models of pictures, and this one makes text"),
    ],
)
def test_what_is_lacking_is_said(kind: str, words: list[str], text: str) -> None:
    if kind in ("artist", "mute"):
        model = artist(kind == "artist")
    elif kind == "ddpm":
        model = models.build(
            "ddpm", {"widths": (8,), "attention": ()}, DataSpec.of("image", (1, 8, 8), classes=3)
        )
    else:
        tokens = DataSpec({"x": ValueSpec("text", (8,), "T", Tokens(9, "tokenizer.json"))})
        model = models.build("transformer", {"width": 16, "depth": 1, "heads": 2}, tokens)
    with pytest.raises(CallError, match=text):
        niwaki.use("draw", model, words)
