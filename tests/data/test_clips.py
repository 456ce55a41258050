"""Folders of clips: animations and frames arrive in order, what is broken or short is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.clip_files import gathered
from niwaki.modalities.movies import movie_bytes


def frames_of(count: int, number: int = 0) -> list[Image.Image]:
    """Frame t has the brightness 20 t + 3 number everywhere but in one corner."""
    out = []
    for t in range(count):
        page = np.full((8, 8), 20 * t + 3 * number, np.uint8)
        page[0, 0] = 255
        out.append(Image.fromarray(page))
    return out


def animation(path: Path, count: int, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = frames_of(count, number)
    settings = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=100, **settings)


def folder_of_frames(path: Path, count: int, number: int = 0) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(frames_of(count, number), start=8):
        frame.save(path / f"frame{t}.png")


def reads(path: Path, **settings: object) -> Dataset:
    shares = {"fractions": (0.4, 0.3, 0.3)}
    found = {"source": "clips", "path": str(path), "size": 8, "frames": 4, **shares, **settings}
    return load(DataConfig.model_validate(found))


def all_of(dataset: Dataset, column: str = "x") -> np.ndarray:
    return np.concatenate([s.columns[column].data.numpy() for s in dataset.splits.values()])


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path_factory.mktemp("cache")))


WRITERS = {".gif": animation, ".webp": animation, "": folder_of_frames}


@pytest.mark.parametrize("ending", WRITERS)
def test_frames_arrive_as_they_are_and_in_order(ending: str, tmp_path: Path) -> None:
    """Frame 10 comes after frame 9, not after frame 1."""
    for number in range(20):
        WRITERS[ending](tmp_path / f"{number}{ending}", 4, number)
    found = reads(tmp_path, channels=1)
    x = all_of(found)
    assert x.shape == (20, 4, 1, 8, 8)
    assert found.spec.x.axes == "TCHW"
    middle = x[:, :, 0, 4, 4].astype(int)
    assert np.abs(np.diff(middle, axis=1) - 20).max() <= 1  # a palette may round
    assert sorted(middle[:, 0] // 3) == list(range(20))
    assert (x[:, :, 0, 0, 0] >= 254).all()


def test_a_long_clip_is_cut_and_all_its_pieces_are_of_one_split(tmp_path: Path) -> None:
    for number in range(12):
        animation(tmp_path / f"{number:02}.gif", 11, number)
    found = reads(tmp_path, frames=3, past=2)
    assert len(all_of(found)) == 24  # 2 · 5 frames of 11
    assert found.spec["past"].shape == (2, 1, 8, 8)
    first = all_of(found, "past")[:, 0, 0, 4, 4].astype(int)
    assert np.abs(all_of(found)[:, 0, 0, 4, 4].astype(int) - first - 40).max() <= 1
    for split in found.splits.values():  # pieces begin with the brightness 3·number, or 100 more
        number = split.column("past").data[:, 0, 0, 4, 4].numpy().astype(int) % 100 // 3
        assert (np.bincount(number)[np.unique(number)] == 2).all()


def test_every_second_frame(tmp_path: Path) -> None:
    for number in range(12):
        folder_of_frames(tmp_path / str(number), 8, number)
    x = all_of(reads(tmp_path, every=2, rate=5.0))
    assert (np.diff(x[:, :, 0, 4, 4].astype(int), axis=1) == 40).all()


def test_folders_above_the_clips_are_the_classes(tmp_path: Path) -> None:
    for number in range(12):
        folder_of_frames(tmp_path / "up" / f"{number}", 4, number)
        animation(tmp_path / "down" / f"{number}.gif", 4, number + 12)
    found = reads(tmp_path)
    assert found.spec.class_names == ("down", "up")
    assert sum(int(s.y.sum()) for s in found.splits.values() if s.y is not None) == 12


def test_folders_may_be_the_splits(tmp_path: Path) -> None:
    for number, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 3):
        animation(tmp_path / split / f"{number}.gif", 4, number)
    found = reads(tmp_path)
    assert [len(found.split(s)) for s in ("train", "validation", "test")] == [6, 2, 3]


def test_broken_and_short_clips_are_set_aside_and_named(tmp_path: Path) -> None:
    for number in range(12):
        animation(tmp_path / f"{number}.gif", 4, number)
    animation(tmp_path / "short.gif", 3)
    (tmp_path / "broken.gif").write_bytes(b"GIF89a no more")
    folder_of_frames(tmp_path / "torn", 4)
    (tmp_path / "torn" / "frame9.png").write_bytes(b"nothing")
    found = reads(tmp_path)
    assert len(all_of(found)) == 12
    by_check = {f.kind: f for f in found.audit.findings}
    assert {item.split(":")[0] for item in by_check["unreadable"].items} == {"broken.gif", "torn"}
    assert any("short.gif" in f.items for f in found.audit.findings)


def test_grey_and_colour(tmp_path: Path) -> None:
    for number in range(12):
        folder_of_frames(tmp_path / str(number), 4, number)
    assert reads(tmp_path).spec.shape == (4, 1, 8, 8)
    assert reads(tmp_path, channels=3).spec.shape == (4, 3, 8, 8)


@pytest.mark.parametrize(
    ("make", "settings", "reason"),
    [
        (lambda path: None, {}, "holds no clips"),
        (lambda path: folder_of_frames(path, 4), {}, "4 frames beside its folders"),
        (lambda path: animation(path / "a.gif", 4), {"frames": 9}, "none of the 1 clips"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(
    make: object, settings: dict[str, object], reason: str, tmp_path: Path
) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(CallError, match=reason):
        reads(tmp_path, **settings)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="does not exist"):
        reads(tmp_path / "nowhere")


def test_numbers_in_names_are_numbers() -> None:
    files = ["b/2.png", "b/10.png", "b/1.png", "a.gif", "c/x1y10.jpg", "c/x1y9.jpg"]
    assert gathered(files) == {
        "a.gif": ["a.gif"],
        "b": ["b/1.png", "b/2.png", "b/10.png"],
        "c": ["c/x1y9.jpg", "c/x1y10.jpg"],
    }


def test_films_are_clips(tmp_path: Path) -> None:
    """Lossy, so that frames are only nearly what they were; grey ones have one channel."""
    pytest.importorskip("av")
    for number in range(20):
        pages = [np.full((16, 16), 20 * t + 3 * number, np.uint8) for t in range(5)]
        (tmp_path / f"{number}.mp4").write_bytes(movie_bytes(pages, 5.0))
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    found = reads(tmp_path)
    x = all_of(found).astype(int)
    assert x.shape == (20, 4, 1, 8, 8)
    assert np.abs(np.diff(x.mean((2, 3, 4)), axis=1) - 20).max() < 6
    assert [f.items[0].split(":")[0] for f in found.audit.of_kind("unreadable")] == ["broken.mp4"]


def test_films_without_the_extra_are_refused_by_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"film")
    with pytest.raises(CallError, match=r"reading 'a.mp4' needs .* pip install 'niwaki\[video\]'"):
        reads(tmp_path)
