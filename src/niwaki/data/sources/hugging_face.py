"""Pictures of a data set of Hugging Face that lies on this machine, as `save_to_disk` left it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from niwaki.core.contract import CallError, nearest
from niwaki.core.paths import expanded
from niwaki.data.audit import LEFT_OUT, Finding, shortened
from niwaki.data.config import DataConfig, Pool, Progress, register
from niwaki.data.reading.arrow_folders import ArrowSplit, read_arrow_folder
from niwaki.data.reading.class_folders import split_called
from niwaki.data.reading.facts import CAPTION_NAMES
from niwaki.data.reading.picture_sets import Picture, PictureOptions, picture_pool

__all__ = ["HuggingFaceOptions", "hugging_face"]


class HuggingFaceOptions(PictureOptions):
    """Settings of `hugging-face`: those of `PictureOptions`, where `path` is a folder of `save_to_disk`, and

    image: the column of the pictures; default: the only one
    text:  the column of the captions; default: `text`, `caption` or `prompt`, where there is one
    """

    image: str | None = Field(default=None, exclude_if=lambda value: value is None)
    text: str | None = Field(default=None, exclude_if=lambda value: value is None)


@register("hugging-face", HuggingFaceOptions)
def hugging_face(config: DataConfig, options: HuggingFaceOptions, progress: Progress | None) -> Pool:
    """Images `(n, channels, size, size)`, and columns of whatever else the data set holds of every row.

    A data set of several splits keeps them where they are called train, validation and test.
    Raises CallError for a folder of another kind, a broken file, several columns of pictures or none, and for
    a column that is not there.
    """
    root = expanded(options.path)
    if not root.is_dir():
        raise CallError(
            f"data.path '{options.path}' " + ("is not a folder" if root.exists() else "does not exist")
        )
    pictures: list[Picture] = []
    splits: list[int] = []
    labels: dict[str, tuple[str, ...]] = {}
    empty: list[str] = []
    findings: list[Finding] = []
    for part in read_arrow_folder(root, options.path):
        number = split_called(part.name)
        if part.name and number is None:
            told = f"the split '{part.name}' is none of train, validation and test, and was left out"
            findings.append(Finding("warning", LEFT_OUT, told))
            continue
        image, text = _columns(part, options)
        labels |= part.labels()
        for i, given in enumerate(part.columns[image]):
            name = f"{part.name} row {i}".strip()
            source = _source(given, root)
            if source is None:
                empty.append(name)
                continue
            facts: dict[str, Any] = {k: v[i] for k, v in part.columns.items() if k not in (image, text)}
            caption = None if text is None else part.columns[text][i]
            pictures.append(Picture(name, source, caption, facts))
            splits += [] if number is None else [number]
    if empty:
        found = f"{len(empty)} of {len(empty) + len(pictures)} rows hold no picture and were left out"
        findings.append(Finding("error", LEFT_OUT, found, shortened(empty)))
    if not pictures:
        raise CallError(f"'{options.path}' holds no pictures")
    divided = len(set(splits)) > 1 and 0 in splits
    return picture_pool(
        Path(options.path).name or "hugging-face", pictures, config, options,
        kind="hugging-face", split=splits if divided else None, labels=labels,
        findings=findings, progress=progress,
    )  # fmt: skip


def _columns(part: ArrowSplit, options: HuggingFaceOptions) -> tuple[str, str | None]:
    """The column of the pictures and that of the captions."""
    for setting, name in (("image", options.image), ("text", options.text)):
        if name is not None and name not in part.columns:
            raise CallError(f"data.{setting}: there is no column '{name}'; {nearest(name, part.columns)}")
    images = [options.image] if options.image else part.images()
    if len(images) != 1:
        told = f"several columns of pictures ({', '.join(images)})" if images else "no column of pictures"
        raise CallError(
            f"'{options.path}' has {told} among {', '.join(part.columns)}; name it with data.image"
        )
    return images[0], options.text or next((name for name in CAPTION_NAMES if name in part.columns), None)


def _source(given: Any, root: Path) -> Path | bytes | None:
    """The bytes of a picture, or the file that it lies in; None where there is neither."""
    if isinstance(given, bytes):
        return given
    if isinstance(given, dict) and isinstance(given.get("bytes"), bytes):
        return bytes(given["bytes"])
    path = given.get("path") if isinstance(given, dict) else given
    return root / path if isinstance(path, str) and path else None
