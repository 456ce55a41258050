"""Text files as bytes and as text."""

from __future__ import annotations

from pathlib import Path

from niwaki.core.contract import CallError
from niwaki.core.paths import expanded
from niwaki.data.audit import Finding, shortened
from niwaki.data.reading.walking import walk

__all__ = ["EXTENSIONS", "decoded", "read_files", "read_text_files"]

EXTENSIONS = ("txt", "md", "rst", "text")
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "a gzip archive", b"PK\x03\x04": "a zip archive", b"%PDF": "a PDF",
}  # fmt: skip
"""First bytes of what is no UTF-8 text, longer ones first."""


def read_text_files(path: str) -> tuple[list[tuple[str, bytes]], list[Finding]]:
    """Name and content of every file. Raises CallError where there is none."""
    return read_files(path, EXTENSIONS, "text")


def read_files(
    path: str, endings: tuple[str, ...], what: str
) -> tuple[list[tuple[str, bytes]], list[Finding]]:
    """Name and content of a file, or of those in a folder that have one of the endings; `what` is how
    messages call them. Raises CallError where there is none."""
    root = expanded(path)
    if not root.exists():
        raise CallError(f"data.path '{path}' does not exist")
    if not root.is_dir():
        return [(root.name, _content(root, path))], []
    try:
        seen = walk(root, endings)
    except OSError as error:
        raise CallError(f"data.path '{path}' cannot be opened: {error.strerror or error}") from None
    findings, found, broken = seen.findings(what), [], []
    if not seen.files:
        why = "; ".join(f.text for f in findings)
        raise CallError(
            f"data.path '{path}' holds no {what} files ({', '.join(endings)})" + (f": {why}" if why else "")
        )
    for name in seen.files:
        try:
            found.append((name, _content(root / name, name)))
        except CallError as error:
            broken.append(str(error))
    if broken:
        words = f"{len(broken)} of {len(seen.files)} files cannot be opened and were set aside"
        findings.append(Finding("error", "unreadable", words, shortened(broken)))
    if not found:
        raise CallError(f"none of the {len(seen.files)} files in '{path}' can be opened")
    return found, findings


def _content(file: Path, called: str) -> bytes:
    if file.exists() and not file.is_file():
        raise CallError(f"'{called}' is neither a file nor a folder")
    try:
        return file.read_bytes()
    except OSError as error:
        raise CallError(f"'{called}' cannot be opened: {error.strerror or error}") from None


def decoded(content: bytes) -> str:
    """Raises ValueError that says what the bytes are, as far as they tell."""
    for mark, name in _MARKS.items():
        if content.startswith(mark):
            raise ValueError(f"is {name}; save it as UTF-8")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
