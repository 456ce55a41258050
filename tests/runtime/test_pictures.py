"""Pictures without a library, and plain ONNX out of a bundle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import niwaki_runtime
from niwaki.core.contract import DataSpec
from niwaki.deployment import export_graphs, pack_bundle, package
from niwaki.models import build
from niwaki_runtime.__main__ import main
from niwaki_runtime.bundle import extract
from niwaki_runtime.errors import CallError
from niwaki_runtime.pictures import contact_sheet, png
from niwaki_runtime.specs import ValueSpec


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (40, 64)])
def test_other_readers_read_what_was_written(channels: int, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    picture = Image.open(io.BytesIO(png(pixels)))
    picture.load()
    assert picture.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    np.testing.assert_array_equal(np.asarray(picture).reshape(pixels.shape), pixels)


def test_samples_stand_in_rows_in_their_order() -> None:
    spec = ValueSpec("image", (1, 2, 2))
    x = np.linspace(0, 1, 5)[:, None, None, None] * np.ones((5, 1, 2, 2))
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(x, spec))))
    assert sheet.shape == (2 * 3 - 1, 3 * 3 - 1)
    tops = [sheet[3 * (i // 3), 3 * (i % 3)] for i in range(5)]
    np.testing.assert_array_equal(tops, spec.to_uint8(np.linspace(0, 1, 5)))


@pytest.mark.parametrize(
    "spec", [ValueSpec("vector", (4,)), ValueSpec("image", (2, 4, 4)), ValueSpec("series", (1, 8))]
)
def test_what_is_no_picture_is_refused(spec: ValueSpec) -> None:
    with pytest.raises(CallError, match=r"write \.npz"):
        contact_sheet(np.zeros((2, *spec.shape)), spec)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bundle")
    model = build("dcgan", {"latent": 4, "width": 4, "max_width": 8}, DataSpec.of("image", (1, 8, 8))).eval()
    return Path(package(model, export_graphs(model, folder / "graphs"), folder / "gan.niwaki"))


@pytest.mark.parametrize("packed", [False, True])
def test_plain_onnx_comes_out_of_a_bundle(bundle: Path, packed: bool, tmp_path: Path) -> None:
    if packed:
        bundle = Path(pack_bundle(bundle, tmp_path / "packed.niwaki"))
        assert niwaki_runtime.inspect(bundle).packed
    (path,) = extract(bundle, tmp_path / "plain")
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path))
    z = niwaki_runtime.noise.normal(3, 0, 2, (4,))
    made = session.run(None, {session.get_inputs()[0].name: z})[0]
    loaded = niwaki_runtime.load(bundle, engine="onnxruntime", precision="exact")
    np.testing.assert_allclose(made, loaded.sample(2, seed=3), atol=1e-5)
    assert extract(bundle, tmp_path / "plain") == [path], "the same files are no obstacle"
    path.write_bytes(b"mine")
    with pytest.raises(CallError, match="already exists"):
        extract(bundle, tmp_path / "plain")
    assert path.read_bytes() == b"mine"


def test_the_command_draws_a_picture_and_extracts(bundle: Path, tmp_path: Path) -> None:
    assert main(["sample", str(bundle), "-n", "4", "--out", str(tmp_path / "x.png")]) == 0
    assert Image.open(tmp_path / "x.png").size == (17, 17)
    assert main(["extract", str(bundle), str(tmp_path / "plain")]) == 0
    assert list((tmp_path / "plain").glob("*.onnx"))
    assert main(["sample", str(bundle), "--out", str(tmp_path / "x.jpg")]) == 2
