"""Pictures as others write them: odd tags, deep and transparent grey, strips, damaged bytes."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niwaki.data.reading.pictures import _middle, read_picture


def grey(side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (side, side), dtype=np.uint8)


def tag(number: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", number, kind, count) + value.ljust(4, b"\0")


def with_exif(path: Path, *entries: bytes) -> Path:
    """A JPEG with these tags, lit in its upper left corner."""
    table = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    picture = np.zeros((16, 16), np.uint8)
    picture[:8, :8] = 250
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + table
    Image.fromarray(picture).save(path, quality=95, exif=exif)
    return path


@pytest.mark.parametrize(
    "odd",
    [
        tag(0x0128, 2, 2, b"2"),  # ResolutionUnit as text
        tag(0x011A, 5, 1, struct.pack("<I", 10_000)),  # XResolution that lies behind the end
        tag(0x8769, 4, 1, struct.pack("<I", 99_999)),  # a sub-table that lies behind the end
        tag(0x010F, 2, 1 << 30, b"x"),  # Make of a gigabyte
        tag(0x9286, 7, 4, b"\xff\xfe\x00\x01"),  # UserComment that is no text
        tag(0x0112, 2, 2, b"6"),  # Orientation as text, the last that counts
    ],
)
def test_an_odd_tag_stops_no_picture(odd: bytes, tmp_path: Path) -> None:
    found, why = read_picture(with_exif(tmp_path / "a.jpg", odd), 16, 1, 255)
    assert found is not None, why
    assert found[0, :6, :6].min() > 200
    turned, why = read_picture(
        with_exif(tmp_path / "b.jpg", tag(0x0112, 3, 1, struct.pack("<H", 6)), odd), 16, 1, 255
    )
    assert turned is not None, why


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_what_pillow_makes_of_it(orientation: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey()).save(tmp_path / "a.png", exif=exif)
    found, _ = read_picture(tmp_path / "a.png", 16, 1, 255)
    with Image.open(tmp_path / "a.png") as file:
        np.testing.assert_array_equal(found, np.asarray(ImageOps.exif_transpose(file))[None])


def test_deep_grey_keeps_its_values_and_its_transparency(tmp_path: Path) -> None:
    pixels = grey()
    pixels[:8] = 60
    wide = pixels.astype(np.uint16) * 257
    Image.fromarray(pixels).save(tmp_path / "8.png")
    Image.fromarray(wide).save(tmp_path / "16.png")
    Image.fromarray(wide).save(tmp_path / "16.tif")
    Image.fromarray(wide.astype(np.int32)).save(tmp_path / "32-of-16.tif")
    Image.fromarray(pixels.astype(np.int32)).save(tmp_path / "32-of-8.tif")
    for name in ("8.png", "16.png", "16.tif", "32-of-16.tif", "32-of-8.tif"):
        found, why = read_picture(tmp_path / name, 16, 1, 255)
        assert why == {"32-of-16.tif": "deep", "32-of-8.tif": "shallow"}.get(name, "")
        np.testing.assert_array_equal(found, pixels[None], err_msg=name)
    Image.fromarray(pixels).save(tmp_path / "8t.png", transparency=60)
    Image.fromarray(wide).save(tmp_path / "16t.png", transparency=60 * 257)
    for name in ("8t.png", "16t.png"):
        found, _ = read_picture(tmp_path / name, 16, 1, 200)
        np.testing.assert_array_equal(found, np.where(pixels == 60, 200, pixels)[None], err_msg=name)
    for values in (pixels.astype(np.int32) - 100, pixels.astype(np.int32) * 70_000):
        Image.fromarray(values).save(tmp_path / "odd.tif")
        found, why = read_picture(tmp_path / "odd.tif", 16, 1, 255)
        assert found is None
        assert why == "its pixels have more than 16 bits"


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (100_000, 2), (3, 50_000), (9_000, 4)])
def test_a_strip_takes_little_memory(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (9, 9, 9)).save(tmp_path / "strip.png")
    with Image.open(tmp_path / "strip.png") as file:
        assert max(_middle(file).size) <= 8 * min(size)
    found, why = read_picture(tmp_path / "strip.png", 64, 3, 255)
    assert found is not None
    assert why == "enlarged"
    assert (found == 9).all()


def test_the_middle_of_a_strip_is_what_resizing_it_whole_shows(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (16, 400), dtype=np.uint8)
    Image.fromarray(wide).save(tmp_path / "a.png")
    found, _ = read_picture(tmp_path / "a.png", 8, 1, 255)
    whole = Image.fromarray(wide).resize((200, 8), Image.Resampling.LANCZOS).crop((96, 0, 104, 8))
    np.testing.assert_array_equal(found, np.asarray(whole)[None])


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "tiff", "bmp", "webp", "ppm"])
def test_damaged_bytes_are_a_reason_and_no_traceback(kind: str, tmp_path: Path) -> None:
    kept = io.BytesIO()
    Image.fromarray(grey(), "L").convert("RGB").save(kept, kind)
    whole, rng = kept.getvalue(), np.random.default_rng(1)
    for trial in range(60):
        data = bytearray(whole)
        for at in rng.integers(len(data), size=1 + trial % 3):
            data[at] = rng.integers(256)
        (tmp_path / "x").write_bytes(bytes(data) if trial % 4 else bytes(data[: rng.integers(len(data))]))
        found, why = read_picture(tmp_path / "x", 8, 3, 255)
        assert (found is None) == bool(why and why != "enlarged")
        assert "\n" not in why
        assert str(tmp_path) not in why
