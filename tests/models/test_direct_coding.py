"""The codec of models that say each token's distribution: its bits are their likelihood, and bundles code."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import DIGITS, WORDS, batch, make
from torch.nn import functional as F

from niwaki.core.contract import DataSpec, Tokens, ValueSpec
from niwaki.data.reading.tokens import byte_tokenizer
from niwaki.deployment import export_graphs, package
from niwaki_runtime.codec import TextCodec, open_codec

LABELLED = DataSpec({"x": ValueSpec("series", (9,), "T", Tokens(5)), "class": ValueSpec.label(3)})
PLAIN = {"conditioning": {"columns": []}}


@pytest.mark.parametrize(
    ("name", "spec", "settings"),
    [
        ("transformer", WORDS, {}),
        ("transformer", LABELLED, {}),
        ("vqvae", DIGITS, {}),
        ("vqvae", DIGITS, PLAIN),
        ("fsq", DIGITS, {}),
        ("residual-vq", DIGITS, {}),
    ],
)
def test_bits_are_the_likelihood(name: str, spec: DataSpec, settings: dict[str, object]) -> None:
    model = make(name, spec, **settings).eval()
    torch.manual_seed(1)
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    given = batch(spec, 5)
    inputs = {name: given[name] for name in model.programs()["codec"].inputs}
    got = model.run("codec", 5, inputs={k: v.numpy() for k, v in inputs.items()})
    y = [inputs[key] for key in inputs if key != "x"]
    with torch.no_grad():
        if hasattr(model, "log_prob"):
            want = -model.log_prob(given.x, *y)
        else:
            codes = model.encode(given.x)
            want = F.cross_entropy(model.prior(codes, *y).transpose(1, 2), codes, reduction="none").sum(1)
    assert np.allclose(np.asarray(got), want.numpy() / math.log(2.0), rtol=1e-4)


@pytest.mark.slow
def test_a_bundle_codes_texts_without_loss(tmp_path: Path) -> None:
    pytest.importorskip("constriction")
    spec = DataSpec({"x": ValueSpec("text", (24,), "T", Tokens(256))})
    model = make("transformer", spec).eval()
    model.files = {"tokenizer.json": byte_tokenizer()}  # type: ignore[misc]
    model.shipped = ("sample", "codec")
    package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "t.niwaki")
    codec = TextCodec(open_codec(tmp_path / "t.niwaki"))
    texts = ["one and another", "", "naïve ü — 木 🌲\r\n" * 3]
    assert codec.decode(codec.encode(texts, block=2).data).texts == tuple(t.encode() for t in texts)


@pytest.mark.slow
def test_a_bundle_codes_pictures_by_their_codes(tmp_path: Path) -> None:
    pytest.importorskip("constriction")
    model = make("vqvae", DIGITS).eval()
    model.shipped = ("sample", "codec")
    package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "v.niwaki")
    x, y = batch(DIGITS, 20).x, batch(DIGITS, 20)["class"]
    codec = open_codec(tmp_path / "v.niwaki")
    coded = codec.encode(x.numpy(), labels={"class": y.numpy()}, lossy=True)
    want = model.run("decode", 20, inputs={"codes": model.run("encode", 20, inputs={"x": x})})
    assert np.abs(codec.decode(coded.data).x - np.asarray(want)).max() < 1e-5
    bits = np.asarray(model.run("codec", 20, inputs={"x": x.numpy(), "class": y.numpy()})).sum()
    assert coded.payload * 8 < bits * 1.02 + 128
