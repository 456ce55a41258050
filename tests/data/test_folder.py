"""Folders of pictures: every size and mode arrives right, broken ones are set aside and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.pictures import read_picture


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fill(root: Path, n: int, start: int = 0) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + n):
        Image.fromarray(noise(9, 9, 3, seed=i)).save(root / f"{i:03}.png")


def pixels(path: Path, size: int = 8, channels: int = 3, background: int = 255) -> np.ndarray:
    array, _ = read_picture(path, size, channels, background)
    assert array is not None
    assert array.shape == (channels, size, size)
    assert array.dtype == np.uint8
    return array


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    fill(tmp_path / "cats", 30)
    fill(tmp_path / "dogs" / "deep", 30, start=100)
    return tmp_path


def total(dataset: Dataset) -> int:
    return sum(len(s) for s in dataset.splits.values())


class TestReading:
    """One file → one array."""

    def test_a_picture_of_the_right_size_is_untouched(self, tmp_path: Path) -> None:
        exact = noise(8, 8, 3)
        Image.fromarray(exact).save(tmp_path / "a.png")
        assert np.array_equal(pixels(tmp_path / "a.png"), exact.transpose(2, 0, 1))

    def test_shrinking_averages(self, tmp_path: Path) -> None:
        """A checkerboard finer than the pixels becomes its mean; picking pixels would keep 0 or 255."""
        board = (np.indices((96, 96)).sum(0) % 2 * 255).astype(np.uint8)
        Image.fromarray(board).save(tmp_path / "a.png")
        assert np.abs(pixels(tmp_path / "a.png", channels=1).astype(int) - 127).max() <= 2

    def test_the_middle_is_kept(self, tmp_path: Path) -> None:
        """Thirds in three colours: of 3 to 1 only the middle third remains."""
        for shape, name in (((30, 90), "wide"), ((90, 30), "tall")):
            picture = np.zeros((*shape, 3), np.uint8)
            axis = int(shape[1] < shape[0]) ^ 1
            for third, band in enumerate(np.split(picture, 3, axis)):
                band[..., third] = 255
            Image.fromarray(picture).save(tmp_path / f"{name}.png")
            middle = pixels(tmp_path / f"{name}.png")[:, 1:-1, 1:-1].astype(int)
            assert np.abs(middle - np.array([0, 255, 0])[:, None, None]).max() <= 2

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I"])
    def test_white_is_white_in_every_mode(self, tmp_path: Path, mode: str) -> None:
        if mode.startswith("I"):
            picture = Image.fromarray(np.full((20, 20), 65535, np.uint16))
        else:
            picture = Image.new("RGB", (20, 20), "white").convert(mode)
        kind = "tif" if mode == "CMYK" else "png"
        picture.save(tmp_path / f"a.{kind}")
        for channels in (1, 3, 4):
            assert (pixels(tmp_path / f"a.{kind}", channels=channels) == 255).all()

    def test_sixteen_bits_are_scaled_and_not_cut_off(self, tmp_path: Path) -> None:
        ramp = np.tile(np.linspace(0, 65535, 8).astype(np.uint16), (8, 1))
        Image.fromarray(ramp).save(tmp_path / "a.png")
        assert np.abs(pixels(tmp_path / "a.png", channels=1)[0].astype(float) - ramp / 257).max() <= 0.5

    def test_transparent_pixels_show_the_background(self, tmp_path: Path) -> None:
        picture = np.full((8, 8, 4), (200, 100, 50, 0), np.uint8)  # a colour hides behind full transparency
        picture[:4, :, 3] = 255
        Image.fromarray(picture).save(tmp_path / "a.png")
        shown = pixels(tmp_path / "a.png", background=7)
        assert (shown[:, :4] == np.array([200, 100, 50])[:, None, None]).all()
        assert (shown[:, 4:] == 7).all()
        assert np.array_equal(pixels(tmp_path / "a.png", channels=4)[3], picture[..., 3])

    def test_a_turned_photograph_stands_upright(self, tmp_path: Path) -> None:
        upright = noise(8, 8, 3)
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: show it turned by 90° clockwise
        Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "a.png", exif=exif)
        assert np.array_equal(pixels(tmp_path / "a.png"), upright.transpose(2, 0, 1))

    def test_a_large_jpeg_keeps_its_picture(self, tmp_path: Path) -> None:
        """JPEG is decoded at a fraction of its size: the result is what full decoding gives."""
        v, u = np.mgrid[:512, :768] / 512
        smooth = (127 + 120 * np.stack([np.sin(3 * u), np.cos(4 * v), np.sin(2 * u + v)], -1)).astype(
            np.uint8
        )
        Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
        whole = Image.open(tmp_path / "a.jpg").resize((12, 8), Image.Resampling.LANCZOS).crop((2, 0, 10, 8))
        assert (
            np.abs(pixels(tmp_path / "a.jpg").transpose(1, 2, 0).astype(int) - np.asarray(whole)).max() <= 4
        )

    def test_of_an_animation_the_first_frame_is_taken(self, tmp_path: Path) -> None:
        frames = [Image.new("L", (8, 8), value) for value in (255, 0)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        assert (pixels(tmp_path / "a.gif", channels=1) == 255).all()

    def test_small_ones_are_enlarged_and_said_so(self, tmp_path: Path) -> None:
        Image.new("L", (3, 30), 90).save(tmp_path / "a.png")
        array, remark = read_picture(tmp_path / "a.png", 8, 1, 0)
        assert remark == "enlarged"
        assert array is not None
        assert (array == 90).all()

    @pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"no picture at all", b"GIF89a\x01"])
    def test_broken_files_give_a_reason(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.png").write_bytes(content)
        array, reason = read_picture(tmp_path / "a.png", 8, 3, 0)
        assert array is None
        assert reason
        assert str(tmp_path) not in reason

    def test_a_cut_off_file_is_broken(self, tmp_path: Path) -> None:
        Image.fromarray(noise(64, 64, 3)).save(tmp_path / "a.jpg")
        whole = (tmp_path / "a.jpg").read_bytes()
        (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
        assert read_picture(tmp_path / "a.jpg", 8, 3, 0)[0] is None

    def test_floats_of_unknown_range_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
        assert "unknown range" in read_picture(tmp_path / "a.tif", 8, 1, 0)[1]


class TestFolder:
    """Many files → a data set."""

    def test_subfolders_are_classes(self, classes: Path) -> None:
        dataset = load(DataConfig(source="folder", path=str(classes), size=8))
        assert dataset.spec.class_names == ("cats", "dogs")
        counts = dataset.audit.summary["class_counts"]
        assert sum(counts[s]["cats"] for s in counts) == sum(counts[s]["dogs"] for s in counts) == 30

    def test_every_image_carries_its_own_label(self, classes: Path) -> None:
        dataset = load(DataConfig(source="folder", path=str(classes), size=9))
        cats = {noise(9, 9, 3, seed=i).transpose(2, 0, 1).tobytes() for i in range(30)}
        for split in dataset.splits.values():
            assert split.y is not None
            for x, y in zip(split.x, split.y, strict=True):
                assert (x.numpy().tobytes() in cats) == (y == 0)

    def test_broken_images_are_set_aside_and_named(self, classes: Path) -> None:
        (classes / "cats" / "torn.png").write_bytes(b"torn")
        (classes / "notes.txt").write_text("not a picture")
        (classes / ".hidden").write_text("not even looked at")
        for _ in range(2):  # the second time from the cache
            dataset = load(DataConfig(source="folder", path=str(classes), size=8))
            (unreadable,) = dataset.audit.of_kind("unreadable")
            assert unreadable.level == "error"
            assert unreadable.items[0].startswith("cats/torn.png: ")
            assert unreadable.text == "1 of 61 images cannot be read and were set aside"
            assert dataset.audit.of_kind("other files")[0].items == ("notes.txt",)
            assert total(dataset) == 60

    def test_copies_lie_in_one_split_and_are_named(self, tmp_path: Path) -> None:
        fill(tmp_path, 40)
        for i in range(20):
            copy = Image.open(tmp_path / f"{i:03}.png")
            copy.save(tmp_path / f"copy-{i:03}.bmp")  # other bytes on disk, the same picture
        dataset = load(DataConfig(source="folder", path=str(tmp_path), size=8))
        (found,) = dataset.audit.of_kind("duplicates")
        assert found.text.startswith("20 of 60 samples")
        assert found.items[0] == "000.png = copy-000.bmp"
        assert dataset.audit.of_kind("leak") == ()

    def test_the_cache_notices_a_changed_file(self, classes: Path) -> None:
        config = DataConfig(source="folder", path=str(classes), size=8)
        before = load(config)
        Image.fromarray(noise(9, 9, 3, seed=999)).save(classes / "cats" / "000.png")
        assert load(config).fingerprint != before.fingerprint

    def test_moved_files_are_the_same_data(
        self, classes: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        first = load(DataConfig(source="folder", path=str(classes), size=8))
        moved = classes.rename(tmp_path_factory.mktemp("elsewhere") / classes.name)
        assert load(DataConfig(source="folder", path=str(moved), size=8)).fingerprint == first.fingerprint

    def test_progress_counts_every_file(self, classes: Path) -> None:
        calls: list[tuple[int, int]] = []
        load(
            DataConfig(source="folder", path=str(classes), size=10),
            lambda done, all_: calls.append((done, all_)),
        )
        assert calls == [(i, 60) for i in range(1, 61)]

    def test_labels_on_request(self, classes: Path, tmp_path: Path) -> None:
        assert load(DataConfig(source="folder", path=str(classes), size=8, labels=False)).spec.classes == 0
        with pytest.raises(CallError, match=r"data\.labels is true.*no class labels"):
            load(DataConfig(source="folder", path=str(classes / "cats"), size=8, labels=True))

    def test_images_beside_the_subfolders(self, classes: Path) -> None:
        fill(classes, 2, start=500)
        with pytest.raises(CallError, match=r"2 images beside its subfolders.*data\.labels=false"):
            load(DataConfig(source="folder", path=str(classes), size=8))
        assert total(load(DataConfig(source="folder", path=str(classes), size=8, labels=False))) == 62

    def test_what_cannot_be_read_at_all(self, tmp_path: Path) -> None:
        def config(path: Path) -> DataConfig:
            return DataConfig(source="folder", path=str(path), size=8)

        with pytest.raises(CallError, match="does not exist"):
            load(config(tmp_path / "missing"))
        (tmp_path / "file.png").write_bytes(b"x")
        with pytest.raises(CallError, match="is not a folder"):
            load(config(tmp_path / "file.png"))
        with pytest.raises(CallError, match="none of the 1 images"):
            load(config(tmp_path))
        (tmp_path / "empty").mkdir()
        with pytest.raises(CallError, match="holds no images"):
            load(config(tmp_path / "empty"))
        with pytest.raises(CallError, match="'folder' cannot be 2; valid names: 1, 3, 4, auto"):
            load(DataConfig(source="folder", path=str(tmp_path), channels=2))

    @pytest.mark.parametrize(
        ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("I;16", 1), ("RGB", 3), ("P", 3), ("RGBA", 3)]
    )
    def test_grey_files_are_read_as_grey_without_being_told(
        self, tmp_path: Path, mode: str, channels: int
    ) -> None:
        for i in range(40):
            picture = Image.fromarray(noise(9, 9, 3, seed=i))
            if mode == "I;16":
                grey = np.asarray(picture.convert("L"))
                picture = Image.fromarray(grey.astype(np.uint16) * 257)
            else:
                picture = picture.convert(mode)
            picture.save(tmp_path / f"{i:03}.png")
        dataset = load(DataConfig(source="folder", path=str(tmp_path), size=8))
        assert dataset.spec.shape == (channels, 8, 8)
        assert "data.channels says otherwise" in dataset.audit.of_kind("shapes")[0].text
        said = load(DataConfig(source="folder", path=str(tmp_path), size=8, channels=3))
        assert said.spec.shape == (3, 8, 8)
        assert said.audit.of_kind("shapes") == ()

    def test_one_picture_in_colour_makes_all_of_them_so(self, tmp_path: Path) -> None:
        for i in range(40):
            Image.fromarray(noise(9, 9, 3, seed=i)).convert("RGB" if i == 7 else "L").save(
                tmp_path / f"{i:03}.png"
            )
        assert load(DataConfig(source="folder", path=str(tmp_path), size=8)).spec.shape == (3, 8, 8)

    def test_too_few(self, tmp_path: Path) -> None:
        fill(tmp_path, 2)
        with pytest.raises(CallError, match=r"2 samples .* too few to divide"):
            load(DataConfig(source="folder", path=str(tmp_path), size=8))
