"""Small bundles written by hand for the pages: a diffusion of pictures that inpaints, and a forecaster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from runtime.small_graphs import graph, weight
from serving.bundles import _save

from niwaki_runtime.manifest import GraphEntry, InputEntry, Manifest
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import Diffusion, Inpaint, OneShot
from niwaki_runtime.specs import ConditionSpec, Real, ValueSpec

SIDE, PAST, STEPS = 4, 8, 3
PICTURE = ValueSpec("image", (1, SIDE, SIDE), "CHW")


def painter(path: Path) -> Path:
    """Pictures of 4×4 by a diffusion of four steps, and its program `inpaint`."""
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["h"]),
        helper.make_node("Unsqueeze", ["t", "axes"], ["u"]),
        helper.make_node("Mul", ["u", "little"], ["b"]),
        helper.make_node("Add", ["h", "b"], ["output"]),
    ]
    model = graph(
        nodes,
        {"x": (TensorProto.FLOAT, ["n", 1, SIDE, SIDE]), "t": (TensorProto.FLOAT, ["n"])},
        {"output": ["n", 1, SIDE, SIDE]},
        {
            "half": np.array(0.5, np.float32),
            "little": np.array(0.001, np.float32),
            "axes": np.array([1, 2, 3], np.int64),
        },
    )
    plan = Diffusion(shape=(1, SIDE, SIDE), steps=4)
    known = ConditionSpec(PICTURE, 0.0)
    mask = ConditionSpec(ValueSpec("mask", (1, SIDE, SIDE), "CHW", Real(0.0, 1.0)), 0.0)
    programs = {
        "sample": Program(plan, {}, PICTURE),
        "inpaint": Program(Inpaint(plan), {"known": known, "mask": mask}, PICTURE),
    }
    entry = GraphEntry("d.onnx", "denoiser", (InputEntry("x", (1, 1, SIDE, SIDE)), InputEntry("t", (1,))))
    return _save(path, Manifest("painter", "0.1.0", programs, {"denoiser": entry}), {"d.onnx": model})


def forecaster(path: Path) -> Path:
    """Series that go on from their last value by chance."""
    nodes = [
        helper.make_node("MatMul", ["z", "w"], ["noise"]),
        helper.make_node("Slice", ["past", "from", "to", "axis"], ["last"]),
        helper.make_node("Unsqueeze", ["noise", "channel"], ["n1"]),
        helper.make_node("Add", ["n1", "last"], ["output"]),
    ]
    model = graph(
        nodes,
        {"z": (TensorProto.FLOAT, ["n", 2]), "past": (TensorProto.FLOAT, ["n", 1, PAST])},
        {"output": ["n", 1, STEPS]},
        {
            "w": weight("w", 2, STEPS),
            "from": np.array([PAST - 1], np.int64),
            "to": np.array([PAST], np.int64),
            "axis": np.array([2], np.int64),
            "channel": np.array([1], np.int64),
        },
    )
    free = Real(-np.inf, np.inf)
    series = ValueSpec("series", (1, STEPS), "CT", free, names=("level",))
    past = ConditionSpec(ValueSpec("series", (1, PAST), "CT", free, names=("level",)), 0.0)
    program = Program(OneShot(latent=(2,), conditions=("past",)), {"past": past}, series)
    entry = GraphEntry("f.onnx", "generator", (InputEntry("z", (1, 2)), InputEntry("past", (1, 1, PAST))))
    programs = {"sample": program, "forecast": program}
    return _save(path, Manifest("levels", "0.1.0", programs, {"generator": entry}), {"f.onnx": model})
