"""Captions and further facts that lie beside the pictures of a folder: `cat.txt` beside `cat.png`, or a
`metadata.jsonl` with a line `{"file_name": "cat.png", "text": "a cat", …}` for every picture, as Hugging
Face's image folders have it.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError
from niwaki.data.audit import LEFT_OUT, Finding, shortened
from niwaki.data.reading.facts import take_caption

__all__ = ["Known", "captions_beside"]

METADATA = "metadata.jsonl"
FILE_NAME = "file_name"


@dataclass
class Known:
    """What is known of a picture beside itself."""

    caption: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def captions_beside(
    root: Path, images: Sequence[str], others: list[str]
) -> tuple[dict[str, Known], list[Finding]]:
    """What is known of every image, by its path, and what is odd about it.

    images: paths relative to `root`
    others: other files likewise; those that are read here are taken out
    Raises CallError for metadata that are no JSON lines, that name no file, or one twice.
    """
    known = {path: Known() for path in images}
    findings: list[Finding] = []
    for path in [path for path in others if posixpath.basename(path) == METADATA]:
        others.remove(path)
        findings += _metadata(root, path, known)
    texts = {path[: -len(".txt")]: path for path in others if path.endswith(".txt")}
    if described := [path for path in images if _stem(path) in texts]:
        beside = {_stem(path) for path in images}
        lonely = sorted(path for stem, path in texts.items() if stem not in beside)
        if lonely:
            text = f"{len(lonely)} captions have no image of their name"
            findings.append(Finding("warning", LEFT_OUT, text, shortened(lonely)))
        findings += _texts(root, described, texts, known)
        for path in texts.values():
            others.remove(path)
    return known, findings


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def _texts(
    root: Path, described: Iterable[str], texts: dict[str, str], known: dict[str, Known]
) -> list[Finding]:
    """Captions in files of their own."""
    broken = []
    for path in described:
        try:
            known[path].caption = (root / texts[_stem(path)]).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            broken.append(f"{texts[_stem(path)]}: {reason}")
    if not broken:
        return []
    return [Finding("error", "unreadable", f"{len(broken)} captions cannot be read", shortened(broken))]


def _metadata(root: Path, path: str, known: dict[str, Known]) -> list[Finding]:
    """The lines of one file of metadata; images are named from the folder that it lies in."""
    try:
        lines = (root / path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise CallError(f"'{path}' cannot be read: {reason}") from None
    absent: list[str] = []
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line, f"'{path}', line {number}")
        name = row.pop(FILE_NAME)
        image = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        if image in first:
            raise CallError(f"'{path}' names '{name}' twice, in the lines {first[image]} and {number}")
        first[image] = number
        if image not in known:
            absent.append(f"line {number}: {name}")
            continue
        caption = take_caption(row)
        known[image] = Known(caption, row)
    if not absent:
        return []
    text = f"{len(absent)} of {len(first)} images that '{path}' names are not in the folder"
    return [Finding("error", LEFT_OUT, text, shortened(absent))]


def _row(line: str, where: str) -> dict[str, Any]:
    """Raises CallError for what is no JSON object with a file name."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CallError(f"{where} is no JSON: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get(FILE_NAME), str):
        raise CallError(f'{where} has no "{FILE_NAME}" that says which image it is about')
    return row
