"""The check of an export: engines are blamed for what they do, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import niwaki_runtime
from niwaki.adapters import adapt
from niwaki.core.contract import Graph, NiwakiError, Port
from niwaki.deployment import export_graphs, package
from niwaki.deployment.bake import bake
from niwaki.deployment.check import batches_of, check_graph, graph_errors, open_runner, references
from niwaki.deployment.export import to_onnx
from niwaki.deployment.onnx_file import write_graphs
from niwaki_runtime.engines import available


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 8)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z.mul_(0.5))


class Minors(nn.Module):
    """Determinants, which openvino has not."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 8)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(torch.linalg.det(self.net(z).view(-1, 2, 2, 2)))


def one(module: nn.Module) -> Graph:
    return Graph("generator", module.eval(), (Port("z", (1, 8)),))


def test_engines_are_given_copies_of_what_a_module_writes_into(tmp_path: Path) -> None:
    graph = one(Writes())
    path = write_graphs({"g": to_onnx("g", graph, bake(graph.module))}, tmp_path)["g"]
    for engine in available():
        assert max(graph_errors(graph, graph.module, open_runner(engine, graph, path)).values()) < 1e-6
    made = references(graph, graph.module, (3,))[0]
    torch.testing.assert_close(torch.from_numpy(made.inputs[0]), graph.example(3, seed=3)[0])


def test_batches_are_one_two_three_and_a_large_one() -> None:
    assert batches_of(one(Writes()), Writes()) == (1, 2, 3, 33)
    wide = nn.Linear(8, 60_000)
    assert batches_of(one(wide), wide) == (1, 2, 3, 5)


def test_torch_is_asked_twice_before_an_engine_is_blamed(tmp_path: Path) -> None:
    class Counts(Writes):
        count = 0

        def forward(self, z: Tensor) -> Tensor:
            type(self).count += 1
            return self.net(z) + 0.01 * type(self).count

    graph = one(nn.Sequential(Writes().net))
    path = write_graphs({"g": to_onnx("g", graph, bake(graph.module))}, tmp_path)["g"]
    with pytest.raises(NiwakiError, match="the module of the graph 'g' gives other values for equal inputs"):
        check_graph("g", graph, Counts(), path)


def test_engines_that_cannot_run_a_bundle_are_listed_and_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = adapt(Minors(), latent=8)
    graphs = export_graphs(model, tmp_path / "g")
    bundle = package(model, graphs, tmp_path / "a.niwaki")
    manifest = niwaki_runtime.inspect(bundle)
    assert manifest.refused == {
        "openvino": "in the graph 'generator', it has no form of the operator Det that the graph uses"
    }
    assert manifest.parity["generator"]["batches"] == [1, 2, 3, 33]
    assert manifest.parity["generator"]["engines"]["onnxruntime"] < 1e-5
    loaded = niwaki_runtime.load(bundle)
    assert (loaded.engine, loaded.refused) == ("onnxruntime", manifest.refused)
    with pytest.raises(NiwakiError, match=r"does not run on openvino: .*Det.*use engine='onnxruntime'"):
        niwaki_runtime.load(bundle, engine="openvino")
    with pytest.raises(NiwakiError, match=r"openvino cannot run the graph 'generator': .*Det"):
        export_graphs(model, tmp_path / "h", engines=("openvino",))


def test_an_engine_that_errs_is_refused_unless_it_is_not_asked_for(tmp_path: Path) -> None:
    graph = one(nn.Sequential(Writes().net))
    path = write_graphs({"g": to_onnx("g", graph, bake(graph.module))}, tmp_path)["g"]
    other = bake(graph.module)
    with torch.no_grad():
        other[0].bias += 0.01
    with pytest.raises(
        NiwakiError, match=r"openvino computes the output 'output' .* with \d+ samples.*engines="
    ):
        check_graph("g", graph, other, path)
    found = check_graph("g", graph, other, path, engines=())
    assert set(found.refused) == set(available())


def test_quantized_files_are_tried_in_every_engine_when_they_are_packaged(tmp_path: Path) -> None:
    model = adapt(nn.Linear(8, 4), latent=8)
    graphs = dict(export_graphs(model, tmp_path, check=False))  # as any other file
    found = niwaki_runtime.inspect(package(model, graphs, tmp_path / "a.niwaki")).parity["generator"]
    assert found["batches"] == [1, 3]
    assert set(found["engines"]) == set(available())
    assert "from openvino" in found["measure"]
