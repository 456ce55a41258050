"""`encode` and `decode` through the call that people make, with a codec of plain functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runtime.codec.coding_cases import LEVELS, model
from runtime.codec.direct_cases import Network, bytes_tokenizer
from runtime.codec.direct_cases import codec as direct_codec

from niwaki.core.errors import CallError
from niwaki.uses import Call, find_use
from niwaki_runtime.codec import Codec
from niwaki_runtime.programs import Program
from niwaki_runtime.specs import ConditionSpec, ValueSpec
from niwaki_runtime.specs.values import Levels

pytest.importorskip("constriction")

SPEC = ValueSpec("image", (1, 4, 5), "CHW", Levels(LEVELS))


def test_folders_with_one_name_twice_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, plan = model((4, 8))
    codec = Codec(Program(plan, {"x": ConditionSpec(SPEC)}, ValueSpec("vector")), graphs, "model-1")
    monkeypatch.setattr("niwaki.uses.codec.open_codec", lambda path: codec)
    whole = tmp_path / "mixed pictures"
    files = [whole / "a" / "ü 1.png", whole / "b" / "ü 1.png", whole / "c.png"]
    rng = np.random.default_rng(0)
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        levels = rng.integers(0, LEVELS, (4, 5))
        Image.fromarray((levels * 255.0 / (LEVELS - 1) + 0.5).astype(np.uint8)).save(file)
    (whole / "notes.txt").write_text("no picture")
    encode, decode = find_use("encode"), find_use("decode")
    made = encode.apply(Call(None, tmp_path, [whole]), encode.options({}))
    assert made.record["bytes_before"] == sum(f.stat().st_size for f in files)
    made.write(tmp_path / "x.nwk")
    back = decode.apply(Call(None, tmp_path, [tmp_path / "x.nwk"]), decode.options({}))
    written = back.write(tmp_path / "back")
    assert [w.name for w in written] == ["ü 1.png", "ü 1-2.png", "c.png"]
    for file, again in zip(files, written, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(Image.open(again)))


def texts_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = direct_codec(Network(257), 16, bytes_tokenizer("<|end|>"))
    monkeypatch.setattr("niwaki.uses.codec.open_codec", lambda path: codec)


def test_texts_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts_codec(monkeypatch)
    whole = tmp_path / "texts"
    files = [whole / "a" / "ü 1.txt", whole / "b" / "ü 1.txt", whole / "notes.md"]
    contents = ["wörter\r\n", "", "# notes\n" * 20]
    for file, content in zip(files, contents, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode())
    (whole / "x.png").write_bytes(b"no text")
    encode, decode = find_use("encode"), find_use("decode")
    made = encode.apply(Call(None, tmp_path, [whole]), encode.options({"block": 4}))
    assert made.record["bytes_before"] == sum(f.stat().st_size for f in files)
    assert made.record["n"] == 3
    made.write(tmp_path / "x.nwk")
    back = decode.apply(Call(None, tmp_path, [tmp_path / "x.nwk"]), decode.options({}))
    written = back.write(tmp_path / "back")
    assert [w.name for w in written] == ["ü 1.txt", "ü 1-2.txt", "notes.md"]
    assert [w.read_bytes().decode() for w in written] == contents
    with pytest.raises(CallError, match="need a folder"):
        back.write(tmp_path / "one.txt")
    data = bytearray((tmp_path / "x.nwk").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.nwk").write_bytes(data)
    again = decode.apply(Call(None, tmp_path, [tmp_path / "x.nwk"]), decode.options({}))
    assert "1 of 3 texts" in again.failed


@pytest.mark.parametrize(
    ("content", "settings", "match"),
    [
        (b"\xff\xfe", {}, "no UTF-8"),
        (b"x", {"lossy": True}, "without loss"),
        (b"x", {"quality": 1}, "without loss"),
    ],
)
def test_texts_that_are_refused(
    content: bytes, settings: dict[str, int], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts_codec(monkeypatch)
    (tmp_path / "a.txt").write_bytes(content)
    encode = find_use("encode")
    with pytest.raises(CallError, match=match):
        encode.apply(Call(None, tmp_path, [tmp_path / "a.txt"]), encode.options(settings))
