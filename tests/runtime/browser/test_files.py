"""What the browser runtime reads: archives, manifests, packed weights, arrays; and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from runtime.browser.node import needs_node, refusal, run
from runtime.small_graphs import generator

from niwaki.deployment.packing import write_packed
from niwaki_runtime.archive import pack
from niwaki_runtime.external import external_files
from niwaki_runtime.manifest import _digest
from niwaki_runtime.rans import MAX_ROWS, encode, quantized

pytestmark = needs_node

READ = """
const { load } = await from("index.js");
const bundle = await load(new Uint8Array(readFileSync(given[0])));
"""


def read(path: Path, code: str) -> Any:
    return run(READ + code, str(path))


def why(path: Path) -> tuple[str, str]:
    return refusal(READ, str(path))


@pytest.fixture
def zipped(bundle: Callable[[str], Path], tmp_path: Path) -> Path:
    return pack(bundle("one_shot"), tmp_path / "g.niwaki")


def rewritten(
    path: Path, change: Callable[[dict[str, bytes]], None], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    """The zip with its files changed."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def signed(contents: dict[str, bytes], **changes: Any) -> None:
    """The manifest with some fields changed, and a digest that fits."""
    record = {**json.loads(contents["manifest.json"]), **changes}
    record.pop("sha256")
    contents["manifest.json"] = json.dumps({**record, "sha256": _digest(record)}).encode()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_bundle_is_read_whatever_its_files_are_stored_as(zipped: Path, method: int) -> None:
    rewritten(zipped, lambda files: None, method)
    manifest = read(zipped, "answer(bundle.manifest)")
    with zipfile.ZipFile(zipped) as archive:
        assert manifest == json.loads(archive.read("manifest.json"))


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000])
def test_sha256_is_that_of_the_standard(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    code = """
    const { computed, sha256 } = await from("sha256.js");
    const bytes = new Uint8Array(Buffer.from(given[0], "base64"));
    answer([await sha256(bytes), Buffer.from(computed(bytes)).toString("hex")]);
    """
    assert run(code, base64.b64encode(data).decode()) == [hashlib.sha256(data).hexdigest()] * 2


def test_the_canonical_form_is_that_of_python() -> None:
    record = {
        "b": [1, 1.0, -0.0, 1e-05, 1e22, 12345678901234567890, True, None, [], {}],
        "a": {
            "é\u007f\U0001f600": 'quote " and \\ and / \n\t\b\x01',
            "\ue000": 1,
            "\U00010000": 2,
            "": [[{}]],
        },
    }
    code = """
    const { canonicalMembers, joined } = await from("json.js");
    answer(joined(canonicalMembers(given[0])));
    """
    wanted = json.dumps(record, sort_keys=True, separators=(",", ":"))
    for text in (json.dumps(record, indent=2, ensure_ascii=False), json.dumps(record), f" {wanted}\n"):
        assert run(code, text) == wanted


def test_a_changed_file_is_refused(zipped: Path) -> None:
    def flip(files: dict[str, bytes]) -> None:
        name = next(name for name in files if name.endswith(".onnx"))
        files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])

    name, message = why(rewritten(zipped, flip))
    assert name == "BundleError"
    assert "is not what was written (its hash differs)" in message


def test_a_file_that_swells_is_refused(zipped: Path) -> None:
    def swell(files: dict[str, bytes]) -> None:
        name = next(name for name in files if name.endswith(".onnx"))
        files[name] += bytes(1 << 20)

    name, message = why(rewritten(zipped, swell))
    assert name == "BundleError"
    assert "unpacks to more than the" in message


