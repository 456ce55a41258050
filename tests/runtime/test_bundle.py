"""Bundles: the same samples on every engine and from every form; nothing is opened that was not verified."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from runtime.small_graphs import (
    CLASSES,
    LABEL,
    LATENT,
    PARTS,
    SIZE,
    VOCABULARY,
    first_edition,
    generator,
    weight,
)

from niwaki_runtime import archive, inspect, load, noise
from niwaki_runtime.engines import base
from niwaki_runtime.errors import BundleError, CallError
from niwaki_runtime.external import external_files
from niwaki_runtime.manifest import MANIFEST, Manifest, _digest, read_manifest, write_manifest
from niwaki_runtime.specs import ConditionSpec

DIGITS = {
    "modality": "vector", "shape": [SIZE], "low": -1.0, "high": 1.0, "levels": 256, "classes": CLASSES,
    "class_names": ["zero", "one", "two"],
}  # fmt: skip
KINDS = ["one_shot", "diffusion", "autoregressive"]
ENGINES = ["openvino", "onnxruntime"]
Make = Callable[[str], Path]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_does_not_depend_on_batch_or_start(kind: str, engine: str, bundle: Make) -> None:
    b = load(bundle(kind), engine=engine, precision="exact", threads=1)
    whole = b.sample(9, seed=3)
    assert whole.shape == (9, *b.spec.shape)
    assert whole.dtype == (np.int64 if kind == "autoregressive" else np.float32)
    np.testing.assert_allclose(b.sample(9, seed=3, batch=4), whole, atol=1e-5)
    np.testing.assert_allclose(b.sample(2, seed=3, start=6), whole[6:8], atol=1e-5)
    assert not np.array_equal(b.sample(9, seed=4), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_engines_and_forms_agree(kind: str, bundle: Make, tmp_path: Path) -> None:
    directory = bundle(kind)
    packed = archive.pack(directory, tmp_path / "packed.niwaki")
    made = [
        load(path, engine=engine, precision="exact").sample(6, seed=1)
        for engine in ENGINES
        for path in (directory, packed)
    ]
    for other in made[1:]:
        np.testing.assert_allclose(other, made[0], atol=1e-5)


def test_one_shot_is_the_graph_of_the_noise(bundle: Make) -> None:
    b = load(bundle("one_shot"), engine="onnxruntime")
    z, table = noise.normal(5, 2, 4, (LATENT,)), weight("table", CLASSES, SIZE)
    asked = np.tanh(z @ weight("w", LATENT, SIZE) + table[2])
    np.testing.assert_allclose(b.sample(4, seed=5, start=2, condition=2), asked, atol=1e-6)
    in_turn = np.tanh(z @ weight("w", LATENT, SIZE) + table[[2, 0, 1, 2]])
    np.testing.assert_allclose(b.sample(4, seed=5, start=2), in_turn, atol=1e-6)
    np.testing.assert_allclose(
        b.sample(4, seed=5, start=2, condition={"label": [2, 0, 1, 2]}, batch=3), in_turn, atol=1e-6
    )


@pytest.mark.parametrize(
    ("n", "batch", "sizes"), [(9, 4, [3, 3, 3]), (65, None, [33, 33]), (64, None, [64]), (5, 9, [5])]
)
def test_batches_are_equal(n: int, batch: int | None, sizes: list[int], bundle: Make) -> None:
    """One size is one compilation, and what is computed for nothing is less than one row per batch."""
    b = load(bundle("one_shot"), engine="onnxruntime")
    run, seen = b.graphs["generator"], []

    def watched(z: np.ndarray, label: np.ndarray) -> Any:
        seen.append(len(z))
        return run(z, label)

    b.graphs["generator"] = watched  # type: ignore[assignment]
    assert len(b.sample(n, batch=batch)) == n
    assert seen == sizes


def test_bad_calls(bundle: Make) -> None:
    b = load(bundle("one_shot"))
    for condition, text in [
        (CLASSES, "outside 0 … 2"),
        ({"labl": 1}, "did you mean 'label'"),
        ([0, 1], "shape"),
        (0.5, "integers"),
        ("two", "'two' is no class; give a number from 0 to 2"),
    ]:
        with pytest.raises(CallError, match=text):
            b.sample(4, condition=condition)
    with pytest.raises(CallError, match="did you mean 'temperature'"):
        b.sample(4, temprature=0.5)
    for wrong in ({"n": -1}, {"n": 1, "start": -1}, {"n": 1, "batch": 0}):
        with pytest.raises(CallError):
            b.sample(**wrong)
    assert b.sample(0).shape == (0, SIZE)
    with pytest.raises(CallError, match="did you mean 'openvino'"):
        load(b.path, engine="openvine")


def test_overrides_reach_the_sampler(bundle: Make) -> None:
    b = load(bundle("diffusion"), engine="onnxruntime")
    told: list[tuple[int, int]] = []
    b.sample(5, batch=2, steps=3, progress=lambda done, n: told.append((done, n)))
    assert told[-1] == (5, 5)
    assert len(told) == 9
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    assert not np.allclose(b.sample(3, guidance=4.0), b.sample(3))
    np.testing.assert_allclose(
        b.sample(3, guidance=4.0), b.sample(3, guidance=4.0, guidance_batched=False), atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_there_and_back(kind: str, bundle: Make) -> None:
    path = bundle(kind)
    manifest = inspect(path)
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    figures = {"latency_ms": {"1": np.float32(0.5)}, "n": np.int64(3)}
    again = write_manifest(path, dataclasses.replace(manifest, measured=figures))
    assert inspect(path).measured == {"latency_ms": {"1": 0.5}, "n": 3}
    assert again.files == manifest.files


@pytest.mark.parametrize("schema", [1, 2])
@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("one_shot", DIGITS),
        ("diffusion", {**DIGITS, "class_names": []}),
        ("autoregressive", {**DIGITS, "modality": "text", "shape": [7], "levels": VOCABULARY, "classes": 0}),
    ],
)
def test_the_first_edition_is_read(schema: int, kind: str, spec: dict[str, Any], bundle: Make) -> None:
    """Schema 1 and 2 say one way of sampling: it is the only program, and asks for what it asked for."""
    path = bundle(kind)
    expected = load(path, engine="onnxruntime").sample(4, seed=2)
    spec = spec if spec["classes"] else {**spec, "class_names": []}
    old = first_edition(json.loads((path / MANIFEST).read_text()), spec, schema)
    (path / MANIFEST).write_text(json.dumps(old))
    manifest = inspect(path)
    assert manifest.programs == {"sample": PARTS[kind][2]}
    assert np.array_equal(load(path, engine="onnxruntime").sample(4, seed=2), expected)


def test_class_names_of_the_first_edition_belong_to_the_condition(bundle: Make) -> None:
    path = bundle("one_shot")
    rewrite(path, lambda r: r["programs"]["sample"].update(inputs={"class": LABEL.to_json()}))
    rewrite(path, lambda r: r["programs"]["sample"]["sampler"].update(conditions=["class"]))
    old = first_edition(json.loads((path / MANIFEST).read_text()), DIGITS)
    (path / MANIFEST).write_text(json.dumps(old))
    assert inspect(path).conditions == {"class": ConditionSpec.label(CLASSES, ("zero", "one", "two"))}
    b = load(path, engine="onnxruntime")
    assert np.array_equal(b.sample(3, condition="two"), b.sample(3, condition=2))


def test_packing_is_reproducible_and_keeps_everything(bundle: Make, tmp_path: Path) -> None:
    directory = bundle("one_shot")
    (directory / "card.md").write_text("# what it is\n")
    write_manifest(directory, inspect(directory))
    first = archive.pack(directory, tmp_path / "a.niwaki").read_bytes()
    for file in directory.iterdir():
        os.utime(file, (1e9, 1e9))
    assert archive.pack(directory, tmp_path / "b.niwaki").read_bytes() == first
    assert set(inspect(tmp_path / "b.niwaki").files) == {"generator.onnx", "card.md"}


def test_shared_external_weights(bundle: Make, tmp_path: Path) -> None:
    directory = bundle("one_shot")
    expected = load(directory, engine="onnxruntime").sample(3)
    (directory / "generator.onnx").unlink()
    onnx.save(
        generator(),
        directory / "generator.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert external_files(directory / "generator.onnx") == {"weights.bin"}
    write_manifest(directory, read_manifest((directory / MANIFEST).read_bytes()))
    packed = archive.pack(directory, tmp_path / "packed.niwaki")
    for path in (directory, packed):
        for engine in ENGINES:
            np.testing.assert_allclose(
                load(path, engine=engine, precision="exact").sample(3), expected, atol=1e-6
            )


def test_external_files_finds_them_wherever_they_hide() -> None:
    tensor = onnx.TensorProto(name="t", data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="hidden.bin")
    tensor.external_data.add(key="offset", value="12")
    inner = onnx.GraphProto(name="inner", initializer=[tensor])
    places = [
        onnx.GraphProto(initializer=[tensor]),
        onnx.GraphProto(sparse_initializer=[onnx.SparseTensorProto(values=tensor)]),
        onnx.GraphProto(node=[onnx.NodeProto(attribute=[onnx.AttributeProto(name="value", t=tensor)])]),
        onnx.GraphProto(node=[onnx.NodeProto(attribute=[onnx.AttributeProto(name="body", g=inner)])]),
        onnx.GraphProto(node=[onnx.NodeProto(attribute=[onnx.AttributeProto(name="all", tensors=[tensor])])]),
    ]
    for graph in places:
        assert found(onnx.ModelProto(ir_version=10, graph=graph)) == {"hidden.bin"}
    function = onnx.FunctionProto(name="f", node=[onnx.NodeProto(attribute=[onnx.AttributeProto(t=tensor)])])
    assert found(onnx.ModelProto(functions=[function])) == {"hidden.bin"}


def found(model: onnx.ModelProto) -> set[str]:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "g.onnx"
        path.write_bytes(model.SerializeToString())
        return external_files(path)


# --- what must be refused, and before any engine sees it ---


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to open a graph fails the test."""

    def opened(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a graph was opened before the bundle was verified")

    for runner in base._ENGINES.values():
        monkeypatch.setattr(runner, "_open", opened)


def refused(path: Path, text: str) -> None:
    for read in (load, inspect):
        with pytest.raises(BundleError, match=text):
            read(path)


def rewrite(directory: Path, change: Callable[[dict[str, Any]], None], *, sealed: bool = True) -> None:
    """Change the manifest, and (as a forger would) its digest too."""
    record = json.loads((directory / MANIFEST).read_text())
    change(record)
    if sealed:
        record.pop("sha256", None)
        record["sha256"] = _digest(record)
    (directory / MANIFEST).write_text(json.dumps(record))


@pytest.mark.usefixtures("no_engine")
class TestRefused:
    def test_a_zip_whose_names_are_no_text(self, tmp_path: Path) -> None:
        packed = tmp_path / "names.niwaki"
        with zipfile.ZipFile(packed, "w") as z:
            z.writestr("é.json", "{}")
        packed.write_bytes(packed.read_bytes().replace("é".encode(), b"\xff\xff"))
        refused(packed, "broken zip")

    @pytest.mark.parametrize("at", [0, 100, -1])
    def test_a_changed_byte_in_a_graph(self, at: int, bundle: Make) -> None:
        path = bundle("one_shot")
        data = bytearray((path / "generator.onnx").read_bytes())
        data[at] ^= 1
        (path / "generator.onnx").write_bytes(data)
        refused(path, "generator.onnx is not what was written")

    def test_a_changed_byte_in_the_manifest(self, bundle: Make) -> None:
        path = bundle("one_shot")
        rewrite(path, lambda r: r["programs"]["sample"]["sampler"].update(temperature=0.9), sealed=False)
        refused(path, "was changed after it was written")

    def test_changed_bytes_in_a_zip(self, bundle: Make, tmp_path: Path) -> None:
        packed = archive.pack(bundle("one_shot"), tmp_path / "packed.niwaki")
        data = packed.read_bytes()
        with zipfile.ZipFile(packed) as z:
            entry = z.getinfo("generator.onnx")
        stored = entry.header_offset + 30 + len(entry.filename)
        for share in (0.02, 0.3, 0.5, 0.9):
            at = stored + int(entry.compress_size * share)
            changed = bytearray(data)
            changed[at] ^= 0xFF
            packed.write_bytes(changed)
            refused(packed, "broken zip|not what was written|shorter|more than")

    def test_a_longer_and_a_shorter_file(self, bundle: Make) -> None:
        path = bundle("one_shot")
        data = (path / "generator.onnx").read_bytes()
        for other in (data + b"\0", data[:-1], b""):
            (path / "generator.onnx").write_bytes(other)
            refused(path, "not what was written")

    def test_a_missing_file(self, bundle: Make) -> None:
        path = bundle("one_shot")
        (path / "generator.onnx").unlink()
        refused(path, "lacks generator.onnx")

    def test_no_bundle_at_all(self, tmp_path: Path) -> None:
        refused(tmp_path / "absent.niwaki", "does not exist")
        refused(tmp_path, "holds no manifest.json")
        (tmp_path / "text.niwaki").write_text("hello")
        refused(tmp_path / "text.niwaki", "broken zip")
        with zipfile.ZipFile(tmp_path / "other.niwaki", "w") as z:
            z.writestr("hello.txt", "hello")
        refused(tmp_path / "other.niwaki", "holds no manifest.json")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_a_zip_cut_short(self, share: float, bundle: Make, tmp_path: Path) -> None:
        packed = archive.pack(bundle("one_shot"), tmp_path / "packed.niwaki")
        packed.write_bytes(packed.read_bytes()[: int(packed.stat().st_size * share)])
        refused(packed, "broken zip")

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_a_manifest_cut_short(self, share: float, bundle: Make) -> None:
        path = bundle("one_shot")
        text = (path / MANIFEST).read_text()
        (path / MANIFEST).write_text(text[: int(len(text) * share)])
        refused(path, "cut short or not JSON")

    def test_a_newer_schema(self, bundle: Make) -> None:
        path = bundle("one_shot")
        rewrite(path, lambda r: r.update(schema=4))
        refused(path, "schema 4 .* up to 3; install a newer niwaki-runtime")

    @pytest.mark.parametrize("key", ["programs", "graphs", "files", "sha256"])
    def test_a_manifest_that_lacks_something(self, key: str, bundle: Make) -> None:
        path = bundle("one_shot")
        rewrite(path, lambda r: r.pop(key), sealed=key != "sha256")
        refused(path, f"'{key}' is missing")

    @pytest.mark.parametrize("key", ["spec", "sampler", "conditions", "graphs", "files", "sha256"])
    def test_one_of_the_first_edition_that_lacks_something(self, key: str, bundle: Make) -> None:
        path = bundle("one_shot")
        old = first_edition(json.loads((path / MANIFEST).read_text()), DIGITS)
        (path / MANIFEST).write_text(json.dumps(old))
        rewrite(path, lambda r: r.pop(key), sealed=key != "sha256")
        refused(path, f"'{key}' is missing")

    @pytest.mark.parametrize(
        "change",
        [
            lambda r: r.update(graphs={"generator": {"file": "generator.onnx"}}),
            lambda r: r.update(files=[1, 2]),
            lambda r: r.update(programs="sample"),
            lambda r: r["programs"]["sample"].pop("output"),
            lambda r: r["programs"]["sample"].update(inputs=["label"]),
            lambda r: r["graphs"]["generator"]["inputs"][0].update(colour="red"),
        ],
    )
    def test_a_manifest_of_another_form(self, change: Callable[[dict[str, Any]], None], bundle: Make) -> None:
        path = bundle("one_shot")
        rewrite(path, change)
        refused(path, "does not follow schema 3")

    def test_one_of_the_first_edition_of_another_form(self, bundle: Make) -> None:
        path = bundle("one_shot")
        old = first_edition(json.loads((path / MANIFEST).read_text()), DIGITS)
        (path / MANIFEST).write_text(json.dumps(old))
        rewrite(path, lambda r: r.update(spec="image"))
        refused(path, "does not follow schema 1")

    def test_nothing_that_samples(self, bundle: Make) -> None:
        path = bundle("one_shot")
        rewrite(path, lambda r: r.update(programs={"encode": r["programs"]["sample"]}))
        refused(path, "lists no program 'sample'")

    def test_examples_that_are_not_listed(self, bundle: Make) -> None:
        path = bundle("one_shot")
        rewrite(path, lambda r: r.update(examples="examples.npz"))
        refused(path, "names examples.npz, which it does not list")

    def test_a_sampler_that_calls_what_is_not_there(self, bundle: Make) -> None:
        path = bundle("one_shot")
        rewrite(path, lambda r: r["programs"]["sample"]["sampler"].update(graph="decoder"))
        refused(path, "calls the graph 'decoder'")

    @pytest.mark.parametrize(
        "name",
        ["/etc/passwd", "../secret", "a/../../secret", "C:\\x", "a\\..\\b", "", ".", "a//b", "./a", MANIFEST],
    )
    def test_a_path_that_leaves_the_bundle(self, name: str, bundle: Make) -> None:
        path = bundle("one_shot")
        rewrite(path, lambda r: r["files"].update({name: {"sha256": "0" * 64, "bytes": 0}}))
        refused(path, "not a plain path inside it")

    @pytest.mark.parametrize("name", ["../escaped.txt", "/tmp/escaped.txt", "a/../../escaped.txt"])
    def test_a_zip_that_slips(self, name: str, bundle: Make, tmp_path: Path) -> None:
        packed = archive.pack(bundle("one_shot"), tmp_path / "packed.niwaki")
        with zipfile.ZipFile(packed, "a") as z:
            z.writestr(name, "out")
        refused(packed, "not a plain path inside it")
        assert not list(tmp_path.parent.glob("**/escaped.txt"))

    def test_a_link_that_leaves_the_bundle(self, bundle: Make, tmp_path: Path) -> None:
        path = bundle("one_shot")
        (path / "generator.onnx").rename(tmp_path / "outside.onnx")
        (path / "generator.onnx").symlink_to(tmp_path / "outside.onnx")
        refused(path, "a link that leaves the bundle")

    @pytest.mark.parametrize("promise", [10, 10**12])
    def test_a_zip_that_swells_or_shrinks(self, promise: int, bundle: Make, tmp_path: Path) -> None:
        directory = bundle("one_shot")
        (directory / "zeros.bin").write_bytes(bytes(5_000_000))
        write_manifest(directory, inspect(directory))
        packed = archive.pack(directory, tmp_path / "packed.niwaki")
        assert packed.stat().st_size < 50_000
        rewrite(directory, lambda r: r["files"]["zeros.bin"].update(bytes=promise))
        with zipfile.ZipFile(tmp_path / "forged.niwaki", "w", zipfile.ZIP_DEFLATED) as z:
            for file in sorted(directory.iterdir()):
                z.write(file, file.name)
        refused(
            tmp_path / "forged.niwaki",
            "unpacks to more than the 10 bytes" if promise == 10 else "shorter than",
        )

    def test_a_zip_with_a_file_twice(self, bundle: Make, tmp_path: Path) -> None:
        packed = archive.pack(bundle("one_shot"), tmp_path / "packed.niwaki")
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(packed, "a") as z:
            z.writestr("generator.onnx", b"other")
        refused(packed, "holds a file twice")

    @pytest.mark.parametrize("location", ["../outside.bin", "unlisted.bin"])
    def test_a_graph_that_reads_elsewhere(self, location: str, bundle: Make, tmp_path: Path) -> None:
        path = bundle("one_shot")
        model = generator()
        for tensor in model.graph.initializer:
            raw = tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=location)
            tensor.external_data.add(key="length", value=str(len(raw)))
        (path / "generator.onnx").write_bytes(model.SerializeToString())
        write_manifest(path, read_manifest((path / MANIFEST).read_bytes()))
        (path / location).write_bytes(bytes(10_000))
        refused(path, "which the manifest does not list")


def test_the_temporary_directory_is_gone(
    bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    packed = archive.pack(bundle("one_shot"), tmp_path / "packed.niwaki")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    b = load(packed, engine="openvino")
    assert list((tmp_path / "scratch").iterdir()) == []
    b.sample(3)
    b.sample(5)  # a new size is compiled without the files
