"""Exported graphs compute what torch computes, in both engines, at every batch; what they share is stored
once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from niwaki.core.contract import CallError, GenerativeModel, Graph, NiwakiError, Port
from niwaki.deployment import export_graphs
from niwaki.deployment.bake import bake
from niwaki.deployment.check import check_graph, graph_errors, open_runner
from niwaki.deployment.export import to_onnx
from niwaki.deployment.fold import fold_upsampling
from niwaki.deployment.onnx_file import read_onnx, write_graphs
from niwaki.models.flow.bisection import bisect
from niwaki.models.flow.constants import FromWeights
from niwaki_runtime.engines import available

NAMES = ("conv", "transposed", "denoiser", "flow", "cache")


def one(module: nn.Module, shape: tuple[int, ...] = (1, 6)) -> Graph:
    return Graph("generator", module.eval(), (Port("x", shape),))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_both_engines_compute_what_torch_does(name: str, engine: str, exported: Callable) -> None:
    model, paths = exported(name)
    for graph_name, path in paths.items():
        graph = model.graphs()[graph_name]
        runner = open_runner(engine, graph, path)
        errors = graph_errors(graph, graph.module, runner, batches=(1, 2, 3, 5, 16))
        assert max(errors.values()) < 1e-5, errors
        assert tuple(errors) == graph.output_names


@pytest.mark.parametrize("name", NAMES)
def test_names_order_and_free_axes_are_the_declared_ones(name: str, exported: Callable) -> None:
    model, paths = exported(name)
    for graph_name, path in paths.items():
        graph, proto = model.graphs()[graph_name], onnx.load(path)
        assert tuple(i.name for i in proto.graph.input) == graph.input_names
        assert tuple(o.name for o in proto.graph.output) == graph.output_names
        for value, port in zip(proto.graph.input, (*graph.inputs, *graph.state), strict=True):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                assert bool(dim.dim_param) == (axis == port.batch_axis)


def test_only_what_sampling_calls_is_exported_unless_asked(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("flow")
    assert set(paths) == {"inverse"}
    assert set(exported("flow", "inverse", "forward")[1]) == {"inverse", "forward"}
    with pytest.raises(CallError, match="did you mean 'inverse'"):
        export_graphs(model, tmp_path / "c", names=["inverze"])


def test_weights_of_two_views_are_stored_once(exported: Callable) -> None:
    names = ("inverse", "forward")
    model, paths = exported("flow", *names)
    held = sum(p.numel() * 4 for p in model.parameters() if p.numel() * 4 >= 1024)
    shared = (paths["forward"].parent / "weights.bin").stat().st_size
    assert held <= shared <= held + 4096 * 8
    assert all(path.stat().st_size < 0.5 * held for path in paths.values())
    # The inverse undoes the forward on the device, too: they do read the same weights.
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    for engine in available():
        forward, inverse = (open_runner(engine, model.graphs()[n], paths[n]) for n in names[::-1])
        np.testing.assert_allclose(inverse(forward(x)[0]), x, atol=1e-5)


def test_a_single_graph_stays_one_file(exported: Callable) -> None:
    _, paths = exported("conv")
    assert [p.name for p in paths["generator"].parent.iterdir()] == ["generator.onnx"]


def test_shared_weights_survive_reading_and_writing_again(exported: Callable, tmp_path: Path) -> None:
    _, paths = exported("flow", "inverse", "forward")
    again = write_graphs({name: read_onnx(path) for name, path in paths.items()}, tmp_path)
    for name, path in paths.items():
        assert again[name].read_bytes() == path.read_bytes()
    before = (paths["forward"].parent / "weights.bin").read_bytes()
    assert (tmp_path / "weights.bin").read_bytes() == before


def test_batch_norms_are_folded_exactly(exported: Callable) -> None:
    for name in ("conv", "transposed"):
        _, paths = exported(name)
        kinds = {n.op_type for n in onnx.load(paths["generator"]).graph.node}
        assert "BatchNormalization" not in kinds  # and test_both_engines… says that nothing else changed


@pytest.mark.parametrize("sizes", [(1, 4, 4), (2, 5, 3)])
def test_upsampling_and_convolution_become_one_operator_exactly(sizes: tuple, tmp_path: Path) -> None:
    """Against float64, borders and odd sizes included; what only looks alike is left alone."""
    torch.manual_seed(0)
    channels = sizes[0]
    up = nn.Upsample(scale_factor=2)
    module = nn.Sequential(
        up, nn.Conv2d(channels, 3, 3, 1, 1), nn.SiLU(), up, nn.Conv2d(3, 2, 3, 1, 1, bias=False)
    )
    graph = one(module, (1, *sizes))
    proto = to_onnx("g", graph, bake(module))
    assert fold_upsampling(proto) == 2
    kinds = [n.op_type for n in proto.graph.node]
    assert kinds.count("ConvTranspose") == 2
    assert "Resize" not in kinds
    onnx.checker.check_model(proto, full_check=True)
    path = write_graphs({"g": proto}, tmp_path)["g"]
    x = graph.example(3)[0]
    wanted = copy.deepcopy(module).double()(x.double()).detach().numpy()
    for engine in available():
        np.testing.assert_allclose(open_runner(engine, graph, path)(x.numpy()), wanted, atol=2e-6)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 4, 3, 1, 1)),
        (nn.Upsample(scale_factor=3), nn.Conv2d(4, 4, 3, 1, 1)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, 1, 0)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 5, 1, 2)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, 2, 1)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, 1, 1, groups=2)),
        (nn.Upsample(scale_factor=2), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1)),
    ],
)
def test_other_upsamplings_are_left_alone(layers: tuple[nn.Module, ...]) -> None:
    module = nn.Sequential(*layers)
    assert fold_upsampling(to_onnx("g", one(module, (1, 4, 4, 4)), bake(module))) == 0


def test_merging_is_what_export_does_when_asked(build: Callable, tmp_path: Path) -> None:
    path = export_graphs(build("conv"), tmp_path, merge_upsampling=True)[
        "generator"
    ]  # checked in both engines
    assert [n.op_type for n in onnx.load(path).graph.node].count("ConvTranspose") == 1


def test_a_norm_after_a_linear_layer_without_bias_is_folded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(6, 24, bias=False), nn.Unflatten(1, (6, 2, 2)), nn.BatchNorm2d(6), nn.Tanh()
    )
    nn.init.uniform_(module[2].weight, 0.5, 1.5)
    nn.init.normal_(module[2].bias)
    module[2].running_mean.normal_()
    module[2].running_var.uniform_(0.5, 2.0)
    proto = to_onnx("g", one(module), bake(module))
    assert [n.op_type for n in proto.graph.node] == ["Gemm", "Reshape", "Tanh"]
    check_graph("g", one(module), module, write_graphs({"g": proto}, tmp_path)["g"], tolerance=1e-6)


def test_parametrized_weights_are_computed_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(6, 5)),
        nn.Tanh(),
        parametrizations.spectral_norm(nn.Linear(5, 4)),
    )
    module.eval()
    proto = to_onnx("g", one(module), bake(module))
    assert [n.op_type for n in proto.graph.node] == ["Gemm", "Tanh", "Gemm"]
    path = write_graphs({"g": proto}, tmp_path)["g"]
    assert max(check_graph("g", one(module), module, path).errors["openvino"].values()) < 1e-6


def test_what_follows_from_weights_is_computed_once_where_a_module_says_so(tmp_path: Path) -> None:
    class Turned(FromWeights):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(6) + 0.1 * torch.randn(6, 6).triu(1))

        def constants(self) -> tuple[Tensor, ...]:
            return (torch.linalg.inv(self.weight),)  # no operator of ONNX

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.known()[0]

    torch.manual_seed(0)
    module = Turned()
    proto = to_onnx("g", one(module), bake(module))
    assert [n.op_type for n in proto.graph.node] == ["MatMul"]
    check_graph("g", one(module), module, write_graphs({"g": proto}, tmp_path)["g"], tolerance=1e-6)
    assert not module._folded


def test_a_loop_keeps_its_constants_in_both_engines(tmp_path: Path) -> None:
    """What only the body of a loop reads is read."""

    class Cube(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.tanh()
            return bisect(lambda v: v * v * v + 0.25 * v - x, -torch.ones_like(x), torch.ones_like(x))

    proto = to_onnx("g", one(Cube()), bake(Cube()))
    assert "Loop" in {n.op_type for n in proto.graph.node}
    assert len(proto.graph.node) < 10
    path = write_graphs({"g": proto}, tmp_path)["g"]
    checked = check_graph("g", one(Cube()), Cube(), path, tolerance=1e-6)
    assert set(checked.errors) == set(available())


def test_large_constants_are_folded_but_small_ones_are_not_spread_out(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(200, 200))
            self.row = nn.Parameter(torch.randn(1, 200))

        def forward(self, x: Tensor) -> Tensor:
            return (x @ (self.weight * 0.1).T) @ self.row.expand(200, 200)

    module = Scaled()
    proto = to_onnx("g", one(module, (1, 200)), bake(module))
    assert "Mul" not in {n.op_type for n in proto.graph.node}
    assert proto.ByteSize() < 1.2 * 200 * 200 * 4


def test_the_file_is_the_same_every_time_and_names_no_machine(
    exported: Callable, build: Callable, tmp_path: Path
) -> None:
    first = exported("conv")[1]["generator"].read_bytes()
    assert export_graphs(build("conv"), tmp_path, check=False)["generator"].read_bytes() == first
    assert str(Path(__file__).parent).encode() not in first
    assert str(Path(torch.__file__).parent).encode() not in first


def test_exporting_changes_nothing_in_the_model_and_says_nothing(
    build: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    model = build("conv").train().to(memory_format=torch.channels_last)
    before = copy.deepcopy(model.state_dict())
    export_graphs(model, tmp_path)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert capfd.readouterr() == ("", "")


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(3, 6) * 2


class Exotic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize(
    "module, words", [(Decides(), "torch.where"), (FixedBatch(), "x.shape"), (Exotic(), "bessel_j0")]
)
def test_what_cannot_be_exported_is_named(module: nn.Module, words: str) -> None:
    with pytest.raises(NiwakiError, match=r"'mine'.*" + words) as caught:
        to_onnx("mine", one(module), bake(module))
    assert "\n" not in str(caught.value)


def test_the_check_finds_an_engine_that_computes_something_else(exported: Callable) -> None:
    model, paths = exported("conv")
    graph = model.graphs()["generator"]
    other = bake(graph.module)
    with torch.no_grad():
        other.body[-2].bias += 0.01
    with pytest.raises(NiwakiError, match="'image' of the graph 'generator'"):
        check_graph("generator", graph, other, paths["generator"])


def test_a_cache_written_by_position_equals_attention_over_the_past(exported: Callable) -> None:
    """Token by token on the device = the closed form over the whole prefix."""
    model, paths = exported("cache")
    graph = model.graphs()["decode"]
    tokens = np.array([[12, 3, 7, 1, 0, 5], [12, 12, 4, 4, 9, 2]])
    q, k, v = model.net["qkv"](model.net["embed"](torch.from_numpy(tokens))).chunk(3, -1)
    scores = (q @ k.transpose(1, 2)) / model.width**0.5
    mask = torch.full((6, 6), float("-inf")).triu(1)
    wanted = model.net["out"]((scores + mask).softmax(-1) @ v + q).detach().numpy()
    for engine in available():
        runner = open_runner(engine, graph, paths["decode"])
        state = [s.zeros(2) for s in graph.state]
        for i in range(6):
            logits, *state = runner(tokens[:, i], np.array([i]), *state)
            np.testing.assert_allclose(logits, wanted[:, i], atol=1e-5)


def test_model_fixture_covers_what_is_exported(model: GenerativeModel) -> None:
    assert set(model.sampler().graphs_used()) <= set(model.graphs())
