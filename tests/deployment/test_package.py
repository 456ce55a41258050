"""A bundle holds all that sampling needs, runs without torch, and is never half written."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import niwaki_runtime
from niwaki.core.contract import CallError, NiwakiError
from niwaki.deployment import bundle_bytes, package, quantize_onnx
from niwaki_runtime.errors import BundleError
from niwaki_runtime.samplers import OneShot

NAMES = ("conv", "transposed", "denoiser", "flow", "cache")

ALONE = """
import json, sys
import numpy, niwaki_runtime
path, engine, out = json.loads(sys.argv[1])
numpy.save(out, niwaki_runtime.load(path, engine=engine, precision="exact").sample(5, seed=3))
assert "torch" not in sys.modules and "niwaki" not in sys.modules, "the device carries the workshop"
"""


def alone(bundle: Path, engine: str, out: Path) -> np.ndarray:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps([str(bundle), engine, str(out)])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return np.load(out)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_process_without_torch_makes_the_same_samples(
    engine: str, exported: Callable, tmp_path: Path
) -> None:
    model, paths = exported("denoiser")
    made = alone(package(model, paths, tmp_path / "a.niwaki"), engine, tmp_path / "out.npy")
    np.testing.assert_allclose(made, model.sample(5, seed=3).numpy(), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_is_what_was_packaged(name: str, exported: Callable, tmp_path: Path) -> None:
    model, paths = exported(name)
    bundle = niwaki_runtime.load(package(model, paths, tmp_path / "a.niwaki"), precision="exact")
    assert bundle.spec == model.spec.x
    assert dict(bundle.conditions) == model.conditions
    assert bundle.sampler == model.sampler()
    assert bundle.programs() == model.shipped_programs()
    assert set(bundle.graphs) == set(paths)
    np.testing.assert_allclose(bundle.sample(3, seed=1), model.sample(3, seed=1).numpy(), atol=1e-4)


def test_equal_content_is_equal_bytes(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    first = package(model, paths, tmp_path / "a.niwaki", provenance={"seed": 1}).read_bytes()
    assert package(model, paths, tmp_path / "b.niwaki", provenance={"seed": 1}).read_bytes() == first
    assert package(model, paths, tmp_path / "c.niwaki", provenance={"seed": 2}).read_bytes() != first


def test_a_changed_byte_is_found(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    out = package(model, paths, tmp_path / "dir.niwaki", archive=False)
    file = out / "generator.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"generator\.onnx"):
        niwaki_runtime.load(out)


def test_views_share_their_weights_in_the_bundle_too(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("flow", "inverse", "forward")
    both = package(model, paths, tmp_path / "both.niwaki")
    one = package(model, {"inverse": paths["inverse"]}, tmp_path / "one.niwaki")
    assert "weights.bin" in zipfile.ZipFile(both).namelist()
    assert bundle_bytes(both) < 1.3 * bundle_bytes(one)
    for engine in ("openvino", "onnxruntime"):
        loaded = niwaki_runtime.load(both, engine=engine, precision="exact")
        np.testing.assert_allclose(loaded.sample(4, seed=0), model.sample(4, seed=0).numpy(), atol=1e-5)


def test_views_still_share_after_quantization(exported: Callable, tmp_path: Path) -> None:
    """The same weights get the same integers in both views; the bundle finds that out by content."""
    model, paths = exported("flow", "inverse", "forward")
    small = {}
    for name, path in paths.items():
        port = model.graphs()[name].inputs[0]
        items = [{port.name: port.example(16, i).numpy()} for i in range(4)]
        small[name] = tmp_path / f"{name}.onnx"
        assert quantize_onnx(path, small[name], items)["Gemm"] == 6
    bundle = package(model, small, tmp_path / "dir.niwaki", archive=False)
    integers = sum(
        p.numel() for n, p in model.named_parameters() if n.endswith("weight") and p.numel() >= 1024
    )
    assert (bundle / "weights.bin").stat().st_size >= integers
    assert niwaki_runtime.load(bundle).sample(2, seed=0).shape == (2, 8)


def test_the_card_and_the_manifest_tell_what_was_measured(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    out = package(
        model,
        paths,
        tmp_path / "dir.niwaki",
        archive=False,
        name="tiny digits",
        measured={"latency": {"1": {"median_ms": np.float32(0.25)}}},
        verdict={"fidelity": "no loss"},
    )
    card = (out / "card.md").read_text()
    for words in ("# tiny digits", "latency.1.median_ms | 0.25", "fidelity | no loss", "0 of 3", "Licence"):
        assert words in card
    manifest = niwaki_runtime.inspect(out)
    assert manifest.measured["latency"]["1"]["median_ms"] == 0.25
    assert manifest.graphs["generator"].quantized["total"] == 3


def test_another_way_of_sampling_can_be_packaged(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("denoiser")
    out = package(
        model, paths, tmp_path / "a.niwaki", sampler=model.sampler().override(steps=3, guidance=1.0)
    )
    loaded = niwaki_runtime.load(out, precision="exact")
    wanted = model.sample(2, seed=0, steps=3, guidance=1.0).numpy()
    np.testing.assert_allclose(loaded.sample(2, seed=0), wanted, atol=1e-4)


def test_a_failed_packaging_leaves_what_was_there(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    out = package(model, paths, tmp_path / "a.niwaki")
    before = out.read_bytes()
    (tmp_path / "broken.onnx").write_bytes(paths["generator"].read_bytes()[:1000])
    with pytest.raises(NiwakiError, match="not a whole ONNX file"):
        package(model, {"generator": tmp_path / "broken.onnx"}, out)
    with pytest.raises(NiwakiError, match="'generator', which was not exported"):
        package(model, {}, out)
    with pytest.raises(CallError, match="did you mean 'generator'"):
        package(model, {"generater": paths["generator"]}, out)
    with pytest.raises(NiwakiError, match="calls the graph 'denoiser'"):
        package(model, paths, out, sampler=OneShot(graph="denoiser"))
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.niwaki", "broken.onnx"]


def test_bytes_on_disk(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    directory = package(model, paths, tmp_path / "d.niwaki", archive=False)
    assert bundle_bytes(directory) == sum(p.stat().st_size for p in directory.iterdir())
    archive = package(model, paths, tmp_path / "z.niwaki")
    assert bundle_bytes(archive) == len(archive.read_bytes()) < bundle_bytes(directory)
    with pytest.raises(NiwakiError, match="does not exist"):
        bundle_bytes(tmp_path / "none")
