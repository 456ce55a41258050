"""What converts graph by graph makes the bundle's samples; what is not installed is said.

Where a converter is missing its test is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving.bundles import pictures

import niwaki
import niwaki_runtime
from niwaki.core.contract import CallError, NiwakiError
from niwaki.deployment.static_graph.converted import Converted, Execute
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.targets import TARGETS
from niwaki.deployment.targets.per_graph import PerGraphTarget
from niwaki.deployment.torch_graph import GraphModule

NAMES = [name for name in TARGETS.names() if issubclass(TARGETS[name], PerGraphTarget)]
MODULES: dict[str, GraphModule] = {}
HERE = [name for name in NAMES if all(map(find_spec, TARGETS[name].needs))]


def in_torch(off: float) -> type[PerGraphTarget]:
    """A target whose format is torch itself; its samples are off by so much."""

    class TorchTarget(PerGraphTarget):
        name, suffix, needs, runtime = "torch", "-torch", ("torch",), "torch"

        def convert(self, network: Network, options: Any) -> Converted:
            MODULES[network.name] = GraphModule(network).eval()
            files = {f"{network.name}.pair/a": b"one", f"{network.name}.pair/deep/b": b"three"}
            return Converted(files, {"weights_on_integers": [0, 0]})

        def load(self, files: Mapping[str, bytes], graph: Mapping[str, Any]) -> Execute | None:
            module = MODULES[graph["file"].partition(".")[0]]

            def execute(arrays: Any) -> list[np.ndarray]:
                with torch.no_grad():
                    return [out.numpy() + off for out in module(*map(torch.from_numpy, arrays))]

            return execute

    return TorchTarget


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    bundle = pictures(tmp_path / "insects.niwaki")

    def write(kind: type[PerGraphTarget], **options: Any) -> dict[str, Any]:
        return kind().write(bundle, tmp_path / "out", **{**kind.options, **options})

    return write


def test_files_of_a_graph_are_written_with_a_record_of_their_check(written: Callable, tmp_path: Path) -> None:
    found = written(in_torch(0.0), n=5)
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["check"]["n"] == 5
    assert record["check"]["max"] <= 1e-6
    (graph,) = record["graphs"].values()
    assert (graph["file"], graph["bytes"], record["bytes"]) == ("generator.pair", 8, 8)
    assert (tmp_path / "out" / "generator.pair" / "deep" / "b").read_bytes() == b"three"
    assert graph["inputs"]["label"] == ["int32", 1]
    assert any("5 samples as the bundle's" in line for line in in_torch(0.0)().lines(found))


def test_samples_that_differ_are_refused_and_nothing_is_written(written: Callable, tmp_path: Path) -> None:
    with pytest.raises(NiwakiError, match=r"samples of torch differ from the bundle's by 0\.001"):
        written(in_torch(1e-3))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_run_here_is_said_to_be_uncompared(written: Callable) -> None:
    class Elsewhere(in_torch(0.0)):  # type: ignore[misc]
        def load(self, files: Mapping[str, bytes], graph: Mapping[str, Any]) -> Execute | None:
            return None

    found = written(Elsewhere)
    assert found["check"]["passed"] is None
    assert any("nothing was compared" in line for line in Elsewhere().lines(found))


def test_what_is_called_wrongly_is_named(written: Callable) -> None:
    with pytest.raises(CallError, match="no program 'dream'"):
        written(in_torch(0.0), program="dream")
    with pytest.raises(CallError, match="at least one result"):
        written(in_torch(0.0), n=0)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HERE])
def test_a_missing_converter_is_named_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    bundle = pictures(tmp_path / "insects.niwaki")
    with pytest.raises(NiwakiError, match=f"'{name}' needs .*pip install"):
        niwaki.export(bundle, target=name, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_files_make_the_samples_of_the_bundle(name: str, tmp_path: Path) -> None:
    if name not in HERE:
        pytest.skip(f"{name} is not installed")
    bundle = pictures(tmp_path / "insects.niwaki")
    found = niwaki.export(bundle, target=name, out=tmp_path / "out")
    check = found["check"]
    assert check["max"] <= 1e-4 if check["passed"] else check["why"]
    for graph in found["graphs"].values():
        path = tmp_path / "out" / graph["file"]
        assert path.exists()
        assert graph["bytes"] > 4 * (4 * 36 + 3 * 36)  # its weights
    if check["passed"]:
        here = TARGETS[name]().open(tmp_path / "out", bundle)
        samples = here.sample(3, seed=1, batch=1, condition={"class": [0, 1, 2]})
        wanted = niwaki_runtime.load(bundle).sample(3, seed=1, condition={"class": [0, 1, 2]})
        np.testing.assert_allclose(samples, wanted, atol=1e-4)
