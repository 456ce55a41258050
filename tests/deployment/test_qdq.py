"""Graphs of models quantized in torch: rewritten exactly, and run on integers as they say."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from niwaki.core.contract import Graph, NiwakiError, Port
from niwaki.deployment import count_executed, count_quantized, export_graphs
from niwaki.deployment.bake import bake
from niwaki.deployment.export import to_onnx
from niwaki.deployment.onnx_file import write_graphs
from niwaki.deployment.qdq import check_quantized, tidy
from niwaki.surgery.quantized import LayerBits, fit_weights, is_quantizable, quantize_layer

x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="what openvino does on x86")


def rounded(module: nn.Module, bits: int = 8) -> nn.Module:
    """All layers quantized, all inputs on one and the same grid."""
    for part in list(module.modules()):
        if is_quantizable(part) and not isinstance(part, nn.Embedding):
            signed = isinstance(part, nn.ConvTranspose2d)
            made = quantize_layer(part, LayerBits(bits, input="signed" if signed else "unsigned"))
            fit_weights(made)
            made.input_quantizer.set(torch.tensor(8 / 255), 0.0 if signed else 128.0)
    return module


@x86
@pytest.mark.parametrize(
    "name", ["conv", "transposed", pytest.param("denoiser", marks=pytest.mark.slow), "flow", "cache"]
)
def test_openvino_runs_on_integers_what_the_file_says(name: str, build: Callable, tmp_path: Path) -> None:
    """Also where all grids are equal: constants that two operators share send openvino back to float."""
    model = build(name)
    rounded(model)
    for path in export_graphs(model, tmp_path).values():
        counts, executed = count_quantized(path), count_executed(path)
        assert counts["quantized"] == counts["total"] > 0
        assert sum(numbers["int8"] for numbers in executed.values()) == counts["total"]


@pytest.mark.parametrize("shape", [(1, 12), (1, 5, 12)])
def test_linear_layers_of_any_rank_multiply_stored_integers(shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    graph = Graph(
        "g", rounded(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))).eval(), (Port("x", shape),)
    )
    path = write_graphs({"g": to_onnx("g", graph, bake(graph.module))}, tmp_path)["g"]
    kinds = Counter(n.op_type for n in onnx.load(path).graph.node)
    assert kinds["Transpose"] == 0  # the integers are stored as the product reads them
    assert kinds["QuantizeLinear"] == 2
    assert count_quantized(path)["quantized"] == 2
    found = check_quantized("g", graph, bake(graph.module), path)
    assert max(max(errors.values()) for errors in found.errors.values()) < 1e-3


def _graph(
    nodes: list, tensors: dict[str, np.ndarray], shape: list[int], outputs: dict[str, list]
) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in tensors.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def literally(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """The graph as it is written, operator by operator, nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers).run(
        None, {"x": x}
    )


def test_what_a_loop_reads_stays_and_stands_before_it() -> None:
    """Of a quantized graph: constants and values that only the body of the loop reads count."""
    halve = helper.make_node("Mul", ["inner", "rate"], ["next"])
    go_on = helper.make_node("Identity", ["going"], ["again"])
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [halve, go_on],
        "body",
        [scalar("i", TensorProto.INT64, []), scalar("going", TensorProto.BOOL, []),
         scalar("inner", TensorProto.FLOAT, None)],
        [scalar("again", TensorProto.BOOL, []), scalar("next", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Loop", ["count", "", "d"], ["y"], body=body),
    ]
    constants = {
        "scale": np.float32(0.5),
        "zero": np.uint8(3),
        "count": np.int64(2),
        "rate": np.float32(0.5),
        "nobody": np.float32(1),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [scalar("x", TensorProto.FLOAT, [2])],
        [scalar("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    tidy(model)
    onnx.checker.check_model(model)
    names = {t.name for t in model.graph.initializer}
    assert "rate" in names
    assert "nobody" not in names
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (y,) = session.run(None, {"x": np.array([1.0, 3.0], np.float32)})
    np.testing.assert_allclose(y, [0.25, 0.75])


def test_quantization_goes_ahead_of_what_moves_values_and_equal_ones_become_one() -> None:
    """x → Resize → Q → DQ → two readers, a second time with the same grid, and once with another."""
    node = helper.make_node
    tensors = {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "s": np.float32(0.1),
        "z": np.uint8(120),
        "t": np.float32(0.2),
        "shape": np.array([1, -1], np.int64),
    }
    nodes = [
        node("Resize", ["x", "", "scales"], ["big"], mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
        node("QuantizeLinear", ["big", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["a"]),
        node("Relu", ["a"], ["first"]),
        node("QuantizeLinear", ["x", "s", "z"], ["q2"]), node("DequantizeLinear", ["q2", "s", "z"], ["b"]),
        node("Reshape", ["b", "shape"], ["second"]),
        node("QuantizeLinear", ["x", "t", "z"], ["q3"]), node("DequantizeLinear", ["q3", "t", "z"], ["c"]),
        node("Relu", ["c"], ["third"]),
    ]  # fmt: skip
    outputs = {"first": [1, 2, 6, 6], "second": [1, 18], "third": [1, 2, 3, 3]}
    model = _graph(nodes, tensors, [1, 2, 3, 3], outputs)
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32) * 8
    before = literally(model, x)
    tidy(model)
    onnx.checker.check_model(model, full_check=True)
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count("QuantizeLinear") == 2
    assert kinds.index("Resize") > kinds.index("DequantizeLinear")
    for a, b in zip(before, literally(model, x), strict=True):
        np.testing.assert_array_equal(a, b)
    used = Counter(v for n in model.graph.node if n.op_type == "QuantizeLinear" for v in n.input[1:])
    assert set(used.values()) == {1}  # every grid has constants of its own


def test_a_chain_of_moves_is_passed_and_a_branch_is_not() -> None:
    node = helper.make_node
    tensors = {"s": np.float32(0.1), "z": np.int8(0), "shape": np.array([3, 4], np.int64)}
    pair = [node("QuantizeLinear", ["m", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"])]
    moves = [node("Reshape", ["x", "shape"], ["r"]), node("Transpose", ["r"], ["m"], perm=[1, 0])]
    x = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32) * 20
    for branch in (False, True):
        more = [node("Abs", ["m"], ["other"])] if branch else []
        outputs = {"out": [4, 3], **({"other": [4, 3]} if branch else {})}
        model = _graph([*moves, *pair, node("Neg", ["d"], ["out"]), *more], tensors, [2, 6], outputs)
        before = literally(model, x)
        tidy(model)
        onnx.checker.check_model(model, full_check=True)
        assert [n.op_type for n in model.graph.node].index("QuantizeLinear") == (2 if branch else 0)
        for a, b in zip(before, literally(model, x), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_engine_that_computes_something_else_is_noticed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    graph = Graph("g", rounded(nn.Sequential(nn.Linear(12, 8)).eval()), (Port("x", (1, 12)),))
    path = write_graphs({"g": to_onnx("g", graph, bake(graph.module))}, tmp_path)["g"]
    other = bake(graph.module)
    other[0].weight_quantizer.scale.mul_(1.2)
    with pytest.raises(NiwakiError, match="mean error of"):
        check_quantized("g", graph, other, path)
