"""Coded files that were made to do harm: every checksum is right, and what they say is not."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from runtime.codec.coding_cases import LEVELS, SIZE, model, samples, seen

from niwaki_runtime.codec import Codec, CodecError, latents
from niwaki_runtime.codec.container import check_extent
from niwaki_runtime.codec.latents import LatentStack
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import OneShot
from niwaki_runtime.specs import ConditionSpec, ValueSpec
from niwaki_runtime.specs.values import Levels

pytest.importorskip("constriction")

SPEC = ValueSpec("image", (1, 4, 5), "CHW", Levels(LEVELS))
MEMORY = 64 << 20


@pytest.fixture(scope="module")
def written() -> tuple[Codec, bytes, bytes]:
    """A codec, a file without loss of 60 samples in one block, and a lossy one."""
    graphs, plan = model((4, 8))
    x = seen(samples(graphs, plan, 60)).reshape(-1, *SPEC.shape)
    made = Codec(Program(plan, {"x": ConditionSpec(SPEC)}, ValueSpec("vector")), graphs, "model-1")
    return made, made.encode(x).data, made.encode(x, lossy=True).data


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Nothing here may make a reader allocate what the few bytes of a file do not account for."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY


def forged(data: bytes, **changed: Any) -> bytes:
    """The file with other words in its header, both copies of it sealed again."""
    length = int.from_bytes(data[4:8], "little")
    header = json.loads(zlib.decompress(data[12 : 12 + length]))
    blocks = data[12 + length :][: sum(header["sizes"])]
    return sealed(json.dumps(header | changed).encode(), blocks)


def sealed(text: bytes, blocks: bytes = b"") -> bytes:
    packed = zlib.compress(text, 9)
    sizes = struct.pack("<II", len(packed), zlib.crc32(packed))
    return b"".join([b"nwk\x01", sizes, packed, blocks, packed, sizes, b"\x01kwn"])


@pytest.mark.parametrize(
    "changed",
    [
        {"n": 10**9},
        {"n": 10**9, "block": 10**9},
        {"n": 2**63, "block": 2**63},
        {"n": 1 << 24, "block": 1},
        {"n": -1},
        {"n": 1e308},
        {"n": float("nan")},
        {"n": "9" * 5000},
        {"block": 0},
        {"block": 2**40},
        {"at_once": 10**6},
        {"bits": [4000] * 12},
        {"bits": []},
        {"sizes": [2**63]},
        {"sizes": [1] * 1000},
        {"names": ["a"] * 61},
        {"spec": {"modality": "image", "shape": [10**6, 10**6], "axes": "HW"}},
        {"spec": None},
    ],
)
def test_a_header_that_lies(changed: dict[str, Any], written: tuple[Codec, bytes, bytes]) -> None:
    codec, exact, lossy = written
    for data in (exact, lossy):
        try:
            found = codec.decode(forged(data, **changed))
        except CodecError as error:
            assert len(str(error)) < 300  # noqa: PT017  (either way is right: what matters is that it ends)
        else:
            assert found.lost == tuple(range(60))


@pytest.mark.parametrize("n", [120, 200])
def test_a_block_that_says_to_be_more_samples_than_it_is(n: int, written: tuple[Codec, bytes, bytes]) -> None:
    codec, exact, lossy = written
    for data in (exact, lossy):
        assert len(codec.decode(forged(data, n=n, block=n)).lost) == n


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"n":' * 100_000, b"[" + b"[]," * 300_000, b" " * 10**7])
def test_a_header_that_unfolds(text: bytes, written: tuple[Codec, bytes, bytes]) -> None:
    with pytest.raises(CodecError):
        written[0].decode(sealed(text))


def test_what_a_file_cannot_hold_is_not_written(written: tuple[Codec, bytes, bytes]) -> None:
    codec = written[0]
    x = np.zeros((2, *SPEC.shape))
    with pytest.raises(CallError, match="such samples at most"):
        check_extent(10**7, 256, SIZE)
    with pytest.raises(CallError, match="at most 65,536"):
        codec.encode(x, block=1 << 17)
    with pytest.raises(CallError, match="as many names"):
        codec.encode(x, names=["a"])


@pytest.mark.parametrize("name", ["a.png", "naïve ü.png", "\udcff.png", "\ud800", "a\x00b", "../../x", ""])
def test_names_of_any_bytes_travel(name: str, written: tuple[Codec, bytes, bytes]) -> None:
    codec = written[0]
    x = np.full((1, *SPEC.shape), -1.0)
    assert codec.decode(codec.encode(x, names=[name]).data).names == (name,)


def test_a_codec_of_another_sampler_is_refused() -> None:
    program = Program(OneShot(), {"x": ConditionSpec(SPEC)}, SPEC)
    with pytest.raises(CallError, match="bits_back"):
        Codec(program, {}, "model-1")


@pytest.mark.parametrize("at_once", [1, 4, 8, 32])
@pytest.mark.parametrize("groups", [(12,), (4, 8), (40,)])
def test_the_ground_never_runs_out(groups: tuple[int, ...], at_once: int) -> None:
    graphs, plan = model(groups)
    made = LatentStack(graphs, plan, (SIZE,), Levels(LEVELS), np.full(plan.latents, 4), at_once)
    block = made.encode(samples(graphs, plan, 32))
    assert block.mark > 0


@pytest.mark.parametrize("room", [1, 1 << 6, 1 << 9, 1 << 11, 1 << 20])
def test_tables_in_parts_make_the_same_file(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, plan = model((4, 8))
    x = samples(graphs, plan, 20)
    made = LatentStack(graphs, plan, (SIZE,), Levels(LEVELS), np.full(12, 6), 5)
    whole = made.encode(x)
    monkeypatch.setattr(latents, "_TABLE", room)
    assert np.array_equal(made.encode(x).words, whole.words)
    assert (made.decode(whole, 20) == x).all()
