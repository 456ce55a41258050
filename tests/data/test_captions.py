"""Pictures with captions, as a folder, shards and data sets of Hugging Face hold them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.captions import UNKNOWN_NAME, CaptionOptions, caption_texts
from niwaki.data.reading.facts import fact_columns
from niwaki_runtime.tokenizer import Tokenizer

N = 40
COLOURS = {"red": (200, 20, 20), "blue": (20, 20, 200)}


def png(i: int) -> bytes:
    """A red or a blue picture, unlike any other; those of a third are larger."""
    pixels = np.random.default_rng(i).integers(0, 50, (9 + 4 * (i % 3 == 0), 9, 3)) + np.array(
        list(COLOURS.values())[i % 2]
    )
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "png")
    return out.getvalue()


def caption(i: int) -> str:
    return f"a {list(COLOURS)[i % 2]} thing, no {i % 4}"


def facts(i: int) -> dict[str, Any]:
    return {"colour": list(COLOURS)[i % 2], "weight": 0.5 * i, "label": i % 4}


def text_files(root: Path) -> None:
    for i in range(N):
        (root / f"{i:03}.png").write_bytes(png(i))
        (root / f"{i:03}.txt").write_text(caption(i) + "\n")


def metadata(root: Path) -> None:
    rows = []
    for i in range(N):
        (root / f"{i:03}.png").write_bytes(png(i))
        rows.append({"file_name": f"{i:03}.png", "text": caption(i), **facts(i)})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def shards(root: Path) -> None:
    for part in range(2):
        with tarfile.open(root / f"{part:03}.tar", "w") as archive:
            for i in range(part * N // 2, (part + 1) * N // 2):
                rest = facts(i)
                add(archive, f"{i:03}.png", png(i))
                add(archive, f"{i:03}.cls", str(rest.pop("label")).encode())
                add(archive, f"{i:03}.txt", caption(i).encode())
                add(archive, f"{i:03}.json", json.dumps(rest).encode())


def arrow(root: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    columns: dict[str, list[Any]] = {"image": [{"bytes": png(i), "path": None} for i in range(N)]}
    columns["text"] = [caption(i) for i in range(N)]
    for key in facts(0):
        columns[key] = [facts(i)[key] for i in range(N)]
    table = pa.table(columns)
    path = str(root / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    features = {"image": {"_type": "Image"}, "label": {"names": list("abcd"), "_type": "ClassLabel"}}
    (root / "dataset_info.json").write_text(json.dumps({"features": features}))


SOURCES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "text files": ("folder", text_files),
    "metadata": ("folder", metadata),
    "shards": ("webdataset", shards),
    "arrow": ("hugging-face", arrow),
}


def read(root: Path, source: str, **settings: Any) -> Dataset:
    return load(DataConfig(source=source, path=str(root), size=8, **settings))


def said(dataset: Dataset, kind: str) -> str:
    return "; ".join(f"{f.text} {f.items}" for f in dataset.audit.of_kind(kind))


def rows_of(dataset: Dataset, column: str) -> list[Any]:
    return [row for split in dataset.splits.values() for row in split.columns[column].data]


@pytest.fixture(params=SOURCES)
def found(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Dataset]:
    source, write = SOURCES[request.param]
    write(tmp_path)
    return request.param, read(tmp_path, source)


def test_every_picture_has_its_caption_and_its_facts(found: tuple[str, Dataset]) -> None:
    name, dataset = found
    tokenizer = Tokenizer(dataset.files["tokenizer.json"])
    assert sum(map(len, dataset.splits.values())) == N
    for split in dataset.splits.values():
        blue = split.x[:, 2].float().mean((1, 2)) > split.x[:, 0].float().mean((1, 2))
        texts = [tokenizer.decode(row) for row in split.columns["caption"].data]
        assert ["blue" in text for text in texts] == blue.tolist()
        assert all(text.startswith("a ") and " thing , no " in text for text in texts)
        if name == "text files":
            assert set(split.columns) == {"x", "caption"}
            continue
        labels = split.columns["colour"]
        assert [labels.spec.names[i] for i in labels.data] == ["blue" if b else "red" for b in blue]
        assert split.y is not None
        assert (split.y % 2 == blue).all()
        assert split.columns["weight"].spec.modality == "vector"
    if name != "text files":
        assert dataset.spec.classes == 4
    if name == "arrow":
        assert dataset.spec.class_names == ("a", "b", "c", "d")


def test_every_source_reads_the_same_pixels(tmp_path: Path) -> None:
    seen = []
    for name, (source, write) in SOURCES.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name)
        seen.append({row.numpy().tobytes() for row in rows_of(read(tmp_path / name, source), "x")})
    assert all(one == seen[0] for one in seen)


def test_captions_can_be_left_out_and_demanded(tmp_path: Path) -> None:
    text_files(tmp_path)
    assert "caption" not in read(tmp_path, "folder", captions=False).train.columns
    for path in tmp_path.glob("*.txt"):
        path.unlink()
    assert "caption" not in read(tmp_path, "folder").train.columns
    with pytest.raises(CallError, match=r"captions is true, but .* no captions"):
        read(tmp_path, "folder", captions=True)


def test_words_that_are_rare_become_the_unknown_one() -> None:
    texts = ["a red cat", "a red dog", "a blue dog"]
    column, written, findings = caption_texts(texts, CaptionOptions(), ["1", "2", "3"])
    tokenizer = Tokenizer(written)
    assert tokenizer.decode(column.data[0]) == f"a red {UNKNOWN_NAME}"
    assert tokenizer.encode("a zebra") == [tokenizer.encode("a")[0], 1]
    assert findings[0].items == ("blue", "cat")


def test_byte_pairs_know_every_word() -> None:
    pytest.importorskip("tokenizers")
    texts = [f"the quick brown fox number {i % 7}" for i in range(50)]
    options = CaptionOptions(caption_vocabulary=280, caption_length=12)
    column, written, _ = caption_texts(texts, options, list(map(str, range(50))))
    assert column.spec.shape == (12,)
    assert column.spec.levels == 280
    tokenizer = Tokenizer(written)
    assert tokenizer.decode(tokenizer.encode("zebra Ω")) == "zebra Ω"
    with pytest.raises(CallError, match=r"set data\.caption_vocabulary to that"):
        caption_texts(texts, CaptionOptions(caption_vocabulary=5000), list(map(str, range(50))))


def test_captions_that_are_too_long_are_cut_and_named(tmp_path: Path) -> None:
    text_files(tmp_path)
    dataset = read(tmp_path, "folder", caption_length=3)
    assert dataset.spec["caption"].shape == (3,)
    assert "40 captions have more than 3 tokens, up to 6, and were cut" in said(dataset, "left out")


def test_the_audit_sees_captions(tmp_path: Path) -> None:
    text_files(tmp_path)
    (tmp_path / "007.txt").unlink()
    (tmp_path / "008.txt").write_text(" \n")
    (tmp_path / "cat.txt").write_text("no image has this name")
    (tmp_path / "009.txt").write_bytes(b"\xff\xfe\xfa")
    dataset = read(tmp_path, "folder")
    captions = said(dataset, "captions")
    assert "2 of 40 images have no caption: theirs is empty ('007.png', '009.png')" in captions
    assert "3 of 40 samples have an empty 'caption'" in captions
    assert "5 different texts in 'caption' for 40 samples" in captions
    assert "1 captions have no image of their name ('cat.txt',)" in said(dataset, "left out")
    assert "009.txt: it is no UTF-8" in said(dataset, "unreadable")
    figures = dataset.audit.summary["captions"]["caption"]
    assert (figures["different"], figures["empty"], figures["longest"]) == (5, 3, 6)


def lines(*rows: Mapping[str, Any] | str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        metadata(root)
        with (root / "metadata.jsonl").open("a") as file:
            file.writelines(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)

    return write


def broken_shard(root: Path) -> None:
    shards(root)
    path = root / "001.tar"
    path.write_bytes(path.read_bytes()[:3000])


def twice(root: Path) -> None:
    with tarfile.open(root / "a.tar", "w") as archive:
        for key in ("1", "2", "1"):
            add(archive, f"{key}.png", png(int(key)))


def twice_a_member(root: Path) -> None:
    with tarfile.open(root / "a.tar", "w") as archive:
        for _ in range(2):
            add(archive, "1.png", png(1))


def broken_json(root: Path) -> None:
    with tarfile.open(root / "a.tar", "w") as archive:
        add(archive, "1.png", png(1))
        add(archive, "1.json", b"{")


def broken_arrow(root: Path) -> None:
    arrow(root)
    (root / "data-00000-of-00001.arrow").write_bytes(b"nothing")


def two_images(root: Path) -> None:
    arrow(root)
    features = {"image": {"_type": "Image"}, "text": {"_type": "Image"}}
    (root / "dataset_info.json").write_text(json.dumps({"features": features}))


@pytest.mark.parametrize(
    ("source", "write", "message"),
    [
        ("folder", lines("{"), r"'metadata.jsonl', line 41 is no JSON"),
        ("folder", lines({"text": "a"}), r"line 41 has no \"file_name\""),
        ("folder", lines({"file_name": "003.png"}), r"names '003.png' twice, in the lines 4 and 41"),
        ("webdataset", broken_shard, r"the shard '001.tar' cannot be read after \d+ members"),
        ("webdataset", lambda root: (root / "a.tar").write_bytes(b"no"), r"the shard 'a.tar' cannot be read"),
        ("webdataset", twice, r"the shard 'a.tar' holds the key '1' twice"),
        ("webdataset", twice_a_member, r"holds '1.png' twice"),
        ("webdataset", broken_json, r"'1.json' in 'a.tar' is no JSON"),
        ("webdataset", text_files, r"holds no shards"),
        ("hugging-face", text_files, r"is no data set that `save_to_disk` wrote"),
        ("hugging-face", broken_arrow, r"data-00000-of-00001.arrow' cannot be read"),
        ("hugging-face", two_images, r"several columns of pictures \(image, text\)"),
    ],
)
def test_bad_input_gets_one_sentence(
    tmp_path: Path, source: str, write: Callable[[Path], Any], message: str
) -> None:
    write(tmp_path)
    with pytest.raises(CallError, match=message) as caught:
        read(tmp_path, source)
    assert "\n" not in str(caught.value)


def test_metadata_that_name_missing_files_are_told(tmp_path: Path) -> None:
    lines({"file_name": "nowhere.png", "text": "a"})(tmp_path)
    dataset = read(tmp_path, "folder")
    assert "1 of 41 images that 'metadata.jsonl' names are not in the folder" in said(dataset, "left out")
    assert "line 41: nowhere.png" in said(dataset, "left out")


def test_samples_of_shards_without_a_picture_are_told(tmp_path: Path) -> None:
    shards(tmp_path)
    with tarfile.open(tmp_path / "002.tar", "w") as archive:
        add(archive, "7.txt", b"a caption alone")
        add(archive, "8.png", png(100))
        add(archive, "8.seg.png", b"a mask")
    dataset = read(tmp_path, "webdataset")
    assert "1 of 42 samples have no image and were left out ('002.tar:7',)" in said(dataset, "left out")
    assert "1 members of the shards were not read: .seg.png (1)" in said(dataset, "left out")
    assert "1 of 41 images have no caption" in said(dataset, "captions")


def test_splits_of_a_data_set_are_kept(tmp_path: Path) -> None:
    for i, name in enumerate(("train", "test", "extra")):
        (tmp_path / name).mkdir()
        arrow(tmp_path / name)
        if i:  # the others hold no picture of the first
            change_pictures(tmp_path / name, 1000 * i)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test", "extra"]}))
    dataset = read(tmp_path, "hugging-face")
    assert len(dataset.test) == N
    assert len(dataset.train) + len(dataset.validation) == N
    assert "the split 'extra' is none of train, validation and test" in said(dataset, "left out")


def change_pictures(root: Path, shift: int) -> None:
    import pyarrow as pa

    path = str(root / "data-00000-of-00001.arrow")
    table = pa.table({"image": [{"bytes": png(i + shift), "path": None} for i in range(N)]})
    with pa.OSFile(path, "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)


def test_facts_become_labels_numbers_or_a_finding() -> None:
    n = 12
    rows = [
        {"kind": "ab"[i % 2], "sharp": bool(i % 3), "score": float(i), "note": f"unique {i}", "same": 1}
        for i in range(n)
    ]
    rows[3].pop("sharp")
    columns, findings = fact_columns(rows, list(map(str, range(n))))
    assert set(columns) == {"kind", "score"}
    assert columns["kind"].spec.names == ("a", "b")
    assert torch.equal(columns["score"].data[:, 0], torch.arange(float(n)))
    texts = [f.text for f in findings]
    assert any("'sharp' of the metadata is missing for 1 of 12 samples" in text for text in texts)
    assert sum("neither a label" in text for text in texts) == 2


def test_a_caption_on_the_command_line_may_hold_unknown_words(tmp_path: Path) -> None:
    """What `niwaki sample RUN "caption=…"` does with the text."""
    text_files(tmp_path)
    dataset = read(tmp_path, "folder")
    tokenizer = Tokenizer(dataset.files["tokenizer.json"])
    assert tokenizer.decode(tokenizer.encode("a purple thing, no 3")) == f"a {UNKNOWN_NAME} thing , no 3"
