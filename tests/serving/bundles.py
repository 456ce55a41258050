"""Small bundles of several kinds, written by hand: pictures of a class, sounds, texts and chats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from runtime.small_graphs import graph, weight

from niwaki.data.reading.tokens import byte_tokenizer
from niwaki_runtime.chat_template import FILE as CHAT
from niwaki_runtime.chat_template import ChatTemplate
from niwaki_runtime.manifest import GraphEntry, InputEntry, Manifest, write_manifest
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import Autoregressive, Diffusion, OneShot
from niwaki_runtime.specs import ConditionSpec, Real, Tokens, ValueSpec
from niwaki_runtime.tokenizer import FILE as TOKENIZER
from niwaki_runtime.tokenizer import with_special

CLASSES, LATENT, SIDE, LENGTH = 3, 4, 6, 48
LABEL = ConditionSpec.label(CLASSES, ("ant", "bee", "cat"))
PICTURE = ValueSpec("image", (1, SIDE, SIDE), "CHW")


def _save(path: Path, manifest: Manifest, graphs: dict[str, onnx.ModelProto]) -> Path:
    path.mkdir(parents=True)
    for name, model in graphs.items():
        onnx.save(model, path / name)
    write_manifest(path, manifest)
    return path


def _generator(size: int, shape: list[int], salt: str = "") -> onnx.ModelProto:
    """output = tanh(z W + table[label]), in the shape of a sample"""
    nodes = [
        helper.make_node("MatMul", ["z", "w"], ["h"]),
        helper.make_node("Gather", ["table", "label"], ["e"]),
        helper.make_node("Add", ["h", "e"], ["s"]),
        helper.make_node("Tanh", ["s"], ["t"]),
        helper.make_node("Reshape", ["t", "shape"], ["output"]),
    ]
    return graph(
        nodes,
        {"z": (TensorProto.FLOAT, ["n", LATENT]), "label": (TensorProto.INT64, ["n"])},
        {"output": ["n", *shape]},
        {
            "w": weight(f"w{salt}", LATENT, size),
            "table": weight(f"table{salt}", CLASSES, size),
            "shape": np.array([-1, *shape], np.int64),
        },
    )


def pictures(path: Path, salt: str = "") -> Path:
    """A generator of 6×6 pictures of an ant, a bee or a cat."""
    program = Program(OneShot(latent=(LATENT,), conditions=("class",)), {"class": LABEL}, PICTURE)
    entry = GraphEntry(
        "g.onnx", "generator", (InputEntry("z", (1, LATENT)), InputEntry("label", (1,), "int64"))
    )
    manifest = Manifest(f"insects{salt}", "0.1.0", {"sample": program}, {"generator": entry})
    return _save(path, manifest, {"g.onnx": _generator(SIDE * SIDE, [1, SIDE, SIDE], salt)})


def sounds(path: Path) -> Path:
    """Sounds of 64 values."""
    spec = ValueSpec("audio", (64,), "T", Real(-1.0, 1.0), rate=800.0)
    program = Program(OneShot(latent=(LATENT,), conditions=("class",)), {"class": LABEL}, spec)
    entry = GraphEntry(
        "g.onnx", "generator", (InputEntry("z", (1, LATENT)), InputEntry("label", (1,), "int64"))
    )
    manifest = Manifest("calls", "0.1.0", {"sample": program}, {"generator": entry})
    return _save(path, manifest, {"g.onnx": _generator(64, [64])})


def denoised(path: Path, steps: int = 400) -> Path:
    """Vectors by many small steps: what takes its time."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["a"]),
        helper.make_node("Mul", ["t", "scale"], ["u"]),
        helper.make_node("Unsqueeze", ["u", "axis"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["output"]),
    ]
    model = graph(
        nodes,
        {"x": (TensorProto.FLOAT, ["n", LATENT]), "t": (TensorProto.FLOAT, ["n"])},
        {"output": ["n", LATENT]},
        {
            "w": weight("w", LATENT, LATENT),
            "scale": np.array(0.001, np.float32),
            "axis": np.array([1], np.int64),
        },
    )
    program = Program(Diffusion(shape=(LATENT,), steps=steps), {}, ValueSpec("vector", (LATENT,), "C"))
    entry = GraphEntry("d.onnx", "denoiser", (InputEntry("x", (1, LATENT)), InputEntry("t", (1,))))
    return _save(path, Manifest("slow", "0.1.0", {"sample": program}, {"denoiser": entry}), {"d.onnx": model})


