"""int8: what is counted is what runs, the file holds integers, both engines agree, and the rewriting is
exact."""

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

from niwaki.core.contract import CallError, GenerativeModel, Graph, NiwakiError, Port
from niwaki.deployment import count_executed, count_quantized, quantize_onnx
from niwaki.deployment.bake import bake
from niwaki.deployment.check import open_runner
from niwaki.deployment.counting import quantized_nodes
from niwaki.deployment.export import to_onnx
from niwaki.deployment.integers import (
    quantize_embeddings,
    store_integers,
    symmetric_inputs,
    unsigned_activations,
)
from niwaki.deployment.onnx_file import producers, write_graphs
from niwaki_runtime.engines import available


def calibration(graph: Graph, items: int = 6) -> list[dict[str, np.ndarray]]:
    return [
        {n: x.numpy() for n, x in zip(graph.input_names, graph.example(8, i), strict=True)}
        for i in range(items)
    ]


def literally(model: onnx.ModelProto | Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The graph as it is written, operator by operator, nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model.read_bytes() if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, feed)[0]


@pytest.fixture(scope="module")
def quantized(exported: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    made: dict[str, tuple[GenerativeModel, Path, Path, dict]] = {}

    def get(name: str) -> tuple[GenerativeModel, Path, Path, dict]:
        if name not in made:
            model, paths = exported(name)
            (graph_name, path), out = next(iter(paths.items())), tmp_path_factory.mktemp(name) / "int8.onnx"
            made[name] = model, path, out, quantize_onnx(path, out, calibration(model.graphs()[graph_name]))
        return made[name]

    return get


@pytest.mark.parametrize(
    "name, kinds", [("conv", ("Conv", "Gemm")), ("transposed", ("ConvTranspose", "Conv", "Gemm"))]
)
def test_every_weighted_operator_of_a_generator_runs_on_integers(
    name: str, kinds: tuple, quantized: Callable
) -> None:
    _, float_file, file, counts = quantized(name)
    assert count_quantized(float_file)["quantized"] == 0
    assert counts["quantized"] == counts["total"] == count_quantized(file)["total"]
    assert all(counts[kind] >= 1 for kind in kinds)


@pytest.mark.slow
def test_convolutions_linears_and_attention_of_a_denoiser_run_on_integers(quantized: Callable) -> None:
    counts = quantized("denoiser")[3]
    assert counts["Conv"] == 13
    assert counts["Gemm"] == 4
    assert counts["MatMul"] == 0  # queries with keys, weights with values: no weights, left in float
    assert counts["quantized"] == counts["total"] == 17


@pytest.mark.slow
def test_products_of_activations_are_quantized_when_asked(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("denoiser")
    file = tmp_path / "a.onnx"
    quantize_onnx(paths["denoiser"], file, calibration(model.graphs()["denoiser"], 1), attention=True)
    proto = onnx.load(file)
    made_by = producers(proto)
    products = [n for n in proto.graph.node if n.op_type == "MatMul"]
    kinds = [made_by[v].op_type for n in products for v in n.input]
    assert len(kinds) == 4
    assert set(kinds) <= {
        "DequantizeLinear",
        "Squeeze",
    }  # the latter takes its values from a DequantizeLinear


@pytest.mark.parametrize("name", ["conv", "transposed", "denoiser"])
def test_the_weights_are_integers_in_the_file(name: str, quantized: Callable) -> None:
    _, float_file, file, _ = quantized(name)
    assert file.stat().st_size < 0.4 * float_file.stat().st_size
    model = onnx.load(file)
    stored = {t.name: t for t in model.graph.initializer}
    made_by = producers(model)
    for node in quantized_nodes(model):
        source = made_by[node.input[1]]
        if source.op_type == "DequantizeLinear" and source.input[0] in stored:
            assert stored[source.input[0]].data_type == TensorProto.INT8
    floats = [t for t in stored.values() if t.data_type == TensorProto.FLOAT and len(t.dims) > 1]
    assert sum(np.prod(t.dims) for t in floats) < 2000  # biases and small tables only


@pytest.mark.parametrize("name", ["conv", "transposed", "denoiser"])
def test_engines_agree_far_closer_than_int8_costs(name: str, quantized: Callable) -> None:
    model, _, file, _ = quantized(name)
    graph = next(iter(model.graphs().values()))
    inputs = graph.example(8, seed=99)
    wanted = graph(*inputs).detach().numpy()
    scale = np.sqrt(np.mean(wanted**2))
    written = literally(file, {n: x.numpy() for n, x in zip(graph.input_names, inputs, strict=True)})
    cost = np.sqrt(np.mean((written - wanted) ** 2)) / scale
    assert 1e-4 < cost < 0.1
    for engine in available():
        made = open_runner(engine, graph, file)(*(x.numpy() for x in inputs))
        assert np.sqrt(np.mean((made - written) ** 2)) / scale < 0.6 * cost + 1e-6
        assert np.sqrt(np.mean((made - wanted) ** 2)) / scale < 1.2 * cost


x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="what openvino does on x86")


@x86
@pytest.mark.parametrize("name", ["conv", "transposed", "denoiser"])
def test_openvino_runs_on_integers_what_the_file_says(name: str, quantized: Callable) -> None:
    _, float_file, file, counts = quantized(name)
    for kind in ("Conv", "ConvTranspose", "Gemm"):
        assert count_executed(file).get(kind, Counter())["int8"] == counts[kind]
    assert all(numbers["int8"] == 0 for numbers in count_executed(float_file).values())


@x86
@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.2), nn.SiLU()])
def test_transposed_convolutions_after_signed_activations_run_on_integers(
    activation: nn.Module, tmp_path: Path
) -> None:
    """The guard of `symmetric_inputs`: with a zero point openvino runs these in float, without a word."""
    torch.manual_seed(0)
    up = [nn.ConvTranspose2d(16, 32, 4, 1, 0), activation, nn.ConvTranspose2d(32, 16, 4, 2, 1), activation]
    module = nn.Sequential(*up, nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Tanh()).eval()
    graph = Graph("generator", module, (Port("z", (1, 16, 1, 1)),))
    path = write_graphs({"g": to_onnx("g", graph, bake(module))}, tmp_path)["g"]
    assert quantize_onnx(path, tmp_path / "int8.onnx", calibration(graph))["quantized"] == 3
    assert count_executed(tmp_path / "int8.onnx") == {"ConvTranspose": Counter({"int8": 3})}


