"""Every way of decoding a transformer's texts: in memory and from its bundle, on both engines, alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.contract import DataSpec, Tokens, ValueSpec
from niwaki.data.reading.tokens import byte_tokenizer
from niwaki.deployment import export_graphs, package
from niwaki.models import build
from niwaki_runtime import load as load_bundle
from niwaki_runtime import speculative
from niwaki_runtime.programs import Runner
from niwaki_runtime.tokenizer import Tokenizer

pytestmark = pytest.mark.slow  # an export

LENGTH = 24
SPEC = DataSpec(
    {
        "x": ValueSpec("text", (LENGTH,), "T", Tokens(256, "tokenizer.json")),
        "class": ValueSpec("class", (), "", Tokens(3)),
    }
)


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Runner]:
    """A random transformer with labels, as it is and on the engines."""
    torch.manual_seed(1)
    model = build("transformer", {"width": 16, "depth": 2, "heads": 2}, SPEC)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    model.files = {"tokenizer.json": byte_tokenizer()}
    model.eval()
    where = tmp_path_factory.mktemp("decoding")
    path = package(model, export_graphs(model, where / "graphs"), where / "t.niwaki")
    engines = {
        name: load_bundle(path, engine=name, precision="exact") for name in ("openvino", "onnxruntime")
    }
    return {"torch": model, **engines}


def asked() -> dict[str, Any]:
    prompt = np.full((3, LENGTH - 1), -1)
    prompt[0, :2], prompt[2, :5] = [104, 105], [200, 7, 65, 66, 67]
    return {"prompt": prompt, "class": np.array([2, 0, 1])}


def texts(rows: Any) -> list[bytes]:
    return [Tokenizer(byte_tokenizer()).to_bytes(row) for row in np.asarray(rows)]


def run(runner: Runner, **options: Any) -> np.ndarray:
    return np.asarray(runner.run("continue", 3, inputs=asked(), **options))


WAYS: dict[str, Callable[[Runner], np.ndarray]] = {
    "plain": run,
    "stop": lambda r: run(r, stop=["a", "\xe9", "0", "\n"]),
    "regex": lambda r: run(r, regex=r"(\w{2,3} ?)+\."),
    "schema": lambda r: run(r, schema={"type": "array", "items": {"type": "boolean"}}),
    "beams": lambda r: run(r, beams=3, length_penalty=0.5, stop=10),
    "beams and a regex": lambda r: run(r, beams=3, regex="(ab|ba|c)+d"),
    "speculative": lambda r: speculative.sample(r, r, 3, program="continue", inputs=asked()).x,
    "greedy speculative": lambda r: (
        speculative.sample(r, r, 3, program="continue", inputs=asked(), temperature=0.0, guesses=3).x
    ),
}


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("way", WAYS)
def test_a_bundle_says_what_the_model_says(runners: dict[str, Runner], way: str, engine: str) -> None:
    np.testing.assert_array_equal(WAYS[way](runners[engine]), WAYS[way](runners["torch"]))


@pytest.mark.parametrize("name", ["torch", "openvino", "onnxruntime"])
def test_what_is_made_is_what_was_asked(runners: dict[str, Runner], name: str) -> None:
    runner = runners[name]
    begun = [b"hi", b"", bytes([200, 7, 65, 66, 67])]
    for text, start in zip(texts(WAYS["regex"](runner)), begun, strict=True):
        assert text.startswith(start)
        assert re.fullmatch(r"(\w{2,3} ?)+\.", text[len(start) :].decode())
    greedy = run(runner, temperature=0.0)
    np.testing.assert_array_equal(WAYS["greedy speculative"](runner), greedy)
    np.testing.assert_array_equal(WAYS["speculative"](runner), run(runner))  # its own draft is never refused


@pytest.mark.parametrize("name", ["torch", "openvino", "onnxruntime"])
def test_a_stream_is_the_text(runners: dict[str, Runner], name: str) -> None:
    runner = runners[name]
    for i in range(3):
        own = {k: v[i : i + 1] for k, v in asked().items()}
        whole = Tokenizer(byte_tokenizer()).decode(
            np.asarray(runner.run("continue", 1, inputs=own, start=i, seed=4))[0]
        )
        stream = runner.stream("continue", inputs=own, start=i, seed=4)
        pieces = []
        for piece in stream:
            assert torch.is_grad_enabled()  # its reader's own code may want gradients
            pieces.append(piece)
        assert "".join(pieces) == whole
