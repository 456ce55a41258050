"""Packed weights: whatever goes in comes out, no larger than it was, and hostile bytes are an error."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from runtime.small_graphs import CLASSES, LATENT, PARTS, SIZE, first_edition, generator, manifest

from niwaki_runtime import archive, inspect, load
from niwaki_runtime import packed as reading
from niwaki_runtime.errors import BundleError
from niwaki_runtime.manifest import (
    MANIFEST,
    FileEntry,
    PackedEntry,
    _digest,
    read_manifest,
    write_manifest,
)
from niwaki_runtime.packed import expand, unpacked
from niwaki_runtime.packing import Piece, packed
from niwaki_runtime.specs import Real, ValueSpec

N = 200_000
SPEC = {
    "modality": "vector", "shape": [SIZE], "low": -1.0, "high": 1.0, "levels": 256, "classes": CLASSES,
    "class_names": [],
}  # fmt: skip


def piece(array: np.ndarray) -> Piece:
    return Piece(array.tobytes(), array.itemsize, array.shape)


def back(data: bytes, promised: int) -> bytes:
    return b"".join(part.tobytes() for part in unpacked(data, promised))


def entropy(a: np.ndarray) -> float:
    """Bytes."""
    counts = np.unique(a, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum()) / 8


def example(kind: str, n: int = N) -> np.ndarray:
    g = np.random.default_rng(7)
    normal = g.standard_normal(n)
    kept = g.random(n) < 0.1
    int8 = np.clip(np.round(30 * normal), -127, 127)
    made: dict[str, Callable[[], np.ndarray]] = {
        "int8": lambda: int8.astype(np.int8),
        "int8 sparse": lambda: (int8 * kept).astype(np.int8),
        "4 bits": lambda: np.clip(np.round(2.5 * normal), -8, 7).astype(np.int8),
        "float32": lambda: normal.astype(np.float32),
        "float32 sparse": lambda: np.where(kept, normal, 0).astype(np.float32),
        "float32 clustered": lambda: np.linspace(-1, 1, 16, dtype=np.float32)[g.integers(0, 16, n)],
        "float16": lambda: normal.astype(np.float16),
        "float64": lambda: normal,
        "int64": lambda: np.arange(n),
        "negative int32": lambda: -g.integers(0, 1000, n).astype(np.int32),
        "bool": lambda: kept,
        "random bytes": lambda: g.integers(0, 256, n).astype(np.uint8),
    }
    return made[kind]()


KINDS = [
    "int8", "int8 sparse", "4 bits", "float32", "float32 sparse", "float32 clustered", "float16", "float64",
    "int64", "negative int32", "bool", "random bytes",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: str) -> None:
    for n in (1, 2, 3, 257, 4096, N):
        a = example(kind)[:n]
        data = packed([piece(a)])
        assert back(data, a.nbytes) == a.tobytes()
        assert len(data) <= a.nbytes + 16  # at worst as it is, and a line that says so


@pytest.mark.parametrize("n", [0, 1, 2, 1000, 5_000_000])
@pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "float64"])
def test_constants(dtype: str, n: int) -> None:
    for value in (0, 3):
        a = np.full(n, value, dtype)
        data = packed([piece(a)])
        assert back(data, a.nbytes) == a.tobytes()
        assert len(data) < 40 + 18 * (a.nbytes >> 22)


def test_special_floats_keep_their_bits() -> None:
    a = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -1e308, 1.5] * 500)
    a[::7] = np.frombuffer(b"\x01\x02\x03\x04\x05\x06\xf8\x7f", np.float64)  # a NaN with something to say
    for dtype in (np.float64, np.float32, np.float16):
        with np.errstate(over="ignore"):
            b = a.astype(dtype)
        assert back(packed([piece(b)]), b.nbytes) == b.tobytes()


@pytest.mark.slow
def test_many_tensors_at_once() -> None:
    arrays = [example(kind)[: 17 + 997 * i] for i, kind in enumerate(KINDS * 8)]
    arrays += [np.zeros(4096, np.uint8), np.empty(0, np.float32), example("int8", 9_000_000)]
    whole = b"".join(a.tobytes() for a in arrays)
    data = packed(map(piece, arrays))
    assert back(data, len(whole)) == whole
    assert packed(map(piece, arrays)) == data


@pytest.mark.parametrize(
    ("kind", "over"),
    [("int8", 1.005), ("int8 sparse", 1.01), ("4 bits", 1.005), ("float32 clustered", 1.005)],
)
def test_the_rate_is_the_entropy(kind: str, over: float) -> None:
    a = example(kind, 3_000_000)
    assert entropy(a) <= len(packed([piece(a)])) <= over * entropy(a)


def test_floats_lose_what_their_exponents_repeat() -> None:
    """The exponent of a normal variable tells about 2.5 bits, so float32 takes 26.5 and float16 13.5."""
    for kind, bits in [("float32", 26.6), ("float16", 13.6)]:
        assert 8 * len(packed([piece(example(kind, 1_000_000))])) / 1_000_000 < bits


def test_sparse_floats_are_a_mask_and_the_rest() -> None:
    a = example("float32 sparse", 1_000_000)
    rest = a[a != 0]
    assert len(packed([piece(a)])) < entropy(a != 0) + len(packed([piece(rest)])) + 500


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_a_scale_per_channel_costs_little(axis: int, dtype: type) -> None:
    """Sixteen values times a scale per channel (a folded norm, a quantizer): one palette per channel."""
    g = np.random.default_rng(3)
    values = np.clip(np.round(2.5 * g.standard_normal((64, 64, 3, 3))), -8, 7)
    scale = g.uniform(8, 16, 64).reshape((-1, 1, 1, 1) if axis == 0 else (1, -1, 1, 1))
    a = np.round(values * scale).astype(np.int8) if dtype == np.int8 else (values * scale).astype(np.float32)
    flat = len(packed([Piece(a.tobytes(), a.itemsize)]))
    assert len(packed([piece(a)])) < 1.2 * entropy(values) + 64 * 16 * a.itemsize
    assert len(packed([piece(a)])) < 0.7 * flat
    assert back(packed([piece(a)]), a.nbytes) == a.tobytes()


# --- what must be refused ---


def write(path: Path, array: np.ndarray) -> tuple[bytes, FileEntry]:
    data = packed([piece(array)])
    path.write_bytes(data)
    return data, FileEntry(hashlib.sha256(array.tobytes()).hexdigest(), array.nbytes)


@pytest.mark.parametrize("kind", ["int8", "float32 sparse", "float32 clustered", "random bytes"])
def test_changed_bytes_are_found(kind: str, tmp_path: Path) -> None:
    data, entry = write(tmp_path / "p", example(kind, 3000))
    g, found = np.random.default_rng(0), 0
    for at in [*range(24), *g.integers(0, len(data), 30)]:
        changed = bytearray(data)
        changed[at] ^= 1 << int(g.integers(8))
        (tmp_path / "p").write_bytes(changed)
        out = tmp_path / f"out{g.random()}"
        try:
            expand(tmp_path / "p", out, entry)
        except BundleError:
            found += 1
        else:  # a byte that does not matter, as the room for rows of a single lane
            assert hashlib.sha256(out.read_bytes()).hexdigest() == entry.sha256
    assert found >= 50


@pytest.mark.parametrize("kind", ["int8", "float32 sparse"])
def test_cut_or_continued(kind: str, tmp_path: Path) -> None:
    data, entry = write(tmp_path / "p", example(kind, 20_000))
    for n, other in enumerate([data[:k] for k in range(0, len(data), 97)] + [data + b"\0", data + data]):
        (tmp_path / "p").write_bytes(other)
        with pytest.raises(BundleError):
            expand(tmp_path / "p", tmp_path / f"out{n}", entry)


@pytest.mark.parametrize("kind", ["int8", "float32 sparse", "float32 clustered"])
@pytest.mark.parametrize("off", [-1, 1, -1000, 10**15])
def test_another_length_than_promised(kind: str, off: int, tmp_path: Path) -> None:
    _, entry = write(tmp_path / "p", example(kind, 20_000))
    with pytest.raises(BundleError):
        expand(tmp_path / "p", tmp_path / "out", FileEntry(entry.sha256, entry.bytes + off))
    assert not (tmp_path / "out").exists() or (tmp_path / "out").stat().st_size <= entry.bytes


def test_random_bytes_end_soon() -> None:
    g = np.random.default_rng(0)
    began = time.monotonic()
    for k in range(2000):
        n = int(g.integers(1, 300))
        data = reading.MAGIC + bytes([1, int(g.integers(5)), 1]) + g.integers(0, 256, n, np.uint8).tobytes()
        with pytest.raises(BundleError):
            back(data, 1 << (k % 40))
    assert time.monotonic() - began < 60  # no endless loop, no bomb; a second is usual


def number(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def test_bombs_are_refused() -> None:
    big = number(1 << 40)
    head = reading.MAGIC + b"\1"
    stream = bytes([reading.COUNTED, 2, 8, 255])  # two symbols, 255 : 1
    for data, promised in [
        (head + bytes([reading.PLANES, 1]) + big, 1 << 50),  # a segment of a tebibyte
        (reading.MAGIC + big, 1 << 50),  # as many segments
        (head + bytes([reading.CHANNELS, 1]) + number(1 << 24) + number(1 << 24) + b"\1", 1 << 24),
        (head + bytes([reading.PLANES, 1]) + number(1 << 24) + stream + number(1) + number(0), 1 << 24),
        (head + bytes([reading.PLANES, 1]) + number(1 << 24) + stream + number(1 << 14) + big, 1 << 24),
        (reading.MAGIC + number(300) + (bytes([reading.PLANES, 1, 16]) + stream) * 300, 4800),
        (reading.MAGIC + number(5) + (bytes([reading.PLANES, 1]) + number(1 << 24) + stream) * 5, 5 << 24),
    ]:
        with pytest.raises(BundleError):
            back(data, promised)


def test_crumbs_are_refused() -> None:
    """A block costs thousands of steps whatever it holds: many tiny ones would be slow; nobody writes any."""
    crumb = packed([piece(example("int8", 1000))])[len(reading.MAGIC) :]
    with pytest.raises(BundleError, match="crumbs"):
        back(reading.MAGIC + crumb * 50, 50_000)


def test_indices_beyond_a_palette() -> None:
    a = example("float32 clustered", 4096)
    data = bytearray(packed([piece(a)]))
    at = data.index(bytes([reading.PALETTE, 4])) + 4  # kind, item, count (two bytes), then the palette's size
    assert data[at] == 16
    del data[at + 2 + 4 * 12 : at + 2 + 4 * 16]  # twelve values for sixteen indices
    data[at] = 12
    with pytest.raises(BundleError, match=r"outside a palette|come out even|cannot be|cut short|sum to one"):
        back(bytes(data), a.nbytes)


# --- bundles ---


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """The small generator as a bundle with weights beside it, and the same with packed weights."""
    entry = PARTS["one_shot"][1]
    paths = tmp_path / "plain.niwaki", tmp_path / "packed.niwaki"
    for path in paths:
        path.mkdir()
        onnx.save(
            generator(),
            path / entry.file,
            save_as_external_data=True,
            location="weights.bin",
            size_threshold=0,
        )
        said = manifest("one_shot")
        if path is paths[1]:
            raw = (path / "weights.bin").read_bytes()
            (path / "weights.bin").unlink()
            (path / "weights.pack").write_bytes(packed([Piece(raw, 4)]))
            told = PackedEntry(hashlib.sha256(raw).hexdigest(), len(raw), "weights.pack")
            said = dataclasses.replace(said, packed={"weights.bin": told})
        write_manifest(path, said)
    return paths


Both = tuple[Path, Path]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_packed_bundle_is_a_bundle(engine: str, both: Both, tmp_path: Path) -> None:
    plain, directory = both
    expected = load(plain, engine=engine, precision="exact").sample(5, seed=1)
    zipped = archive.pack(directory, tmp_path / "zipped.niwaki")
    for path in (directory, zipped):
        assert np.array_equal(load(path, engine=engine, precision="exact").sample(5, seed=1), expected)
        assert inspect(path).packed["weights.bin"].file == "weights.pack"
    before = {p: p.read_bytes() for p in directory.iterdir()}
    assert {p.name for p in before} == {MANIFEST, "generator.onnx", "weights.pack"}  # nothing was left there


def test_only_packed_bundles_list_what_is_unpacked(both: Both) -> None:
    plain, directory = (json.loads((path / MANIFEST).read_text()) for path in both)
    assert "packed" not in plain
    assert set(directory["packed"]) == {"weights.bin"}


@pytest.mark.parametrize("schema", [1, 2])
def test_a_bundle_from_before_is_read(schema: int, both: Both) -> None:
    """Schema 1 had one way of sampling, schema 2 packed weights; both still make their samples."""
    path = both[schema - 1]
    expected = load(path, engine="onnxruntime").sample(4, seed=3)
    old = first_edition(json.loads((path / MANIFEST).read_text()), SPEC, schema)
    assert ("packed" in old) == (schema == 2)
    (path / MANIFEST).write_text(json.dumps(old))
    bundle = load(path, engine="onnxruntime")
    assert list(bundle.programs()) == ["sample"]
    assert bundle.spec == ValueSpec("vector", (SIZE,), "C", Real(-1.0, 1.0))
    assert np.array_equal(bundle.sample(4, seed=3), expected)


def test_sealing_keeps_it_packed(both: Both, tmp_path: Path) -> None:
    """What is unpacked, changed in its manifest and packed again is still packed."""
    zipped = archive.pack(both[1], tmp_path / "zipped.niwaki")
    (tmp_path / "open").mkdir()
    said = archive.unpack(zipped, tmp_path / "open")
    write_manifest(tmp_path / "open", dataclasses.replace(said, name="sealed"))
    again = inspect(archive.pack(tmp_path / "open", tmp_path / "again.niwaki"))
    assert (again.name, again.packed, again.files) == ("sealed", said.packed, said.files)


def rewritten(path: Path, **change: str | int) -> None:
    record = json.loads((path / MANIFEST).read_text())
    record["packed"]["weights.bin"].update(change)
    del record["sha256"]
    (path / MANIFEST).write_text(json.dumps({**record, "sha256": _digest(record)}))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sha256": "0" * 64}, "something else than its manifest promises"),
        ({"bytes": LATENT}, "cannot be|more than"),
        ({"bytes": 10**15}, "hold less than"),
        ({"bytes": -1}, "contradicts itself"),
        ({"file": "absent.pack"}, "contradicts itself"),
        ({"file": "generator.onnx"}, "do not begin as such"),
        ({"bytes": "many"}, "does not follow schema 3"),
    ],
)
def test_a_forged_manifest(change: dict, text: str, both: Both, tmp_path: Path) -> None:
    rewritten(both[1], **change)
    paths = [both[1]]
    if text != "contradicts itself" and "schema" not in text:
        paths.append(archive.pack(both[1], tmp_path / "zipped.niwaki"))
    for path in paths:
        for read in (load, inspect):
            with pytest.raises(BundleError, match=text):
                read(path)


@pytest.mark.parametrize("name", ["../escaped.bin", "/tmp/escaped.bin", MANIFEST, "generator.onnx"])
def test_it_unpacks_nowhere_else(name: str, both: Both) -> None:
    record = json.loads((both[1] / MANIFEST).read_text())
    record["packed"] = {name: record["packed"]["weights.bin"]}
    del record["sha256"]
    with pytest.raises(BundleError, match=r"plain path inside|contradicts itself"):
        read_manifest(json.dumps({**record, "sha256": _digest(record)}).encode())


def test_a_changed_byte_on_disk(both: Both) -> None:
    data = bytearray((both[1] / "weights.pack").read_bytes())
    data[-1] ^= 1
    (both[1] / "weights.pack").write_bytes(data)
    with pytest.raises(BundleError, match=r"weights\.pack is not what was written"):
        load(both[1])


def test_nothing_stays_behind(both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    for engine in ("openvino", "onnxruntime"):
        bundle = load(both[1], engine=engine)
        assert list((tmp_path / "scratch").iterdir()) == []
        assert bundle.sample(3).shape == (3, 6)
