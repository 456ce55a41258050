"""A picture that is written alone is the picture: its size, its pixels, no frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niwaki.modalities import modality_of
from niwaki_runtime.specs import Levels, ValueSpec


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (4, 5, 7), (3, 32, 32), (1, 64, 48)])
def test_one_picture_is_written_as_it_is(shape: tuple[int, int, int], tmp_path: Path) -> None:
    spec = ValueSpec("image", shape, "CHW", Levels(256, 0.0, 255.0))
    x = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(np.float32)
    (tmp_path / "one.png").write_bytes(modality_of(spec).writers(spec)[".png"](x, spec, {}))
    read = np.asarray(Image.open(tmp_path / "one.png"))
    np.testing.assert_array_equal(read.reshape(*shape[1:], shape[0]), x[0].transpose(1, 2, 0))
    (tmp_path / "two.png").write_bytes(modality_of(spec).writers(spec)[".png"](np.repeat(x, 2, 0), spec, {}))
    width, height = Image.open(tmp_path / "two.png").size
    assert width > 2 * shape[2]
    assert height > shape[1]