def test_quantizing_says_nothing_and_is_repeatable(
    quantized: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    model, source, file, _ = quantized("conv")
    capfd.readouterr()
    quantize_onnx(source, tmp_path / "again.onnx", calibration(next(iter(model.graphs().values()))))
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


def test_an_ignored_module_stays_in_float(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    graph, path = model.graphs()["generator"], paths["generator"]
    last = f"body.{len(model.net.body) - 2}"
    all_of_it = count_quantized(path)["total"]
    counts = quantize_onnx(path, tmp_path / "a.onnx", calibration(graph), ignored=[last])
    assert counts["quantized"] == all_of_it - 1
    left = {t.name: t.data_type for t in onnx.load(tmp_path / "a.onnx").graph.initializer}
    assert left[f"{last}.weight"] == TensorProto.FLOAT
    with pytest.raises(CallError, match=r"did you mean 'body\.\d'"):
        quantize_onnx(path, tmp_path / "b.onnx", calibration(graph), ignored=["body.77"])


def test_bad_calls_and_nothing_to_do_are_errors(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    graph, path, out = model.graphs()["generator"], paths["generator"], tmp_path / "a.onnx"
    items = calibration(graph)
    with pytest.raises(CallError, match="there is none"):
        quantize_onnx(path, out, [])
    with pytest.raises(CallError, match="lacks the graph's input 'y'"):
        quantize_onnx(path, out, [{"z": items[0]["z"]}])
    with pytest.raises(CallError, match="did you mean 'z'"):
        quantize_onnx(path, out, [{"zz": items[0]["z"], "y": items[0]["y"]}])
    with pytest.raises(CallError, match="did you mean 'mixed'"):
        quantize_onnx(path, out, items, preset="mixt")
    everything = [n.name for n in onnx.load(path).graph.node if n.op_type in ("Conv", "Gemm")]
    with pytest.raises(NiwakiError, match="changed none of the 3"):
        quantize_onnx(path, out, items, ignored=everything)
    assert not out.exists()


def _small(
    nodes: list, tensors: list[tuple[str, np.ndarray]], shape: tuple, kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["a", "b"])],
        [numpy_helper.from_array(v, n) for n, v in tensors],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("axis", [0, 1])
def test_storing_integers_is_what_the_standard_says(axis: int) -> None:
    """Folding QuantizeLinear of a constant gives bitwise what an engine computes from it: ties to even,
    saturation."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((6, 6)).astype(np.float32)
    scale = np.full(6, 0.25, np.float32)
    w[0], w[1] = np.arange(6) * 0.25 + 0.125, 100.0  # ties, and out of range
    tensors = [("w", w), ("s", scale), ("z", np.arange(6, dtype=np.int8))]
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=axis),
        helper.make_node("MatMul", ["x", "d"], ["out"]),
    ]
    model = _small(nodes, tensors, (6, 6))
    feed = {"x": np.eye(6, dtype=np.float32)}
    before = literally(model, feed)
    assert store_integers(model) == 1
    assert [n.op_type for n in model.graph.node] == ["DequantizeLinear", "MatMul"]
    assert {t.name: t.data_type for t in model.graph.initializer}["q"] == TensorProto.INT8
    assert "w" not in {t.name for t in model.graph.initializer}
    np.testing.assert_array_equal(literally(model, feed), before)


def test_unsigned_activations_are_the_same_values() -> None:
    tensors = [("s", np.float32(0.1)), ("z", np.int8(-37))]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["out"]),
    ]
    model = _small(nodes, tensors, (1, 1001))
    feed = {"x": np.linspace(-20, 20, 1001, dtype=np.float32)[None]}
    before = literally(model, feed)
    assert unsigned_activations(model) == 1
    zero = next(t for t in model.graph.initializer if t.name == "z")
    assert numpy_helper.to_array(zero) == np.uint8(128 - 37)
    np.testing.assert_array_equal(literally(model, feed), before)


def _activations(model: onnx.ModelProto) -> list[tuple[str, np.ndarray]]:
    """Reader and zero point of every quantized activation."""
    held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            reader = next(n for n in model.graph.node if node.output[0] in n.input)
            users = [n.op_type for n in model.graph.node if reader.output[0] in n.input]
            found.append((users[0], held[node.input[2]]))
    return found


def test_only_transposed_convolutions_read_signed_activations_and_those_have_no_zero_point(
    quantized: Callable,
) -> None:
    for name in ("conv", "transposed", "denoiser"):
        found = _activations(onnx.load(quantized(name)[2]))
        assert found
        for kind, zero in found:
            assert zero == 0 if kind == "ConvTranspose" else zero.dtype == np.uint8


def test_a_zero_point_before_a_transposed_convolution_is_taken_away_within_a_bit() -> None:
    """s' = s·max(z, 255 − z)/127 for uint8: the whole old range still fits, the step at most doubles."""
    tensors = [("s", np.float32(0.02)), ("z", np.uint8(40)), ("w", np.ones((1, 1, 1, 1), np.float32))]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("ConvTranspose", ["d", "w"], ["out"]),
    ]
    model = _small(nodes, tensors, (1, 1, 1, 511))
    model.graph.output[0].type.tensor_type.shape.CopyFrom(model.graph.input[0].type.tensor_type.shape)
    x = np.linspace(-40 * 0.02, 215 * 0.02, 511, dtype=np.float32)[None, None, None]
    assert np.abs(literally(model, {"x": x}) - x).max() <= 0.0101
    assert symmetric_inputs(model) == 1
    made = literally(model, {"x": x})
    step = 0.02 * 215 / 127
    assert np.abs(made - x).max() <= step / 2 + 1e-6
    assert 0.02 < step <= 0.04
    assert unsigned_activations(model) == 0
    assert symmetric_inputs(model) == 0


def test_embeddings_are_stored_with_half_a_step_of_error() -> None:
    table = (
        np.random.default_rng(0).standard_normal((50, 128)).astype(np.float32)
        * np.logspace(-3, 1, 50)[:, None]
    )
    table = table.astype(np.float32)
    model = _small(
        [helper.make_node("Gather", ["table", "x"], ["out"])], [("table", table)], (50,), TensorProto.INT64
    )
    size = model.ByteSize()
    assert quantize_embeddings(model) == 1
    onnx.checker.check_model(model)
    assert model.ByteSize() < 0.3 * size
    out = literally(model, {"x": np.arange(50)})
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    assert np.all(np.abs(out - table) <= step / 2 * 1.0001)
    small = _small(
        [helper.make_node("Gather", ["table", "x"], ["out"])], [("table", table[:2])], (2,), TensorProto.INT64
    )
    assert quantize_embeddings(small) == 0