def test_a_changed_manifest_is_refused(zipped: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        files["manifest.json"] = files["manifest.json"].replace(b'"temperature": 1.0', b'"temperature": 1.5')

    assert why(rewritten(zipped, change)) == (
        "BundleError", "manifest.json was changed after it was written; copy or export the bundle again"
    )  # fmt: skip


@pytest.mark.parametrize("schema", [2, 4])
def test_another_schema_is_refused(zipped: Path, schema: int) -> None:
    name, message = why(rewritten(zipped, lambda files: signed(files, schema=schema)))
    assert name == "BundleError"
    assert f"has schema {schema} and the browser runtime reads 3" in message


@pytest.mark.parametrize("path", ["../a.onnx", "/a.onnx", "a\\b.onnx", "a//b", "manifest.json"])
def test_a_file_outside_is_refused(zipped: Path, path: str) -> None:
    def name_it(files: dict[str, bytes]) -> None:
        known = json.loads(files["manifest.json"])["files"]
        signed(files, files={**known, path: {"sha256": "", "bytes": 0}})

    name, message = why(rewritten(zipped, name_it))
    assert name == "BundleError"
    assert "is not a plain path inside it" in message


def test_what_is_no_zip_or_cut_short_is_refused(zipped: Path, tmp_path: Path) -> None:
    whole = zipped.read_bytes()
    for cut in (b"", b"niwaki", whole[: len(whole) // 2], whole[:-30]):
        zipped.write_bytes(cut)
        assert why(zipped) == ("BundleError", "this is no whole zip; copy or export the bundle again")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    assert why(tmp_path / "other.zip")[1] == "this zip holds no manifest.json; it is not a niwaki bundle"


def test_weights_from_a_file_that_is_not_listed_are_refused(zipped: Path, tmp_path: Path) -> None:
    """The graph's other files are found as `niwaki_runtime.external` finds them."""
    model = generator()
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, "stolen.bin", 0, 16)
        tensor.ClearField("raw_data")
    path = tmp_path / "outside.onnx"
    path.write_bytes(model.SerializeToString())
    code = """
    const { externalFiles } = await from("onnx_file.js");
    answer([...externalFiles(new Uint8Array(readFileSync(given[0])), "g.onnx")]);
    """
    assert run(code, str(path)) == sorted(external_files(path)) == ["stolen.bin"]
    name, message = refusal(code, str(zipped))
    assert (name, message) == ("BundleError", "g.onnx is not a whole ONNX graph; export the bundle again")


def test_arrays_are_read_as_numpy_writes_them() -> None:
    arrays = {
        "x": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "y": np.array([-(2**62), 5]),
        "z": np.array(2.5),
        "m": np.zeros((0, 3), np.uint8),
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    code = """
    const { readNpz } = await from("npy.js");
    const found = await readNpz(new Uint8Array(Buffer.from(given[0], "base64")));
    const plain = ({ data, shape }) => [data.constructor.name, [...data].map(String), shape];
    answer(Object.fromEntries(Object.entries(found).map(([name, tensor]) => [name, plain(tensor)])));
    """
    found = run(code, base64.b64encode(file.getvalue()).decode())
    assert found["x"] == ["Float32Array", [str(i) for i in range(24)], [2, 3, 4]]
    assert found["y"] == ["BigInt64Array", [str(-(2**62)), "5"], [2]]
    assert found["z"] == ["Float64Array", ["2.5"], []]
    assert found["m"] == ["Uint8Array", [], [0, 3]]


def weights_of_every_kind() -> onnx.ModelProto:
    """Weights that lead to every segment of the packed form."""
    rng = np.random.default_rng(0)
    normals = rng.standard_normal((64, 300)).astype(np.float32)
    arrays = {
        "planes": normals,
        "halves": normals.astype(np.float16),
        "wide": rng.integers(-9, 9, 4000),
        "palette": rng.choice(np.array([-1.5, 0.25, 3.0], np.float32), 20000, p=[0.8, 0.15, 0.05]),
        "channels": np.round(normals * 2).clip(-3, 3) * rng.random((64, 1), dtype=np.float32),
        "sparse": normals * (rng.random(normals.shape) < 0.1),
        "bytes": rng.integers(-8, 8, 30000).astype(np.int8),
        "noise": rng.integers(0, 256, 3000).astype(np.uint8),
        "same": np.full(5000, 7, np.int8),
    }
    graph = onnx.helper.make_graph(
        [], "weights", [], [], [numpy_helper.from_array(v, k) for k, v in arrays.items()]
    )
    return onnx.helper.make_model(graph)


def test_packed_weights_come_out_byte_for_byte(tmp_path: Path) -> None:
    packed = write_packed({"g": weights_of_every_kind()}, tmp_path)
    code = """
    const { unpacked } = await from("packed.js");
    const { sha256 } = await from("sha256.js");
    answer(await sha256(unpacked(new Uint8Array(readFileSync(given[0])), given[1])));
    """
    assert packed
    for entry in packed.values():
        assert run(code, str(tmp_path / entry.file), entry.bytes) == entry.sha256


def test_damaged_packed_weights_are_refused_or_differ(tmp_path: Path) -> None:
    """Whatever the bytes are, the reader ends, and what comes out is what was promised or a sentence."""
    packed = write_packed({"g": weights_of_every_kind()}, tmp_path)
    entry = next(iter(packed.values()))
    code = """
    const { unpacked } = await from("packed.js");
    const whole = new Uint8Array(readFileSync(given[0]));
    const kinds = new Set();
    for (let i = 0; i < 40; i++) {
      const bytes = whole.slice();
      bytes[4 + (i * 7919) % (bytes.length - 4)] ^= 1 << i % 8;
      const cut = i % 4 ? bytes : bytes.subarray(0, (bytes.length * i) / 40);
      try { kinds.add(unpacked(cut, given[1]).length); } catch (error) { kinds.add(error.name); }
    }
    answer([...kinds]);
    """
    found = set(run(code, str(tmp_path / entry.file), entry.bytes))
    assert "BundleError" in found
    assert found <= {"BundleError", entry.bytes}


@pytest.mark.parametrize("rows", [1, 7, 100, MAX_ROWS])
def test_streams_share_their_rows_as_they_were_written(rows: int) -> None:
    rng = np.random.default_rng(rows)
    streams = [rng.choice(k, n, p=rng.dirichlet(np.ones(k))).astype(np.uint8)
               for k, n in ((2, 1000), (200, 333), (1, 5), (17, 100))]  # fmt: skip
    tables = [quantized(np.bincount(s, minlength=256)) for s in streams]
    coded = encode(streams, tables, rows)
    code = """
    const { decode } = await from("rans.js");
    const [states, words, lengths, tables, rows] = given;
    answer(decode(states, Uint16Array.from(words), lengths, tables, rows).map((one) => [...one]));
    """
    given = ([a.tolist() for a in (coded.states, coded.words)], [[len(s) for s in streams]])
    found = run(code, *given[0], *given[1], [t.tolist() for t in tables], rows)
    assert found == [s.tolist() for s in streams]
