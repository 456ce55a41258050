"""ONNX's operators in torch against onnxruntime: on single steps, rounded ones among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from niwaki.core.contract import NiwakiError
from niwaki.deployment.executorch.moves import round_beside_products
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.static_graph.reading import read_network
from niwaki.deployment.static_graph.rounding import round_on_floats
from niwaki.deployment.torch_graph import OPERATORS, GraphModule
from niwaki.deployment.torch_graph.weights import RoundedWeights

RNG = np.random.default_rng(0)
X = (1, 4, 6, 6)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def saved(place: Path, nodes: list[Any], constants: dict[str, np.ndarray], outputs: int = 1) -> Path:
    """A graph of x, of one output or several."""
    names = [f"y{k}" if k else "y" for k in range(outputs)]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(X))],
        [helper.make_empty_tensor_value_info(name) for name in names],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, place)
    return place


def both(
    path: Path, x: np.ndarray, outputs: int = 1, prepare: Callable[[Network], None] | None = None
) -> tuple[list[Any], list[Any]]:
    """What onnxruntime makes of x, and what torch does."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [f"y{k}" if k else "y" for k in range(outputs)]
    network = read_network(path, "g", ["x"], names, known=OPERATORS, form="torch")
    if prepare is not None:
        prepare(network)
    with torch.no_grad():
        as_floats = network.quantized if prepare is round_on_floats else ()
        made = GraphModule(network, as_floats).eval()(torch.from_numpy(x))
    return session.run(names, {"x": x}), [one.numpy() for one in made]


CASES: list[tuple[str, dict[str, Any], dict[str, np.ndarray]]] = [
    ("Div", {}, {"a": floats(1, 4, 1, 1) + 3.0}),
    ("Min", {}, {"a": floats(1, 4, 1, 1)}),
    ("Clip", {}, {"low": np.float32(-0.5).reshape(()), "high": np.float32(0.25).reshape(())}),
    ("LeakyRelu", {"alpha": 0.2}, {}),
    ("Softmax", {"axis": 1}, {}),
    ("LogSoftmax", {"axis": -1}, {}),
    ("ReduceMean", {"keepdims": 0}, {"axes": ints(2, 3)}),
    ("ReduceSum", {"keepdims": 1}, {"axes": ints(1)}),
    ("Transpose", {"perm": [0, 2, 3, 1]}, {}),
    ("Gather", {"axis": 1}, {"index": ints(3, -1, 0)}),
    ("Slice", {}, {"s": ints(1, -1), "e": ints(4, -100), "a": ints(2, 3), "t": ints(2, -1)}),
    ("Pad", {"mode": "reflect"}, {"pads": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    ("Pad", {"mode": "constant"}, {"pads": ints(0, 1, 0, 0, 0, 0, 0, 2)}),
    ("DepthToSpace", {"blocksize": 2, "mode": "DCR"}, {}),
    ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, {}),
    (
        "Conv",
        {"pads": [1, 0, 1, 2], "strides": [2, 1], "group": 2},
        {"w": floats(6, 2, 3, 3), "b": floats(6)},
    ),
    (
        "ConvTranspose",
        {"pads": [1, 1, 0, 1], "strides": [2, 2], "output_padding": [1, 0]},
        {"w": floats(4, 3, 4, 3), "b": floats(3)},
    ),
    ("InstanceNormalization", {"epsilon": 1e-3}, {"s": floats(4), "b": floats(4)}),
    ("LayerNormalization", {"axis": -1}, {"s": floats(6), "b": floats(6)}),
    ("ReduceL2", {"keepdims": 1}, {"axes": ints(-1)}),
    ("Pow", {}, {"e": np.float32(2.0).reshape(())}),
    ("MatMul", {}, {"w": floats(6, 5)}),
]


@pytest.mark.parametrize(("op", "attributes", "constants"), CASES)
def test_a_step_gives_what_onnxruntime_gives(
    op: str, attributes: dict[str, Any], constants: dict[str, np.ndarray], tmp_path: Path
) -> None:
    node = helper.make_node(op, ["x", *constants], ["y"], **attributes)
    wanted, made = both(saved(tmp_path / "g.onnx", [node], constants), floats(*X))
    assert made[0].shape == wanted[0].shape
    np.testing.assert_allclose(made[0], wanted[0], atol=2e-6)


@pytest.mark.parametrize(
    ("mode", "how"), [("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners")]
)
def test_resizing(mode: str, how: str, tmp_path: Path) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": how}
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **attributes)
    scales = {"scales": np.array([1, 1, 2, 2], np.float32)}
    wanted, made = both(saved(tmp_path / "g.onnx", [node], scales), floats(*X))
    np.testing.assert_allclose(made[0], wanted[0], atol=2e-6)


def test_parts_of_a_split(tmp_path: Path) -> None:
    node = helper.make_node("Split", ["x", "sizes"], ["y", "y1"], axis=1)
    wanted, made = both(saved(tmp_path / "g.onnx", [node], {"sizes": ints(1, 3)}, 2), floats(*X), 2)
    for a, b in zip(wanted, made, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("prepare", [None, round_beside_products, round_on_floats])
def test_a_rounded_layer_is_the_same_to_the_bit_on_bytes_of_either_sign(
    kind: type, prepare: Callable[[Network], None] | None, tmp_path: Path
) -> None:
    """Q, DQ, upsampling, convolution with weights by channels, a view, ReLU, Q, DQ."""
    zero = np.array(90 if kind is np.uint8 else -38, kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    weights = RNG.integers(-127, 128, (3, 4, 3, 3)).astype(np.int8)
    scale = np.array([0.01, 0.02, 0.005], np.float32)
    constants = {
        "s": np.array(0.03, np.float32), "z": zero, "w": weights, "ws": scale, "wz": np.zeros(3, np.int8),
        "scales": np.array([1, 1, 2, 2], np.float32), "shape": ints(1, -1), "s2": np.array(0.1, np.float32),
        "z2": np.array(low, kind),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node(
            "Resize", ["d", "", "scales"], ["u"], mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["dw"], axis=0),
        helper.make_node("Conv", ["u", "dw"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "shape"], ["v"]),
        helper.make_node("Relu", ["v"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s2", "z2"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "s2", "z2"], ["y"]),
    ]  # fmt: skip
    wanted, made = both(saved(tmp_path / "g.onnx", nodes, constants), floats(*X), prepare=prepare)
    steps = np.abs(made[0] - wanted[0]) / 0.1
    assert steps.max() <= 1.001  # a sum in another order may fall on the other side of a step
    assert (steps > 0.5).mean() < 0.01
    assert high - low == 255
    network = read_network(tmp_path / "g.onnx", "g", ["x"], ["y"], known=OPERATORS, form="torch")
    x = torch.from_numpy(floats(*X))
    assert torch.equal(RoundedWeights(network)(x)[0], GraphModule(network)(x)[0])


def test_rows_of_a_table_by_labels_are_looked_up(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["y"], axis=0),
    ]
    labels = RNG.integers(0, 5, X).astype(np.float32)
    wanted, made = both(saved(tmp_path / "g.onnx", nodes, {"table": floats(5, 3)}), labels)
    np.testing.assert_array_equal(made[0], wanted[0])


def test_an_operator_without_a_form_is_named(tmp_path: Path) -> None:
    node = helper.make_node("GlobalMaxPool", ["x"], ["y"])
    with pytest.raises(NiwakiError, match="GlobalMaxPool"):
        both(saved(tmp_path / "g.onnx", [node], {}), floats(*X))
