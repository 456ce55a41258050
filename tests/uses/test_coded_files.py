"""`encode` and `decode` through the call that people make, with a codec of plain functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runtime.codec.coding_cases import LEVELS, model

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
