"""Folders of every odd shape: what is left out is counted and named, and nothing hangs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.walking import alike, walk
from niwaki.workflow.subjects.files import read_folder

COUNT = iter(range(10_000))


def pictures(folder: Path, n: int = 12, kind: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(n):
        seed = next(COUNT)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed:05}.{kind}", format="png")
    return folder


def read(root: Path, **settings: Any) -> Dataset:
    settings = {"fractions": (0.5, 0.25, 0.25), **settings}
    return load(DataConfig(source="folder", path=str(root), size=8, **settings))


def total(dataset: Dataset) -> int:
    return sum(map(len, dataset.splits.values()))


def said(dataset: Dataset) -> str:
    return "\n".join(f"{f.level} {f.text} [{', '.join(f.items)}]" for f in dataset.audit.said)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pictures(tmp_path / "data" / "cat", 20)
    pictures(tmp_path / "data" / "dog", 20)
    return tmp_path / "data"


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Folders by name that cannot be opened, for whoever runs the tests."""
    names: set[str] = set()
    whole = os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(path).name in names:
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return names


def empty_class(root: Path) -> None:
    (root / "emu").mkdir()


def class_of_unknown_endings(root: Path) -> None:
    pictures(root / "emu", 3, kind="heic")


def loop(root: Path) -> None:
    (root / "cat" / "again").symlink_to(root)


def link_to_what_was_read(root: Path) -> None:
    (root / "dog" / "kittens").symlink_to(root / "cat")


def parent(root: Path) -> None:
    (root / "up").symlink_to(root.parent)


def hidden(root: Path) -> None:
    pictures(root / ".thumbnails", 2)
    pictures(root / "cat" / "__MACOSX", 1)


def hidden_file(root: Path) -> None:
    (root / "cat" / "._0.png").write_bytes(b"resource fork")


def pipe(root: Path) -> None:
    os.mkfifo(root / "cat" / "pipe.png")


def no_utf8(root: Path) -> None:
    with open(os.fsencode(root / "cat") + b"/\xff.png", "wb") as file:
        file.write(next((root / "cat").glob("*.png")).read_bytes())


def nested(root: Path) -> None:
    pictures(root / "cat" / "siamese", 2)


def alike_but_for_case(root: Path) -> None:
    pictures(root / "Dog", 9)


def frames(root: Path) -> None:
    both = [Image.new("L", (8, 8), grey) for grey in (7, 200)]
    both[0].save(root / "cat" / "moving.gif", save_all=True, append_images=both[1:])


def dangling(root: Path) -> None:
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")


def itself(root: Path) -> None:
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")


ODD = {
    empty_class: (
        0,
        "warning 1 subfolders hold no images that can be read, so these classes are missing",
    ),
    class_of_unknown_endings: (0, ".heic (3)"),
    loop: (0, "lead back to a folder that they lie in, and were not followed [cat/again]"),
    link_to_what_was_read: (0, "lead to a folder that was read already, and were not followed [dog/kittens]"),
    parent: (0, "lead back to a folder that they lie in, and were not followed [up]"),
    hidden: (0, "2 things in the folder are hidden"),
    hidden_file: (0, "are hidden (their names begin with a dot, or are __MACOSX) and were not read [cat/._0"),
    pipe: (0, "are no files (pipes, sockets, devices) and were not read [cat/pipe.png]"),
    no_utf8: (0, "have names that are no UTF-8, and were set aside; rename them [cat/\\xff.png]"),
    nested: (2, "are no classes of their own: cat/siamese"),
    alike_but_for_case: (9, "warning the classes 'Dog' and 'dog' are called alike but for case"),
    frames: (1, "1 of 41 images have several frames, of which the first was read [cat/moving.gif]"),
    dangling: (0, "error 1 of 41 images cannot be read and were set aside [cat/gone.png: "),
    itself: (0, "error 1 of 41 images cannot be read and were set aside [cat/self.png: "),
}


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_whatever_is_odd_is_named_and_the_rest_is_read(make: Any, root: Path) -> None:
    make(root)
    dataset = read(root)
    more, words = ODD[make]
    assert total(dataset) == 40 + more
    assert words in said(dataset)
    assert {"cat", "dog"} <= set(dataset.spec.class_names)


