"""Every operator makes in C what onnxruntime makes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.arena import plan_arena
from niwaki.deployment.c.compiling import FLAGS, compiler
from niwaki.deployment.c.constants import Constants
from niwaki.deployment.c.functions import Functions
from niwaki.deployment.c.fuse import fuse
from niwaki.deployment.c.lower import lower
from niwaki.deployment.c.operators import operators
from niwaki.deployment.c.quantized_moves import move_bytes
from niwaki.deployment.c.source import _QUANTIZE
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.static_graph.reading import read_network

MAIN = """
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
{text}
int main(void)
{{
    static float x[{inputs}], y[{outputs}];
    static union {{ double aligned; uint8_t bytes[{arena}]; }} memory;
    if (fread(x, sizeof x, 1, stdin) != 1) {{
        return 1;
    }}
    network(x, y, memory.bytes);
    fwrite(y, sizeof y, 1, stdout);
    return 0;
}}
"""

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def one(op: str, *rest: np.ndarray, **attributes: object) -> list[tuple]:
    return [(op, rest, attributes)]


IMAGE = (1, 4, 5, 6)
CASES: list[tuple[str, tuple[int, ...], list[tuple]]] = [
    *((op, IMAGE, one(op)) for op in ("Relu", "Tanh", "Sigmoid", "Sin", "Cos", "Exp", "Abs", "Neg")),
    *((op, IMAGE, one(op)) for op in ("Erf", "Floor", "Ceil", "Elu", "LeakyRelu", "HardSigmoid", "Gelu")),
    *((op, IMAGE, one(op)) for op in ("Identity", "GlobalAveragePool", "Sign", "Reciprocal", "Round")),
    *((op, IMAGE, one(op)) for op in ("Sinh", "Cosh", "Tan", "Softplus", "HardSwish")),
    ("gelu_tanh", IMAGE, one("Gelu", approximate="tanh")),
    ("log", IMAGE, [*one("Abs"), *one("Add", np.float32(0.1)), *one("Log"), *one("Atan")]),
    ("sqrt", IMAGE, [*one("Abs"), *one("Sqrt"), *one("Pow", np.float32(1.5))]),
    ("binary", IMAGE, [*one("Add", normal(4, 1, 1)), *one("Mul", normal(5, 6)), *one("Sub", normal(1))]),
    ("div", IMAGE, one("Div", normal(6) + 4.0)),
    ("extremes", IMAGE, [*one("Max", normal(6)), *one("Min", normal(5, 1))]),
    ("clip", IMAGE, one("Clip", np.float32(-0.5), np.float32(0.7))),
    ("prelu", IMAGE, one("PRelu", normal(4, 1, 1))),
    ("where", IMAGE, [*one("Less", normal(5, 6)), *one("Where", normal(6), normal(4, 1, 1))]),
    ("logic", IMAGE, [*one("Greater", normal(6)), *one("And", normal(5, 6) > 0), *one("Or", normal(6) > 1),
                      *one("Equal", normal(6) > 0), *one("Cast", to=TensorProto.FLOAT)]),
    ("less_or_equal", IMAGE, [*one("LessOrEqual", normal(6)), *one("Cast", to=TensorProto.FLOAT)]),
    ("concat", IMAGE, one("Concat", normal(1, 4, 2, 6), axis=2)),
    ("split", IMAGE, one("Split", ints(2, 3), axis=2)),
    ("min", IMAGE, one("ReduceMin", ints(1, 2), keepdims=0)),
    ("prod", IMAGE, one("ReduceProd", ints(3), keepdims=1)),
    ("squares", IMAGE, one("ReduceSumSquare", ints(-1), keepdims=1)),
    ("group", IMAGE, one("GroupNormalization", normal(4), normal(4), num_groups=2)),
    ("not", IMAGE, [*one("GreaterOrEqual", normal(6)), *one("Not"), *one("Cast", to=TensorProto.FLOAT)]),
    ("transpose", IMAGE, one("Transpose", perm=[0, 2, 3, 1])),
    ("slice", IMAGE, one("Slice", ints(1, 4), ints(4, -7), ints(1, 3), ints(2, -1))),
    ("expand", (1, 4, 1, 6), one("Expand", ints(1, 4, 3, 6))),
    ("tile", IMAGE, one("Tile", ints(1, 2, 1, 3))),
    ("resize", IMAGE, one("Resize", ints(), np.array([1, 1, 2, 3], np.float32), mode="nearest",
                          coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
    ("depth", (1, 8, 3, 2), one("DepthToSpace", blocksize=2, mode="DCR")),
    ("depth_crd", (1, 8, 3, 2), one("DepthToSpace", blocksize=2, mode="CRD")),
    ("space", (1, 2, 4, 6), one("SpaceToDepth", blocksize=2)),
    ("pad", IMAGE, one("Pad", ints(0, 0, 1, 2, 0, 1, 0, 3), np.float32(0.5))),
    ("reshape", IMAGE, [*one("Reshape", ints(1, 20, 6)), *one("Transpose", perm=[0, 2, 1])]),
    ("gather", IMAGE, one("Gather", ints(2, -1, 0), axis=2)),
    ("gather_elements", (1, 4, 6), one("GatherElements", ints(*range(4), 3, -1).reshape(1, 1, 6), axis=1)),
    ("sum", IMAGE, one("ReduceSum", ints(1, 3), keepdims=0)),
    ("mean", IMAGE, one("ReduceMean", ints(2), keepdims=1)),
    ("max", IMAGE, one("ReduceMax", ints(3), keepdims=0)),
    ("l2", IMAGE, one("ReduceL2", ints(1), keepdims=1)),
    ("cumsum", IMAGE, one("CumSum", np.int64(2))),
    ("cumsum_before", IMAGE, one("CumSum", np.int64(-1), exclusive=1, reverse=1)),
    ("softmax", IMAGE, one("Softmax", axis=1)),
    ("log_softmax", IMAGE, one("LogSoftmax", axis=-1)),
    ("average_pool", IMAGE, one("AveragePool", kernel_shape=[2, 3], strides=[1, 2], pads=[1, 1, 1, 1])),
    ("max_pool", IMAGE, one("MaxPool", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0])),
    ("instance", (1, 4, 30), one("InstanceNormalization", normal(4), normal(4))),
    ("layer", IMAGE, one("LayerNormalization", normal(6), normal(6), axis=-1)),
    ("batch", IMAGE, one("BatchNormalization", normal(4), normal(4), normal(4), np.abs(normal(4)) + 0.5)),
    ("gemm", (1, 12), one("Gemm", normal(7, 12), normal(7), transB=1)),
    ("gemm_beta", (1, 12), one("Gemm", normal(12, 7), normal(7), beta=0.5)),
    ("matmul", (1, 3, 5, 6), one("MatMul", normal(6, 4))),
    ("matmuls", (1, 3, 5, 6), one("MatMul", normal(3, 6, 4))),
    ("conv", IMAGE, one("Conv", normal(6, 4, 3, 3), normal(6), pads=[1, 1, 1, 1])),
    ("strided", IMAGE, one("Conv", normal(6, 4, 3, 2), pads=[2, 0, 1, 1], strides=[2, 3], dilations=[1, 2])),
    ("grouped", IMAGE, one("Conv", normal(8, 2, 3, 3), normal(8), pads=[0, 1, 0, 1], group=2)),
    ("wide_pads", IMAGE, one("Conv", normal(2, 4, 1, 3), pads=[0, 4, 0, 4], strides=[1, 2])),
    ("conv1d", (1, 4, 11), one("Conv", normal(5, 4, 3), normal(5), pads=[2, 1], dilations=[2])),
    ("transposed", IMAGE, one("ConvTranspose", normal(4, 3, 4, 4), normal(3), strides=[2, 2], pads=[1] * 4)),
    ("transposed_groups", IMAGE, one("ConvTranspose", normal(4, 3, 3, 2), strides=[1, 2], group=2,
                                     pads=[1, 0, 0, 1], output_padding=[0, 1])),
]  # fmt: skip


def write(path: Path, shape: tuple[int, ...], layers: list[tuple]) -> np.ndarray:
    """A graph of layers one after another, and what onnxruntime makes of one input, which it writes too."""
    nodes, stored, at = [], [], "x"
    for k, (op, rest, attributes) in enumerate(layers):
        names = []
        for i, values in enumerate(rest):
            empty = op == "Resize" and i == 0
            names.append("" if empty else f"c{k}_{i}")
            if not empty:
                stored.append(numpy_helper.from_array(np.asarray(values), names[-1]))
        outputs = [f"y{k}", f"y{k}_rest"] if op == "Split" else [f"y{k}"]
        nodes.append(helper.make_node(op, [at, *names], outputs, **attributes))
        at = f"y{k}"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape[1:]])],
        [helper.make_empty_tensor_value_info(at)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    np.save(path.with_suffix(".npy"), x)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    made: np.ndarray = onnxruntime.InferenceSession(path.read_bytes(), options).run(None, {"x": x})[0]
    return made


def in_c(path: Path, outputs: list[str], change: Callable[[Network], None] = lambda n: None) -> np.ndarray:
    """The same in C, under the sanitizers."""
    network = read_network(path, "g", ["x"], outputs, known=operators(), form="C")
    move_bytes(network)
    lower(network)
    fuse(network)
    change(network)
    plan = plan_arena(network)
    constants = Constants()
    functions = Functions(constants)
    body = functions.network(network, plan, "network")
    quantize = _QUANTIZE if "niwaki_quantize(" in functions.kernels() else ""
    text = MAIN.format(
        text=quantize + constants.text() + functions.kernels() + body,
        inputs=network.arrays["x"].size,
        outputs=network.arrays[network.outputs[0]].size,
        arena=max(plan.bytes, 8),
    )
    source = path.with_suffix(".c")
    source.write_text(text)
    command = [compiler(), *FLAGS, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"]
    subprocess.run([*command, source, "-o", path.with_suffix(""), "-lm"], check=True)
    x = np.load(path.with_suffix(".npy"))
    done = subprocess.run([path.with_suffix("")], input=x.tobytes(), capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32)


needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape", "layers"), CASES)
def test_an_operator_makes_what_onnxruntime_makes(
    name: str, shape: tuple[int, ...], layers: list[tuple], tmp_path: Path
) -> None:
    wanted = write(tmp_path / "g.onnx", shape, layers)
    made = in_c(tmp_path / "g.onnx", [f"y{len(layers) - 1}"])
    np.testing.assert_allclose(made, wanted.reshape(-1), rtol=2e-5, atol=2e-6)


@needs_compiler
def test_a_sum_of_bytes_is_exact_and_its_quantizer_rounds_halves_to_even(tmp_path: Path) -> None:
    """Quantize, move, multiply, clip and quantize again: nothing but bytes lies in the arena."""
    q = (np.float32(0.02), np.uint8(113))
    weights = RNG.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8)
    scale = np.abs(normal(6)) * 0.01 + 0.001
    after = (np.float32(0.25), np.uint8(0))
    path = tmp_path / "g.onnx"
    wanted = quantized(path, q, weights, scale, after)
    seen: list[Network] = []
    made = in_c(path, ["y"], seen.append)
    assert [s.op for s in seen[0].steps] == ["Map", "Resize", "Conv"]
    assert {seen[0].arrays[s.outputs[0]].dtype for s in seen[0].steps[:2]} == {"uint8"}
    np.testing.assert_array_equal(made, wanted.reshape(-1))


def quantized(path: Path, q: tuple, weights: np.ndarray, scale: np.ndarray, after: tuple) -> np.ndarray:
    stored = {
        "s": q[0], "z": q[1], "w": weights, "ws": scale, "wz": np.zeros(len(scale), np.int8),
        "b": normal(6), "s2": after[0], "z2": after[1], "r": np.array([1, 1, 2, 2], np.float32),
    }  # fmt: skip
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("Resize", ["xd", "", "r"], ["up"], **nearest),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["up", "wd", "b"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("QuantizeLinear", ["relu", "s2", "z2"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s2", "z2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 3, 3])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    x = np.random.default_rng(1).standard_normal((1, 4, 3, 3)).astype(np.float32)
    np.save(path.with_suffix(".npy"), x)
    # Slowly, as ONNX defines it: bytes times bytes in integers.
    bytes_ = np.clip(np.rint(x / q[0]) + q[1], 0, 255).astype(np.int64) - int(q[1])
    up = np.pad(bytes_.repeat(2, 2).repeat(2, 3), ((0, 0), (0, 0), (1, 1), (1, 1)))
    places = np.lib.stride_tricks.sliding_window_view(up[0], (3, 3), axis=(1, 2))
    sums = np.einsum("chwpq,mcpq->mhw", places, weights.astype(np.int64))
    factor = (scale * q[0]).astype(np.float32)[:, None, None]
    real = sums.astype(np.float32) * factor + stored["b"][:, None, None]
    levels = np.clip(np.rint(np.maximum(real, 0) / after[0]), 0, 255).astype(np.float32)
    made: np.ndarray = levels * after[0]
    return made


def test_an_operator_without_a_form_is_named_beside_those_that_have_one(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", (1, 4, 4), one("Det"))
    with pytest.raises(NiwakiError, match=r"'g' has the operator Det, .* carried are Abs, Add, .*Conv,"):
        read_network(tmp_path / "g.onnx", "g", ["x"], ["y0"], known=operators(), form="C")


def test_every_operator_has_a_case_here() -> None:
    tried = {op for _, _, layers in CASES for op, _, _ in layers} | {"QuantizeLinear", "DequantizeLinear"}
    assert set(operators()) - tried == set()
