"""Samples in files that other programs made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niwaki.core.contract import CallError, DataSpec
from niwaki.workflow.subjects.array_samples import read_arrays
from niwaki.workflow.subjects.files import read_folder

GREY = DataSpec.of("image", (1, 8, 8), levels=17, classes=3, class_names=("ant", "bee", "cow"))
COLOUR = DataSpec.of("image", (3, 8, 8))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)


def write(folder: Path, pixels: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


def test_grey_levels_become_the_spec_s_range_pixel_by_pixel(tmp_path: Path, pixels: np.ndarray) -> None:
    given = read_folder(write(tmp_path / "a", pixels), GREY)
    np.testing.assert_allclose(given.x[:, 0], pixels / 255 * 2 - 1, atol=1e-6)
    assert given.x.dtype == np.float32
    assert given.names == ["0.png", "1.png", "2.png", "3.png"]
    assert given.labels is None
    assert given.broken == []


def test_every_mode_is_brought_to_the_spec_s(tmp_path: Path, pixels: np.ndarray) -> None:
    folder = tmp_path / "modes"
    folder.mkdir()
    grey = Image.fromarray(pixels[0])
    for mode in ("L", "RGB", "RGBA", "P", "CMYK"):
        grey.convert(mode).save(folder / f"{mode}.{'tiff' if mode == 'CMYK' else 'png'}")
    given = read_folder(folder, GREY)
    assert given.x.shape == (5, 1, 8, 8)
    for i, name in enumerate(given.names):
        np.testing.assert_allclose(given.x[i, 0], pixels[0] / 255 * 2 - 1, atol=0.02, err_msg=name)
    assert read_folder(folder, COLOUR).x.shape == (5, 3, 8, 8)


def test_broken_files_are_set_aside_by_name(tmp_path: Path, pixels: np.ndarray) -> None:
    folder = write(tmp_path / "a", pixels)
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    given = read_folder(folder, GREY)
    assert [b["file"] for b in given.broken] == ["1.png", "zero.png"]
    assert all(b["reason"] for b in given.broken)
    assert given.names == ["0.png", "2.png", "3.png"]
    assert given.x.shape == (3, 1, 8, 8)
    np.testing.assert_allclose(given.x[1, 0], pixels[2] / 255 * 2 - 1, atol=1e-6)


def test_another_size_is_refused_or_resized(tmp_path: Path, pixels: np.ndarray) -> None:
    folder = write(tmp_path / "a", pixels)
    Image.new("L", (16, 24), 200).save(folder / "large.png")
    with pytest.raises(CallError, match=r"1 of 5 images .* 8×8 .*'large.png' is 16×24.*--resize"):
        read_folder(folder, GREY)
    given = read_folder(folder, GREY, resize=True)
    np.testing.assert_allclose(given.x[4], 200 / 255 * 2 - 1, atol=1e-6)


def test_subfolders_are_labels_where_they_are_named_as_the_classes(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    write(tmp_path / "a" / "bee", pixels[:3])
    write(tmp_path / "a" / "ant", pixels[3:])
    given = read_folder(tmp_path / "a", GREY)
    assert given.labels is not None
    assert given.labels.tolist() == [0, 1, 1, 1]
    write(tmp_path / "b" / "0", pixels[:1])
    write(tmp_path / "b" / "2", pixels[1:2])
    numbered = read_folder(tmp_path / "b", GREY).labels
    assert numbered is not None
    assert numbered.tolist() == [0, 2]
    write(tmp_path / "a" / "dog", pixels[:1])
    strange = read_folder(tmp_path / "a", GREY)
    assert strange.labels is None
    assert "'dog' is no class" in strange.remarks[0]


@pytest.mark.parametrize(
    ("names", "folders", "labels"),
    [
        (("1", "2", "3"), ("1", "2", "3"), [0, 1, 2]),
        (("1", "2", "3"), ("0", "1", "2"), None),  # a number is a name where names are numbers
        (("ant", "bee", "7"), ("0", "1"), None),
        (("ant", "bee", "cow"), ("0", "1", "2"), [0, 1, 2]),
        (("ant", "bee", "cow"), ("0", "ant"), None),
        (("ant", "bee", "cow"), ("01", "1"), None),
        (("ant", "bee", "cow"), ("0", "3"), None),
        (("01", "02", "03"), ("01", "03"), [0, 2]),
    ],
)
def test_two_subfolders_never_become_one_class(
    names: tuple[str, ...],
    folders: tuple[str, ...],
    labels: list[int] | None,
    tmp_path: Path,
    pixels: np.ndarray,
) -> None:
    spec = DataSpec.of("image", (1, 8, 8), levels=17, classes=3, class_names=names)
    for folder in folders:
        write(tmp_path / "made" / folder, pixels[:1])
    given = read_folder(tmp_path / "made", spec)
    assert (None if given.labels is None else given.labels.tolist()) == labels
    assert bool(given.remarks) == (labels is None)


def test_folders_that_hold_nothing_of_use(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CallError, match=r"^'.*empty' holds no images"):
        read_folder(tmp_path / "empty", GREY)
    (tmp_path / "empty" / "a.png").write_bytes(b"no picture")
    with pytest.raises(CallError, match="none of the 1 images"):
        read_folder(tmp_path / "empty", GREY)
    with pytest.raises(CallError, match=r"the data are vector samples of shape \(6,\)"):
        read_folder(tmp_path / "empty", DataSpec.of("vector", (6,)))


def save(path: Path, x: np.ndarray, **more: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, x)
    else:
        np.savez(path, x, **more)
    return path


def test_types_and_ranges_of_arrays(tmp_path: Path, pixels: np.ndarray) -> None:
    expected = (pixels / 255 * 2 - 1)[:, None]
    for name, x in {
        "uint8": pixels,
        "range": expected,
        "unit": pixels / 255,
        "half": expected.astype(np.float16),
        "last": pixels[..., None],
    }.items():
        given = read_arrays(save(tmp_path / f"{name}.npy", x), GREY)
        assert given.x.dtype == np.float32
        np.testing.assert_allclose(given.x, expected, atol=2e-3, err_msg=name)
    few = read_arrays(save(tmp_path / "few.npy", pixels % 17), GREY)
    np.testing.assert_allclose(few.x[:, 0], pixels % 17 / 8 - 1, atol=1e-6)
    assert few.remarks == ["(8, 8) is read as (1, 8, 8)", "uint8 is read as grey levels 0 … 16"]


def test_arrays_by_name_with_labels_and_seed(tmp_path: Path, pixels: np.ndarray) -> None:
    expected = (pixels / 255 * 2 - 1)[:, None]
    np.savez(tmp_path / "a.npz", other=pixels[:2], samples=pixels, labels=np.array([0, 1, 2, 0]))
    given = read_arrays(tmp_path / "a.npz", GREY)
    np.testing.assert_allclose(given.x, expected, atol=1e-6)
    assert given.labels is not None
    assert given.labels.tolist() == [0, 1, 2, 0]
    assert given.seed is None
    np.savez(tmp_path / "b.npz", x=expected, seed=np.int64(7), **{"class": np.array([2, 2, 1, 0])})
    given = read_arrays(tmp_path / "b.npz", GREY)
    assert given.seed == 7
    assert given.labels is not None
    assert given.labels.tolist() == [2, 2, 1, 0]
    np.savez(tmp_path / "later.npz", x=expected, seed=np.int64(7), start=np.int64(10))
    assert read_arrays(tmp_path / "later.npz", GREY).seed is None, (
        "sample 10 of a seed is no pair of sample 0"
    )
    np.testing.assert_allclose(read_arrays(save(tmp_path / "c.npz", pixels), GREY).x, expected, atol=1e-6)


def test_arrays_of_another_size(tmp_path: Path) -> None:
    path = save(tmp_path / "large.npy", np.full((3, 16, 16), 100, np.uint8))
    with pytest.raises(CallError, match=r"shape \(16, 16\), the data have \(1, 8, 8\); add --resize"):
        read_arrays(path, GREY)
    given = read_arrays(path, GREY, resize=True)
    np.testing.assert_allclose(given.x, np.full((3, 1, 8, 8), 100 / 255 * 2 - 1), atol=1e-6)


def test_wrong_arrays(tmp_path: Path, pixels: np.ndarray) -> None:
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    half = save(tmp_path / "half.npz", pixels)
    half.write_bytes(half.read_bytes()[:60])
    cases = {
        pickled: "holds Python objects",
        half: "is not a whole npy or npz file",
        tmp_path / "missing.npz": "does not exist",
        save(tmp_path / "int.npy", pixels.astype(np.int64) - 9): r"int64 -9 … \d+, which are no grey levels",
        save(tmp_path / "text.npy", pixels.astype("S3")): r"S3; save samples as uint8",
        save(tmp_path / "wide.npy", pixels.astype(np.float32)): "floats 0 … 255, the data -1 … 1",
        save(tmp_path / "flat.npy", pixels.reshape(4, 64)): r"shape \(64,\), the data have \(1, 8, 8\)",
        save(tmp_path / "none.npy", pixels[:0]): "no samples",
        save(tmp_path / "line.npz", np.arange(3)): "no array of it has two or more dimensions",
        save(tmp_path / "labels.npz", pixels, labels=np.zeros(3, np.int64)): "labels must be 4 whole numbers",
    }
    for path, sentence in cases.items():
        with pytest.raises(CallError, match=sentence):
            read_arrays(path, GREY)


def test_vectors_are_taken_as_they_are(tmp_path: Path) -> None:
    x = 50 * np.random.default_rng(0).normal(size=(5, 6))
    given = read_arrays(save(tmp_path / "v.npy", x), DataSpec.of("vector", (6,), low=-1, high=1))
    np.testing.assert_allclose(given.x, x, rtol=1e-6)
