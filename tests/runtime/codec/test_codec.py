"""Coded files: a bundle's networks, damage that costs one block, and what is refused in one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.codec.coding_cases import LEVELS, SIZE, model, samples, seen

from niwaki_runtime.codec import Codec, CodecError, open_codec
from niwaki_runtime.codec.container import unpack
from niwaki_runtime.errors import CallError, NiwakiError
from niwaki_runtime.programs import Program
from niwaki_runtime.specs import ConditionSpec, ValueSpec
from niwaki_runtime.specs.values import Levels

pytest.importorskip("constriction")

SPEC = ValueSpec("image", (1, 4, 5), "CHW", Levels(LEVELS))


def codec(groups: tuple[int, ...] = (4, 8), **changed: Any) -> tuple[Codec, np.ndarray]:
    graphs, plan = model(groups)
    x = seen(samples(graphs, plan, 60)).reshape(-1, *SPEC.shape)
    program = Program(plan, {"x": ConditionSpec(SPEC)}, ValueSpec("vector", (), ""))
    return Codec(program, {**graphs, **changed}, "model-1"), x


def conditioned() -> tuple[Codec, np.ndarray, np.ndarray]:
    """Class c shifts all likelihoods towards level c."""
    graphs, plan = model((6,))
    plan = dataclasses.replace(plan, conditions=("x", "class"))
    graphs = {
        "posterior": lambda u, x, y, q=graphs["posterior"]: q(u, x),
        "likelihood": lambda u, y: (
            3.0 * (np.arange(LEVELS) == y[:, None, None]) * np.ones((len(u), SIZE, 1)),
        ),
    }
    program = Program(plan, {"x": ConditionSpec(SPEC), "class": ConditionSpec.label(5)}, ValueSpec("vector"))
    y = np.arange(40) % 5
    x = seen(np.repeat(y[:, None], SIZE, 1)).reshape(-1, *SPEC.shape)
    return Codec(program, graphs, "model-2"), x, y


@pytest.mark.parametrize("block", [1, 7, 60, 256])
def test_there_and_back(block: int) -> None:
    made, x = codec()
    names = [f"{i}.png" for i in range(len(x))]
    found = made.decode(made.encode(x, names=names, block=block).data)
    assert found.lossless
    assert found.lost == ()
    assert found.names == tuple(names)
    assert np.allclose(found.x, x, atol=1e-6)


def test_nothing_is_coded_as_nothing() -> None:
    made, x = codec()
    assert made.decode(made.encode(x[:0]).data).x.shape == (0, *SPEC.shape)


def test_the_same_samples_make_the_same_file() -> None:
    made, x = codec()
    assert made.encode(x).data == made.encode(x.astype(np.float64)).data


def test_labels_travel_and_are_chosen_where_they_are_left_out() -> None:
    made, x, y = conditioned()
    told, chosen = made.encode(x, labels={"class": y}), made.encode(x)
    assert told.data == chosen.data  # the class that makes each sample shortest is its own
    assert np.allclose(made.decode(told.data).x, x, atol=1e-6)
    wrong = made.encode(x, labels={"class": (y + 1) % 5})
    assert wrong.payload > told.payload
    assert np.allclose(made.decode(wrong.data).x, x, atol=1e-6)


@pytest.mark.parametrize("quality", [-12, -1, 0, 2])
def test_lossy_files(quality: int) -> None:
    made, x = codec()
    coded = made.encode(x, lossy=True, quality=quality)
    found = made.decode(coded.data)
    assert not found.lossless
    assert found.x.shape == x.shape
    assert coded.payload < made.encode(x).payload


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_every_damaged_byte_costs_one_block_at_most(step: int) -> None:
    made, x = codec()
    data = made.encode(x, block=20).data
    header, _ = unpack(data)
    start = data.index(b"nwk") + 12 + int.from_bytes(data[4:8], "little")
    edges = np.cumsum([start, *header.sizes])
    for place in range(0, len(data), step):
        broken = bytearray(data)
        broken[place] ^= 0x55
        found = made.decode(bytes(broken))
        hit = int(np.searchsorted(edges, place, side="right")) - 1
        lost = set(range(20 * hit, 20 * hit + 20)) if 0 <= hit < 3 else set()
        assert set(found.lost) == lost
        kept = [i for i in range(60) if i not in lost]
        assert np.allclose(found.x[kept], x[kept], atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_a_file_cut_short_gives_what_is_left_or_a_sentence(share: float) -> None:
    made, x = codec()
    data = made.encode(x, block=20).data
    part = data[: int(share * len(data))]
    if share < 0.3:  # neither header is whole
        with pytest.raises(CodecError, match="coded file"):
            made.decode(part)
    else:
        found = made.decode(part)
        assert len(found.lost) in (0, 20, 40, 60)
        kept = sorted(set(range(60)) - set(found.lost))
        assert np.allclose(found.x[kept], x[kept], atol=1e-6)


def test_what_cannot_be_coded_is_refused() -> None:
    made, x = codec()
    with pytest.raises(CallError, match="between them"):
        made.encode(x + 0.01)
    with pytest.raises(CallError, match="lie in"):
        made.encode(x + 2.0)
    with pytest.raises(CallError, match="shape"):
        made.encode(x[:, :, :2])
    with pytest.raises(CallError, match="between them"):
        made.encode(np.where(x > 0, np.nan, x))
    with pytest.raises(CallError, match="at least one"):
        made.encode(x, block=0)
    with pytest.raises(CallError, match="lossy"):
        made.encode(x, quality=1)
    with pytest.raises(CallError, match="not asked for 'class'"):
        made.encode(x, labels={"class": np.zeros(60)})
    conditional, y_x, _ = conditioned()
    with pytest.raises(CallError, match="0 … 4"):
        conditional.encode(y_x, labels={"class": np.full(40, 5)})


def test_another_models_file_is_refused() -> None:
    made, x = codec()
    other, _, _ = conditioned()
    with pytest.raises(CodecError, match="another model"):
        other.decode(made.encode(x).data)


@pytest.mark.parametrize(
    "data", [b"", b"nwk\x01", b"\x89PNG\r\n\x1a\n" + b"0" * 90, b"nwk\x01" + b"\xff" * 200]
)
def test_what_is_no_coded_file_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match="no coded file"):
        codec()[0].decode(data)


def test_a_bundle_without_a_codec_says_so(tmp_path: Path) -> None:
    with pytest.raises(NiwakiError, match="does not exist"):
        open_codec(tmp_path / "none.niwaki")
