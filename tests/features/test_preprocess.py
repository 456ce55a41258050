from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from niwaki.core.contract import CallError, DataSpec
from niwaki.features.preprocess import Preprocess, resize

SIZES = [
    ((8, 8), (224, 224)),
    ((32, 32), (299, 299)),
    ((300, 200), (224, 224)),  # shrinks one way more than the other
    ((513, 37), (31, 224)),  # shrinks and grows
    ((64, 64), (16, 16)),
    ((28, 28), (27, 29)),
    ((1, 1), (5, 5)),
    ((3, 2), (1, 1)),
]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((height, width)) * 255).astype(np.float32)


@pytest.mark.parametrize("before, after", SIZES)
@pytest.mark.parametrize("method, pillow", [("bicubic", Image.BICUBIC), ("bilinear", Image.BILINEAR)])
def test_antialiased_as_pillow(
    before: tuple[int, int], after: tuple[int, int], method: str, pillow: Image.Resampling
) -> None:
    x = picture(*before)
    theirs = np.asarray(Image.fromarray(x).resize(after[::-1], pillow))
    ours = resize(torch.from_numpy(x)[None, None], after, method)[0, 0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


def slow_tf1(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One pixel at a time: pixel i lies at i·length/size, between the two before and after it."""
    (h, w), (height, width) = x.shape, size
    out = np.zeros(size)
    for i in range(height):
        for j in range(width):
            y, z = np.float32(i) * np.float32(h / height), np.float32(j) * np.float32(w / width)
            top, left = int(y), int(z)
            below, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = y - top, z - left
            out[i, j] = (1 - a) * ((1 - b) * x[top, left] + b * x[top, right])
            out[i, j] += a * ((1 - b) * x[below, left] + b * x[below, right])
    return out


@pytest.mark.parametrize("before, after", [((8, 8), (37, 41)), ((40, 23), (17, 50)), ((1, 1), (3, 3))])
def test_tensorflow_1s_bilinear_as_the_loop(before: tuple[int, int], after: tuple[int, int]) -> None:
    x = picture(*before)
    ours = resize(torch.from_numpy(x)[None, None], after, "tf1")[0, 0].numpy()
    np.testing.assert_allclose(ours, slow_tf1(x, after), atol=1e-4)


def test_tensorflow_1_shifts_a_picture_and_the_others_do_not() -> None:
    """Enlarged by two, its pixel 2i is pixel i: the centre of mass moves by a quarter of an old pixel."""
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = 1
    at = torch.arange(18, dtype=torch.float32)

    def centre(method: str) -> float:
        made = resize(x, (18, 18), method)[0, 0].sum(0)
        return float((made * at).sum() / made.sum())

    assert centre("tf1") == pytest.approx(8.0)
    assert centre("bicubic") == pytest.approx(8.5)
    assert centre("bilinear") == pytest.approx(8.5)


def test_channels_and_samples_are_resized_apart() -> None:
    x = torch.from_numpy(np.stack([picture(9, 7, s) for s in range(6)])).view(2, 3, 9, 7)
    for method in ("bicubic", "bilinear", "tf1"):
        whole = resize(x, (4, 15), method)
        for n in range(2):
            for c in range(3):
                alone = resize(x[n : n + 1, c : c + 1], (4, 15), method)[0, 0]
                torch.testing.assert_close(whole[n, c], alone, atol=1e-4, rtol=0)


def test_a_stripe_finer_than_the_result_turns_grey() -> None:
    """What antialiasing is for: without it, every other column of black and white comes out all white."""
    x = torch.zeros(1, 1, 64, 64)
    x[..., ::2] = 255.0
    for method in ("bicubic", "bilinear"):
        made = resize(x, (32, 32), method)[..., 4:-4]
        assert float((made - 127.5).abs().max()) < 20
    assert float(resize(x, (32, 32), "tf1").min()) == 255.0


def test_range_rounding_colour_and_normalisation() -> None:
    x = torch.tensor([-1.0, -0.5, 0.0, 1.0]).view(1, 1, 2, 2)
    plain = Preprocess(rounded=False)(x, -1.0, 1.0)
    assert plain.shape == (1, 3, 2, 2)
    torch.testing.assert_close(plain[0, 2].flatten(), torch.tensor([0.0, 0.25, 0.5, 1.0]))
    rounded = Preprocess()(x, -1.0, 1.0)[0, 0].flatten()
    grey = torch.tensor([0.0, 64.0, 128.0, 255.0])  # 63.75 and 127.5 are rounded, halves upwards
    torch.testing.assert_close(rounded, grey / 255, atol=1e-7, rtol=0)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)
    scaled = replace(Preprocess(rounded=False), mean=mean, std=std)(x, -1.0, 1.0)
    for c in range(3):
        expected = (torch.tensor([0.0, 0.25, 0.5, 1.0]) - mean[c]) / std[c]
        torch.testing.assert_close(scaled[0, c].flatten(), expected, atol=1e-6, rtol=1e-6)


def test_rounds_as_a_picture_file_does() -> None:
    spec = DataSpec.of("image", (3, 8, 8), low=0.0, high=1.0)
    x = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    ours = Preprocess()(torch.from_numpy(x), 0.0, 1.0).numpy()
    np.testing.assert_allclose(ours * 255, spec.to_uint8(x), atol=1e-4)


def test_the_overshoot_of_the_cubic_is_clipped() -> None:
    x = torch.ones(1, 1, 8, 8)
    x[..., :4] = -1.0
    assert float(resize(x * 127.5 + 127.5, (64, 64)).max()) > 260
    made = Preprocess(size=(64, 64))(x, -1.0, 1.0)
    assert float(made.min()) == 0.0
    assert float(made.max()) == 1.0


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"method": "bicubik"}, "did you mean 'bicubic'"),
        ({"size": (0, 4)}, "at least one pixel"),
        ({"std": (0.0,)}, "must be positive"),
        ({"mean": (0.0, 0.0)}, "red, green and blue"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(CallError, match=message):
        Preprocess(**settings)


def test_data_that_cannot_be_prepared() -> None:
    with pytest.raises(CallError, match="'series' of the shape"):
        Preprocess().check(DataSpec.of("series", (2, 64)))
    with pytest.raises(CallError, match="have 4 channels"):
        Preprocess().check(DataSpec.of("image", (4, 8, 8)))
    with pytest.raises(CallError, match="one for each of 2 channels"):
        Preprocess(rgb=False, mean=(0.0,) * 3).check(DataSpec.of("image", (2, 8, 8)))
    Preprocess(rgb=False, mean=(0.0,) * 2).check(DataSpec.of("image", (2, 8, 8)))
    with pytest.raises(CallError, match="no way 'nearest'"):
        resize(torch.zeros(1, 1, 2, 2), (4, 4), "nearest")