def test_a_folder_that_cannot_be_opened_is_named(root: Path, closed: set[str]) -> None:
    pictures(root / "emu", 5)
    closed.add("emu")
    dataset = read(root)
    assert "error 1 things in the folder cannot be opened, and whatever they hold is missing [emu]" in said(
        dataset
    )
    closed.add("data")
    with pytest.raises(CallError, match="cannot be opened: Permission denied"):
        read(root)


def test_links_to_folders_elsewhere_are_followed_once(root: Path, tmp_path: Path) -> None:
    """Stores of data keep the pictures elsewhere and link to them; such a class used to vanish."""
    emu = pictures(tmp_path / "store" / "emu", 20)
    (root / "emu").symlink_to(emu)
    (emu / "back").symlink_to(root)
    dataset = read(root)
    assert dataset.spec.class_names == ("cat", "dog", "emu")
    assert total(dataset) == 60
    (root / ".hidden").mkdir()
    gnu = pictures(root / ".hidden" / "gnu", 20)
    (root / "gnu").symlink_to(gnu)
    assert read(root).spec.class_names == ("cat", "dog", "emu", "gnu")


def test_many_links_between_many_folders_end(tmp_path: Path) -> None:
    """Ten folders that all link to each other have ten factorial ways through them."""
    for a in range(10):
        pictures(tmp_path / str(a), 1)
        for b in range(10):
            (tmp_path / str(a) / f"to{b}").symlink_to(tmp_path / str(b))
    found = walk(tmp_path, ("png",))
    assert len(found.files) == 10
    assert sum(map(len, found.left_out.values())) == 100


def test_endings_of_any_case(tmp_path: Path) -> None:
    for kind in ("png", "PNG", "Png", "pNg"):
        pictures(tmp_path, 10, kind=kind)
    assert total(read(tmp_path)) == 40


class TestSplitsByFolders:
    def test_train_val_and_test_are_the_splits(self, tmp_path: Path) -> None:
        for split, n in (("train", 9), ("val", 5), ("Test", 4)):
            for name in ("cat", "dog"):
                pictures(tmp_path / split / name, n)
        dataset = read(tmp_path)
        assert dataset.spec.class_names == ("cat", "dog")
        assert {name: len(split) for name, split in dataset.splits.items()} == {
            "train": 18, "validation": 10, "test": 8,
        }  # fmt: skip
        assert "Test is test, train is train, val is validation" in said(dataset)
        assert read(tmp_path, splits=False).spec.class_names == ("Test", "train", "val")

    def test_what_is_missing_is_drawn_from_train(self, tmp_path: Path) -> None:
        pictures(tmp_path / "train" / "all", 80)
        pictures(tmp_path / "test" / "all", 7)
        dataset = read(tmp_path)
        assert len(dataset.test) == 7
        assert 10 <= len(dataset.validation) <= 45, "a third of them on average"
        assert len(dataset.train) + len(dataset.validation) == 80
        assert "validation are drawn from train" in said(dataset)

    def test_a_copy_of_a_training_picture_is_no_test_picture(self, tmp_path: Path) -> None:
        pictures(tmp_path / "train", 60)
        pictures(tmp_path / "test", 10)
        one = next((tmp_path / "train").glob("*.png"))
        (tmp_path / "test" / "copy.png").write_bytes(one.read_bytes())
        dataset = read(tmp_path)
        assert total(dataset) == 70
        assert dataset.audit.of_kind("set aside")[0].items == ("test/copy.png",)

    def test_classes_that_are_called_like_splits_stay_classes(self, tmp_path: Path) -> None:
        """A train is a vehicle."""
        for name in ("train", "bus"):
            pictures(tmp_path / name, 20)
        assert read(tmp_path).spec.class_names == ("bus", "train")
        with pytest.raises(CallError, match=r"data\.splits is true, but the folders"):
            read(tmp_path, splits=True)

    def test_the_fingerprint_of_other_folders_does_not_know_of_it(self) -> None:
        assert "splits" not in DataConfig(source="folder", path="x").model_dump()