def texts(path: Path) -> Path:
    """Bytes after bytes, each by the one before it; with the template of a chat."""
    template = ChatTemplate()
    tokenizer = with_special(byte_tokenizer(), [*template.opens.values(), template.closes])
    size = 260
    logits = 0.5 * weight("next", size, size)
    logits[:, 97:123] += 4.0  # mostly small letters
    logits[:, 259] += 2.0  # and an end now and then
    nodes = [helper.make_node("Gather", ["table", "token"], ["e"])]
    nodes += [
        helper.make_node("Cast", ["position"], ["p"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["p", "little"], ["q"]),
        helper.make_node("Add", ["e", "q"], ["logits"]),
    ]
    model = graph(
        nodes,
        {"token": (TensorProto.INT64, ["n"]), "position": (TensorProto.INT64, [1])},
        {"logits": ["n", size]},
        {"table": logits, "little": np.array(1e-3, np.float32)},
    )
    tokens = Tokens(size, TOKENIZER, end=259)
    spec = ValueSpec("text", (LENGTH,), "T", tokens)
    prompt = ConditionSpec(ValueSpec("text", (LENGTH - 1,), "T", tokens), -1)
    common: dict[str, Any] = {"length": LENGTH, "first": 10, "stop": 259}
    programs = {
        "sample": Program(Autoregressive(**common), {}, spec),
        "continue": Program(Autoregressive(**common, prompt="prompt"), {"prompt": prompt}, spec),
    }
    entry = GraphEntry(
        "t.onnx", "prior", (InputEntry("token", (1,), "int64"), InputEntry("position", (1,), "int64", None)),
        ("logits",),
    )  # fmt: skip
    path.mkdir(parents=True)
    onnx.save(model, path / "t.onnx")
    (path / TOKENIZER).write_text(tokenizer)
    (path / CHAT).write_text(json.dumps(template.to_json()))
    write_manifest(path, Manifest("letters", "0.1.0", programs, {"decode": entry}))
    return path


def autoencoder(path: Path) -> Path:
    """Vectors of 6 values, and codes of 4: encode, decode and sample."""
    code, vector = ValueSpec("vector", (LATENT,), "C", Real(-np.inf, np.inf)), ValueSpec("vector", (6,), "C")

    def product(name: str, sizes: tuple[int, int]) -> onnx.ModelProto:
        return graph(
            [helper.make_node("MatMul", ["x", "w"], ["output"])],
            {"x": (TensorProto.FLOAT, ["n", sizes[0]])},
            {"output": ["n", sizes[1]]},
            {"w": weight(name, *sizes)},
        )

    programs = {
        "sample": Program(OneShot(latent=(LATENT,), graph="decoder"), {}, vector),
        "encode": Program(OneShot(graph="encoder", conditions=("x",)), {"x": ConditionSpec(vector)}, code),
        "decode": Program(OneShot(graph="decoder", conditions=("z",)), {"z": ConditionSpec(code)}, vector),
    }
    graphs = {
        "encoder": GraphEntry("e.onnx", "encoder", (InputEntry("x", (1, 6)),)),
        "decoder": GraphEntry("d.onnx", "decoder", (InputEntry("x", (1, LATENT)),)),
    }
    models = {"e.onnx": product("e", (6, LATENT)), "d.onnx": product("d", (LATENT, 6))}
    return _save(path, Manifest("codes", "0.1.0", programs, graphs), models)
