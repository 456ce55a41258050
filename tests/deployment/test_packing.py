"""Packed bundles: the same samples in both engines, much smaller where the weights allow it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from deployment.conftest import Toy
from onnx import numpy_helper
from torch import Tensor, nn

import niwaki_runtime
from niwaki.core.contract import CallError, DataSpec, Graph, NiwakiError, Port
from niwaki.deployment import bundle_bytes, export_graphs, package, quantize_onnx
from niwaki.deployment.onnx_file import read_onnx, to_array
from niwaki.deployment.packing import PACKED
from niwaki.deployment.repack import pack_bundle
from niwaki_runtime.samplers import OneShot

NAMES = ("conv", "transposed", "denoiser", "flow", "cache")


def changed(paths: dict[str, Path], out: Path, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Path]:
    """The graphs with every large float tensor changed."""
    made = {}
    for name, path in paths.items():
        model = read_onnx(path)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) >= 1024:
                array = change(to_array(tensor)).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        made[name] = out / path.name
        made[name].write_bytes(model.SerializeToString())
    return made


def sparse(array: np.ndarray) -> np.ndarray:
    """Nine of ten zero, as by a mask: half of these zeros are negative."""
    kept = np.random.default_rng(0).random(array.shape) < 0.1
    return array * kept


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "denoiser" else n for n in NAMES]
)
def test_the_same_samples_bit_for_bit(name: str, engine: str, exported: Callable, tmp_path: Path) -> None:
    model, paths = exported(name)
    plain = package(model, paths, tmp_path / "plain.niwaki")
    expected = niwaki_runtime.load(plain, engine=engine, precision="exact").sample(3, seed=1)
    for archive in (True, False):
        packed = package(model, paths, tmp_path / f"packed{archive}.niwaki", archive=archive, pack=True)
        made = niwaki_runtime.load(packed, engine=engine, precision="exact").sample(3, seed=1)
        assert np.array_equal(made, expected)


def test_equal_content_is_equal_bytes(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    first = package(model, paths, tmp_path / "a.niwaki", pack=True).read_bytes()
    assert package(model, paths, tmp_path / "b.niwaki", pack=True).read_bytes() == first


@pytest.mark.slow
def test_views_share_their_weights_when_packed(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("flow", "inverse", "forward")
    both = package(model, paths, tmp_path / "both.niwaki", archive=False, pack=True)
    one = package(model, {"inverse": paths["inverse"]}, tmp_path / "one.niwaki", archive=False, pack=True)
    assert (both / PACKED).stat().st_size < 1.1 * (one / PACKED).stat().st_size


def test_the_signs_of_zeros_are_not_paid_for(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("transposed")
    masked = changed(paths, tmp_path, sparse)
    plain = package(model, masked, tmp_path / "plain.niwaki")
    packed = package(model, masked, tmp_path / "packed.niwaki", pack=True)
    weights = sum(np.prod(t.dims) for p in masked.values() for t in read_onnx(p).graph.initializer)
    with zipfile.ZipFile(packed) as z:
        assert z.getinfo(PACKED).file_size * 8 < weights * (
            0.5 + 0.1 * 30
        )  # a mask, and a tenth of the floats
        assert z.getinfo(PACKED).compress_type == zipfile.ZIP_STORED
    for engine in ("openvino", "onnxruntime"):
        a, b = (
            niwaki_runtime.load(p, engine=engine, precision="exact").sample(4, seed=2)
            for p in (plain, packed)
        )
        assert np.array_equal(a, b)


class Wide(Toy):
    """A generator with a million weights, so that its graph and manifest weigh little."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.spec, self.conditions = DataSpec.of("image", (1, 8, 8)), {}
        w = width
        self.net = nn.Sequential(
            nn.Unflatten(1, (16, 1, 1)),
            nn.ConvTranspose2d(16, 4 * w, 4), nn.BatchNorm2d(4 * w), nn.ReLU(),
            nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1), nn.BatchNorm2d(2 * w), nn.ReLU(),
            nn.Conv2d(2 * w, w, 3, 1, 1), nn.BatchNorm2d(w), nn.ReLU(),
            nn.Conv2d(w, 1, 3, 1, 1), nn.Tanh(),
        )  # fmt: skip

    def graphs(self) -> dict[str, Graph]:
        return {"generator": Graph("generator", self.net, (Port("z", (1, 16)),), ("image",))}

    def sampler(self) -> OneShot:
        return OneShot(latent=(16,))