def test_one_folder_around_the_classes_is_pointed_at(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        pictures(tmp_path / "download" / name, 20)
    text = said(read(tmp_path))
    assert "all images lie in 'download', so its subfolders (cat, dog) are no classes; set data.path" in text


def test_a_note_beside_classes_takes_no_labels_from_samples(root: Path) -> None:
    (root / "README.txt").write_text("made yesterday")
    spec = DataSpec.of("image", (1, 8, 8), classes=2, class_names=("cat", "dog"))
    given = read_folder(root, spec)
    assert given.labels is not None
    assert "1 files are not images by their names" in " ".join(given.remarks)
    pictures(root, 1)
    given = read_folder(root, spec)
    assert given.labels is None
    assert "images lie beside the subfolders, so the samples have no labels" in given.remarks


def test_greys_of_32_bits_that_do_not_compare(tmp_path: Path) -> None:
    for i in range(40):
        deep = np.random.default_rng(i).integers(0, 200 if i < 8 else 4096, (8, 8)).astype(np.int32)
        Image.fromarray(deep).save(tmp_path / f"{i}.tif")
    assert "warning 8 images of 32 bits hold no value above 255 and were read as 8 bits, 32 others" in said(
        read(tmp_path)
    )


class TestOtherReaders:
    def test_tables(self, tmp_path: Path) -> None:
        for i, name in enumerate(("a.csv", "b.CSV", "c.Csv")):
            rows = "\n".join(f"{t},{np.sin(t + i)}" for t in range(400))
            (tmp_path / name).write_text(f"time,value\n{rows}")
        (tmp_path / "d.tsv").write_text("time\tvalue\n")
        (tmp_path / "loop").symlink_to(tmp_path)
        dataset = load(DataConfig(source="series", path=str(tmp_path), past=8, future=4))
        assert total(dataset) == 3 * total(
            load(DataConfig(source="series", path=str(tmp_path / "b.CSV"), past=8, future=4))
        )
        assert ".tsv (1)" in said(dataset)
        assert "[loop]" in said(dataset)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("a,a\n1,2\n", "several columns called 'a'"),
            ("a,b\n1,1_000\n", "'1_000' is no number"),
            ("a,b\n1,\0\n", "row 2: '\\\\?x?0?0?.*' is no number|no table"),
            ("a,b\n1," + "9" * 140_000 + "\n", "no table of comma-separated values|is no number"),
        ],
    )
    def test_odd_tables(self, text: str, sentence: str, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(CallError, match=sentence):
            load(DataConfig(source="series", path=str(tmp_path / "a.csv")))

    def test_a_column_without_a_name_and_endless_values(self, tmp_path: Path) -> None:
        rows = [f"{t},{t},{'inf' if t == 5 else np.sin(t)}" for t in range(300)]
        (tmp_path / "a.csv").write_text("\n".join(["time,,value", *rows]))
        dataset = load(DataConfig(source="series", path=str(tmp_path / "a.csv"), past=8, future=4))
        assert dataset.spec.shape == (1, 4)
        assert "has no name and was not read" in said(dataset)
        assert np.isfinite(dataset.train.columns["past"].data.numpy()).all()

    def test_text(self, tmp_path: Path) -> None:
        words = "\n\n".join(f"Passage {i}. " + "word " * 150 for i in range(60))
        for name in ("a.txt", "sub/B.TXT", ".hidden/c.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(words.replace("word", name))
        (tmp_path / "utf16.txt").write_text(words, encoding="utf-16")
        (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
        (tmp_path / "paper.pdf").write_bytes(b"%PDF")
        os.mkfifo(tmp_path / "pipe.txt")
        text = said(load(DataConfig(source="text", path=str(tmp_path))))
        assert "utf16.txt: is UTF-16; save it as UTF-8" in text
        assert "latin.txt: byte 2 is not UTF-8" in text
        assert "[.hidden]" in text
        assert ".pdf (1)" in text
        assert "[pipe.txt]" in text

    def test_a_pipe_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for source in ("text", "series", "arrays", "folder"):
            with pytest.raises(CallError, match=r"is neither a file nor a folder|is not a f"):
                load(DataConfig(source=source, path=str(tmp_path / "pipe")))

    def test_arrays_that_are_not_read(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(60, 4)), masks=1, ids=2)
        dataset = load(DataConfig(source="arrays", path=str(tmp_path / "a.npz")))
        assert "2 further arrays of 'a.npz' were not read: ids, masks" in said(dataset)


def test_names_that_are_alike() -> None:
    assert alike(["Cat", "cat", "dog ", "dog", "é", "e\u0301", "emu"]) == [
        ("Cat", "cat"), ("dog", "dog "), ("e\u0301", "é"),
    ]  # fmt: skip
