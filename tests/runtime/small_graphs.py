"""Small ONNX graphs written by hand, and what a bundle says about each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from niwaki_runtime.manifest import GraphEntry, InputEntry, Manifest, _digest
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import Autoregressive, Diffusion, OneShot, State
from niwaki_runtime.specs import ConditionSpec, Tokens, ValueSpec

CLASSES, LATENT, SIZE, VOCABULARY, CACHE = 3, 4, 6, 5, (64, 512)  # a cache of 128 KiB: too large to be copied
SUMMED = 64


def graph(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[str | int]]],
    outputs: dict[str, list[str | int]],
    weights: dict[str, np.ndarray],
) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(k, dtype, shape) for k, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, shape) for k, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def weight(name: str, *shape: int) -> np.ndarray:
    return np.random.default_rng([*name.encode()]).standard_normal(shape).astype(np.float32)


def generator() -> onnx.ModelProto:
    """output = tanh(z W + table[label])"""
    nodes = [
        helper.make_node("MatMul", ["z", "w"], ["h"]),
        helper.make_node("Gather", ["table", "label"], ["e"]),
        helper.make_node("Add", ["h", "e"], ["s"]),
        helper.make_node("Tanh", ["s"], ["output"]),
    ]
    return graph(
        nodes,
        {"z": (TensorProto.FLOAT, ["n", LATENT]), "label": (TensorProto.INT64, ["n"])},
        {"output": ["n", SIZE]},
        {"w": weight("w", LATENT, SIZE), "table": weight("table", CLASSES, SIZE)},
    )


def denoiser() -> onnx.ModelProto:
    """v = tanh(x W) + 0.001 t + table[label]; the last row of the table stands for nothing asked"""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["a"]),
        helper.make_node("Gather", ["table", "label"], ["e"]),
        helper.make_node("Add", ["a", "e"], ["s"]),
        helper.make_node("Mul", ["t", "scale"], ["u"]),
        helper.make_node("Unsqueeze", ["u", "axis"], ["b"]),
        helper.make_node("Add", ["s", "b"], ["output"]),
    ]
    return graph(
        nodes,
        {
            "x": (TensorProto.FLOAT, ["n", SIZE]),
            "t": (TensorProto.FLOAT, ["n"]),
            "label": (TensorProto.INT64, ["n"]),
        },
        {"output": ["n", SIZE]},
        {
            "w": weight("w", SIZE, SIZE),
            "table": weight("table", CLASSES + 1, SIZE),
            "scale": np.array(0.001, np.float32),
            "axis": np.array([1], np.int64),
        },
    )


def decoder() -> onnx.ModelProto:
    """cache' = cache / 2 with row `position` set to table[token]; logits = mean(cache') W"""
    rows, width = CACHE
    nodes = [
        helper.make_node("Gather", ["table", "token"], ["e"]),
        helper.make_node("Unsqueeze", ["e", "one"], ["row"]),
        helper.make_node("Equal", ["rows", "position"], ["here"]),
        helper.make_node("Unsqueeze", ["here", "edges"], ["mask"]),
        helper.make_node("Mul", ["cache", "half"], ["faded"]),
        helper.make_node("Where", ["mask", "row", "faded"], ["cache_next"]),
        helper.make_node("ReduceMean", ["cache_next", "one"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
    ]
    return graph(
        nodes,
        {
            "token": (TensorProto.INT64, ["n"]),
            "position": (TensorProto.INT64, [1]),
            "cache": (TensorProto.FLOAT, ["n", rows, width]),
        },
        {"logits": ["n", VOCABULARY], "cache_next": ["n", rows, width]},
        {
            "table": weight("table", VOCABULARY, width) / 8,
            "w": weight("w", width, VOCABULARY) / 8,
            "rows": np.arange(rows),
            "one": np.array([1], np.int64),
            "edges": np.array([0, 2], np.int64),
            "half": np.array(0.5, np.float32),
        },
    )


LABEL = ConditionSpec.label(CLASSES)
LABEL_OR_NOTHING = ConditionSpec.label(CLASSES, null=CLASSES)
STATE = (State("cache", "cache_next", (1, *CACHE)),)
VECTOR = ValueSpec("vector", (SIZE,))

PARTS: dict[str, tuple[Callable[[], onnx.ModelProto], GraphEntry, Program]] = {
    "one_shot": (
        generator,
        GraphEntry(
            "generator.onnx", "generator", (InputEntry("z", (1, LATENT)), InputEntry("label", (1,), "int64"))
        ),
        Program(OneShot(latent=(LATENT,), conditions=("label",)), {"label": LABEL}, VECTOR),
    ),
    "diffusion": (
        denoiser,
        GraphEntry(
            "denoiser.onnx",
            "denoiser",
            (InputEntry("x", (1, SIZE)), InputEntry("t", (1,)), InputEntry("label", (1,), "int64")),
        ),
        Program(
            Diffusion(shape=(SIZE,), steps=5, conditions=("label",), null={"label": CLASSES}),
            {"label": LABEL_OR_NOTHING},
            VECTOR,
        ),
    ),
    "autoregressive": (
        decoder,
        GraphEntry(
            "decode.onnx",
            "prior",
            (InputEntry("token", (1,), "int64"), InputEntry("position", (1,), "int64", None)),
            ("logits",),
            STATE,
        ),
        Program(
            Autoregressive(length=7), {}, ValueSpec("text", (7,), "T", Tokens(VOCABULARY, "tokenizer.json"))
        ),
    ),
}
"""Name → graph, what a bundle says about it, and the program that calls it."""


def manifest(kind: str, **others: Any) -> Manifest:
    """Of a bundle whose one graph makes its samples."""
    _, entry, program = PARTS[kind]
    (name,) = program.sampler.graphs_used()
    return Manifest(kind, "0.1.0", {"sample": program}, {name: entry}, **others)


def first_edition(record: dict[str, Any], spec: dict[str, Any], schema: int = 1) -> dict[str, Any]:
    """A manifest's record as schema 1 and 2 wrote it: one way of sampling, beside what it is of."""
    program, rest = record["programs"]["sample"], {k: v for k, v in record.items() if k not in _THIRD}
    conditions = {
        name: {"kind": "class", "size": c["value"]["values"]["n"], "shape": [], "null": c["null"]}
        for name, c in program["inputs"].items()
    }
    old = {**rest, "schema": schema, "spec": spec, "conditions": conditions, "sampler": program["sampler"]}
    return {**old, "sha256": _digest(old)}


_THIRD = ("schema", "programs", "examples", "sha256")


def full_bytes(kind: str) -> onnx.ModelProto:
    """output = Σ of SUMMED products 1 · 1, all bytes at their largest: `MatMul` or `Conv`, both sides rounded
    to bytes, or `weights`, a `MatMul` whose weights alone are."""
    conv, seen = kind == "Conv", "x" if kind == "weights" else "xd"
    weights = np.full((SIZE, SUMMED, 1, 1) if conv else (SUMMED, SIZE), 127, np.int8)
    rounded = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
    ]
    nodes = [
        *(rounded if kind != "weights" else []),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("Conv" if conv else "MatMul", [seen, "wd"], ["output"]),
    ]
    free = [1, 1] if conv else []
    return graph(
        nodes,
        {"x": (TensorProto.FLOAT, ["n", SUMMED, *free])},
        {"output": ["n", SIZE, *free]},
        {
            **({} if kind == "weights" else {"xs": np.float32(1 / 255), "xz": np.uint8(0)}),
            "w": weights, "ws": np.float32(1 / 127), "wz": np.int8(0),
        },
    )  # fmt: skip
