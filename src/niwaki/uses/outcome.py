"""What came of a use, and how it becomes files without losing what was there."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.array_files import npy_bytes, npz_bytes
from niwaki.core.errors import CallError
from niwaki.core.store import write_bytes
from niwaki.modalities import modality_of
from niwaki.modalities.base import put
from niwaki.modalities.provenance import Provenance
from niwaki_runtime.specs import ValueSpec

__all__ = ["Outcome", "stems"]

_LONGEST = 200
"""Bytes of a file's name without its ending; most file systems take 255 in all."""


@dataclass
class Outcome:
    """What came of it.

    record: plain JSON, for `--json`
    lines:  the same for a terminal, a sentence each
    rows:   a table, one mapping per row (of `.csv` and `.json`)
    x:      samples `(n, *spec.shape)`, with what one is and its file's name; in a picture `columns` to a row
    sheet:  samples that a picture shows in the place of x: what was given beside what came of it
    data:   bytes of a file of its own kind
    texts:  bytes of several files, called `names`
    ending: of the file where the caller names none; "/" for a folder
    failed: what was lost, in one sentence, though the rest is there
    given:  the files and folders that it was made from, which `write` leaves as they are
    source: what the files of samples say of where they come from; None: nothing
    """

    record: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    x: np.ndarray | None = None
    spec: ValueSpec | None = None
    names: Sequence[str] = ()
    columns: int = 0
    sheet: np.ndarray | None = None
    data: bytes | None = None
    texts: Sequence[bytes] | None = None
    ending: str = ""
    failed: str = ""
    given: Sequence[Path] = ()
    source: Provenance | None = None

    def write(self, place: Path | str) -> list[Path]:
        """Into one file, or a file for each sample where `place` is a directory or has no ending.

        A file that is there already is replaced, but never one of the given ones. Raises CallError for that
        and for an ending that such an outcome has no form for, NiwakiError where the place cannot be written.
        """
        place = Path(place)
        if place.is_dir() or (not place.suffix and self.data is None):
            return self._write_folder(place)
        self._check_free([place])
        if self.data is not None:
            write_bytes(place, self.data)
        elif self.texts is not None:
            if len(self.texts) != 1:
                raise CallError(f"{len(self.texts)} texts need a folder; name one with -o")
            write_bytes(place, self.texts[0])
        elif place.suffix in (".csv", ".json"):
            write_bytes(place, _table(place.suffix, self.rows))
        else:
            self._write_samples(place)
        return [place]

    def _write_samples(self, place: Path) -> None:
        """All into one file."""
        x, spec = self._samples(place)
        modality = modality_of(spec)
        shown = x if self.sheet is None else self.sheet
        rows = modality.rows(shown, spec, self.columns) if self.columns and place.suffix == ".png" else None
        if place.suffix == ".npy":
            put(place, npy_bytes(x), self.source)
        elif place.suffix == ".npz":
            named = {"names": np.array(self.names, str)} if len(self.names) else {}
            if self.source is not None:
                named["provenance"] = np.array(self.source.text())
            write_bytes(place, npz_bytes(x=x, **named))
        elif not len(x):
            raise CallError("there are no samples to show")
        elif rows is not None:
            put(place, rows, self.source)
        else:
            modality.write(place, x, spec, source=self.source)

    def _write_folder(self, place: Path) -> list[Path]:
        if self.data is not None:
            raise CallError(
                f"{place} is a folder; name a file for what was made, as {place / 'a'}{self.ending}"
            )
        made = self._made(place)
        if place.exists() and not place.is_dir():
            raise CallError(
                f"{place} is a file, and {len(made)} samples need a folder; name another place with -o"
            )
        places = [place / f"{s}{e}" for s, (e, _) in zip(stems(self.names, len(made)), made, strict=True)]
        self._check_free(places)
        source = None if self.texts is not None else self.source
        for file, (_, data) in zip(places, made, strict=True):
            put(file, data, source)
        return places

    def _made(self, place: Path) -> list[tuple[str, bytes]]:
        """Ending and bytes of each file."""
        if self.texts is not None:
            return [(_ending(self.names, i), text) for i, text in enumerate(self.texts)]
        x, spec = self._samples(place)
        modality = modality_of(spec)
        return [modality.file_of(one, spec) for one in x]

    def _samples(self, place: Path) -> tuple[np.ndarray, ValueSpec]:
        if self.x is None or self.spec is None:
            raise CallError(f"this use writes a table, as .csv or .json, not '{place.name}'")
        return self.x, self.spec

    def _check_free(self, places: Iterable[Path]) -> None:
        """Raises CallError where one of the given files would be lost."""
        given = {path.resolve() for path in self.given}
        for place in places:
            there = place.resolve()
            if there.exists() and not given.isdisjoint((there, *there.parents)):
                raise CallError(
                    f"{place} is one of the given files, and would be lost; name another place with -o"
                )


def stems(names: Sequence[str], n: int) -> list[str]:
    """A name without ending for each of n files: the given ones, or numbers; no two alike, and none that
    leads out of a folder or that the file system refuses."""
    digits, taken, found = len(str(n)), set[str](), []
    for i in range(n):
        number = f"{i:0{digits}d}"
        plain = _stem(names[i]) if i < len(names) else ""
        one, again = plain or number, 2
        while one.casefold() in taken:  # also on file systems that take A and a for the same
            one, again = f"{plain or number}-{again}", again + 1
        taken.add(one.casefold())
        found.append(one)
    return found


def _ending(names: Sequence[str], i: int) -> str:
    """The ending that a text's file had, where it is one that files have."""
    ending = Path(names[i]).suffix if i < len(names) else ""
    return ending if ending[1:].isalnum() and ending.isascii() and len(ending) <= 8 else ".txt"


def _stem(name: str) -> str:
    """What is left of a name that a foreign file says; empty where that is nothing."""
    printable = "".join("_" if ord(c) < 32 or ord(c) == 127 else c for c in name)
    try:
        plain = os.fsencode(printable)
    except UnicodeEncodeError:
        plain = printable.encode("utf-8", "replace")
    stem = Path(os.fsdecode(plain)).stem
    while len(os.fsencode(stem)) > _LONGEST:
        stem = stem[:-1]
    return stem.strip(". ") and stem


def _table(suffix: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    if suffix == ".json":
        return (json.dumps(list(rows), indent=1, ensure_ascii=False) + "\n").encode(
            "utf-8", "backslashreplace"
        )
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode("utf-8", "backslashreplace")
