"""Programs: plain data, and results that neither the batch nor the engine changes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from runtime.small_graphs import LATENT, PARTS, SIZE, graph, manifest, weight

from niwaki_runtime import archive, load
from niwaki_runtime.errors import BundleError, CallError
from niwaki_runtime.examples import examples_to_bytes
from niwaki_runtime.manifest import (
    MANIFEST,
    GraphEntry,
    InputEntry,
    Manifest,
    read_manifest,
    write_manifest,
)
from niwaki_runtime.programs import Program, graphs_of, self_contained
from niwaki_runtime.samplers import OneShot
from niwaki_runtime.specs import ConditionSpec, Real, ValueSpec

ENGINES = ["openvino", "onnxruntime"]
CODE = ValueSpec("vector", (LATENT,), "C", Real(-np.inf, np.inf))
ENCODE = Program(
    OneShot(graph="encoder", conditions=("x",)), {"x": ConditionSpec(ValueSpec("vector", (SIZE,)))}, CODE
)
DECODE = Program(
    OneShot(conditions=("z", "label")),
    {"z": ConditionSpec(CODE), "label": ConditionSpec.label(3)},
    ValueSpec("vector", (SIZE,)),
)
ROWS = weight("rows", 5, SIZE)


def encoder() -> onnx.ModelProto:
    """output = x U"""
    return graph(
        [helper.make_node("MatMul", ["x", "u"], ["output"])],
        {"x": (TensorProto.FLOAT, ["n", SIZE])},
        {"output": ["n", LATENT]},
        {"u": weight("u", SIZE, LATENT)},
    )


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A bundle that samples, encodes, and decodes by the graph that samples; with five example inputs."""
    path = tmp_path / "three.niwaki"
    path.mkdir()
    onnx.save(PARTS["one_shot"][0](), path / "generator.onnx")
    onnx.save(encoder(), path / "encoder.onnx")
    (path / "examples.npz").write_bytes(examples_to_bytes({"x": ROWS}))
    plain = manifest("one_shot", examples="examples.npz")
    entry = GraphEntry("encoder.onnx", "encoder", (InputEntry("x", (1, SIZE)),))
    plain.programs.update(encode=ENCODE, decode=DECODE)  # type: ignore[attr-defined]
    plain.graphs.update(encoder=entry)  # type: ignore[attr-defined]
    write_manifest(path, plain)
    return path


@pytest.mark.parametrize("program", [ENCODE, DECODE, *(part[2] for part in PARTS.values())])
def test_a_program_is_plain_data(program: Program) -> None:
    assert Program.from_json(json.loads(json.dumps(program.to_json(), allow_nan=False))) == program


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_program_runs_its_own_graph(engine: str, three: Path, tmp_path: Path) -> None:
    for path in (three, archive.pack(three, tmp_path / "zipped.niwaki")):
        b = load(path, engine=engine, precision="exact", threads=1)
        assert list(b.programs()) == ["sample", "encode", "decode"]
        z = b.run("encode", 5, inputs=ROWS)  # a bare value for the only input
        np.testing.assert_allclose(z, ROWS @ weight("u", SIZE, LATENT), atol=1e-5)
        again = b.run("decode", 5, inputs={"z": z, "label": 1})
        table = weight("table", 3, SIZE)
        np.testing.assert_allclose(again, np.tanh(z @ weight("w", LATENT, SIZE) + table[1]), atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_row_depends_on_its_batch(engine: str, three: Path) -> None:
    b = load(three, engine=engine, precision="exact", threads=1)
    z = weight("z", 7, LATENT)
    for name, inputs in (("encode", {"x": weight("x", 7, SIZE)}), ("decode", {"z": z}), ("sample", None)):
        whole = b.run(name, 7, seed=4, inputs=inputs)
        np.testing.assert_allclose(b.run(name, 7, seed=4, inputs=inputs, batch=3), whole, atol=1e-5)
        last = {k: v[5:] for k, v in inputs.items()} if inputs else None
        np.testing.assert_allclose(b.run(name, 2, seed=4, inputs=last, start=5), whole[5:], atol=1e-5)


def test_sample_is_the_program_of_that_name(three: Path) -> None:
    b = load(three, engine="onnxruntime")
    assert np.array_equal(b.sample(3, seed=1, condition=2), b.run("sample", 3, seed=1, inputs={"label": 2}))


def test_nothing_is_a_result_too(three: Path) -> None:
    b = load(three)
    assert b.run("encode", 0, inputs={"x": ROWS[:0]}).shape == (0, LATENT)


@pytest.mark.parametrize(
    ("program", "options", "text"),
    [
        ("encod", {}, "no program 'encod'; did you mean 'encode'"),
        ("encode", {}, "'x' must be given"),
        ("encode", {"inputs": {"y": ROWS}}, "no condition 'y'"),
        ("encode", {"inputs": ROWS[:2]}, r"shape \(5, 6\), not \(2, 6\)"),
        ("encode", {"inputs": ROWS, "steps": 3}, "has no option 'steps'"),
    ],
)
def test_bad_calls(program: str, options: dict[str, Any], text: str, three: Path) -> None:
    with pytest.raises(CallError, match=text):
        load(three).run(program, 5, **options)


def test_a_bundle_can_be_tried_without_data(three: Path, tmp_path: Path) -> None:
    for path in (three, archive.pack(three, tmp_path / "zipped.niwaki")):
        b = load(path, engine="onnxruntime")
        given = b.example_inputs("encode", 7)
        np.testing.assert_array_equal(given["x"], ROWS[[0, 1, 2, 3, 4, 0, 1]])
        assert b.run("encode", 7, inputs=given).shape == (7, LATENT)
        assert b.example_inputs("sample", 7) == {}


def test_examples_are_read_without_pickle(three: Path) -> None:
    """An array of objects would be a program of its own."""
    objects, single = io.BytesIO(), io.BytesIO()
    np.savez(objects, x=np.array([{"a": 1}], dtype=object))
    np.save(single, ROWS)
    cut = (three / "examples.npz").read_bytes()[:-40]
    for content in (objects.getvalue(), single.getvalue(), b"no npz", cut):
        (three / "examples.npz").write_bytes(content)
        write_manifest(three, load_manifest(three))
        with pytest.raises(BundleError, match="not a whole npz file"):
            load(three, engine="onnxruntime").example_inputs("encode")


def load_manifest(path: Path) -> Manifest:
    return read_manifest((path / MANIFEST).read_bytes())


def test_the_graphs_of_programs() -> None:
    programs = {"sample": PARTS["one_shot"][2], "encode": ENCODE, "decode": DECODE}
    assert graphs_of(programs) == ("generator", "encoder")
    assert graphs_of(programs, ("decode",)) == ("generator",)
    assert self_contained(programs) == ("sample", "decode"), "decode needs no further graph, encode does"