@torch.no_grad()
def magnitude_pruned(model: nn.Module, share: float) -> None:
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and part.weight.numel() > 1000:
            size = part.weight.abs().flatten()
            part.weight *= part.weight.abs() > size.kthvalue(int(share * size.numel())).values


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Path], Path]:
    """The model, its int8 graph of weights that are nine tenths zero, and its dense float32 bundle."""
    torch.manual_seed(0)
    model, directory = Wide().eval(), tmp_path_factory.mktemp("wide")
    dense = package(model, export_graphs(model, directory / "dense"), directory / "dense.niwaki")
    magnitude_pruned(model, 0.9)
    paths = export_graphs(model, directory / "sparse")
    items = [{"z": torch.randn(8, 16).numpy()} for _ in range(4)]
    int8 = {"generator": directory / "int8.onnx"}
    assert quantize_onnx(paths["generator"], int8["generator"], items)["quantized"] == 4
    return model, int8, dense


def test_sparse_int8_is_about_thirty_times_smaller(wide: tuple, tmp_path: Path) -> None:
    """Against the float32 weights: 27 times at least, the graph, the card and the manifest included."""
    model, int8, dense = wide
    packed = package(model, int8, tmp_path / "packed.niwaki", pack=True)
    floats = sum(4 * p.numel() for p in model.parameters())
    assert floats / bundle_bytes(packed) > 27
    assert bundle_bytes(dense) / bundle_bytes(packed) > 25
    plain = package(model, int8, tmp_path / "plain.niwaki")
    for engine in ("openvino", "onnxruntime"):
        a, b = (niwaki_runtime.load(p, engine=engine).sample(4, seed=0) for p in (plain, packed))
        assert np.array_equal(a, b)
    assert niwaki_runtime.inspect(packed).graphs == niwaki_runtime.inspect(plain).graphs


@pytest.mark.parametrize("archive", [True, False])
def test_a_bundle_is_packed_afterwards(archive: bool, wide: tuple, tmp_path: Path) -> None:
    model, int8, _ = wide
    told: dict[str, Any] = {"archive": archive, "measured": {"n": 3}, "verdict": {"a": "no loss"}}
    plain = package(model, int8, tmp_path / "plain.niwaki", **told)
    before = bundle_bytes(plain)
    packed = pack_bundle(plain, tmp_path / "packed.niwaki")
    assert packed.is_dir() != archive
    assert bundle_bytes(packed) < (0.75 if archive else 0.25) * before
    at_once = package(model, int8, tmp_path / "once.niwaki", pack=True, **told)
    assert niwaki_runtime.inspect(packed) == niwaki_runtime.inspect(at_once)
    with pytest.raises(CallError, match="packed already"):
        pack_bundle(packed, tmp_path / "again.niwaki")
    pack_bundle(plain, plain)  # in its place
    assert niwaki_runtime.inspect(plain) == niwaki_runtime.inspect(packed)
    assert names(tmp_path.iterdir()) == ["once.niwaki", "packed.niwaki", "plain.niwaki"]


def test_shared_weights_are_packed_afterwards(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("flow", "inverse", "forward")
    plain = package(model, changed(paths, tmp_path, sparse), tmp_path / "plain.niwaki")
    packed = pack_bundle(plain, tmp_path / "packed.niwaki")
    with zipfile.ZipFile(packed) as z:
        assert "weights.bin" not in z.namelist()
    a, b = (niwaki_runtime.load(p, precision="exact").sample(4, seed=2) for p in (plain, packed))
    assert np.array_equal(a, b)


def test_what_cannot_shrink_is_an_error(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    noise = np.random.default_rng(0)

    def random_bits(array: np.ndarray) -> np.ndarray:
        return noise.integers(0, 1 << 32, array.shape, np.uint32).view(np.float32)

    (tmp_path / "bits").mkdir()
    with np.errstate(invalid="ignore"):
        random = changed(paths, tmp_path / "bits", random_bits)
    with pytest.raises(NiwakiError, match=r"packing changed nothing|no smaller"):
        pack_bundle(package(model, random, tmp_path / "r.niwaki"), tmp_path / "out.niwaki")
    assert names(tmp_path.iterdir()) == ["bits", "r.niwaki"]


def test_a_model_without_large_weights_has_nothing_to_pack(tmp_path: Path) -> None:
    class Tiny(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.spec, self.conditions, self.net = DataSpec.of("vector", (4,)), {}, nn.Linear(4, 4)

        def forward(self, z: Tensor) -> Tensor:
            return self.net(z)

        def graphs(self) -> dict[str, Graph]:
            return {"generator": Graph("generator", self.net, (Port("z", (1, 4)),), ("x",))}

        def sampler(self) -> OneShot:
            return OneShot(latent=(4,))

    model = Tiny().eval()
    with pytest.raises(NiwakiError, match="packing changed nothing"):
        package(model, export_graphs(model, tmp_path), tmp_path / "a.niwaki", pack=True)
    assert not (tmp_path / "a.niwaki").exists()


def names(paths: Iterable[Path]) -> list[str]:
    return sorted(p.name for p in paths)
