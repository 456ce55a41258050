"""Shards of samples: tar archives in which members of one key belong together (`000017.png`, `000017.txt`,
`000017.json`, `000017.cls`), as the package webdataset writes them."""

from __future__ import annotations

import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError
from niwaki.core.errors import first_line

__all__ = ["SHARDS", "Sample", "read_shard"]

SHARDS = ("tar", "tgz", "gz")
"""Endings of the names of shards."""


@dataclass
class Sample:
    """Members of one key, by what their names end in behind the key."""

    key: str
    members: dict[str, bytes] = field(default_factory=dict)

    def text(self, *endings: str) -> str | None:
        """The first member of these endings, as text."""
        for ending in endings:
            if ending in self.members:
                return self.members[ending].decode("utf-8", "replace").strip()
        return None

    def facts(self, where: str) -> dict[str, Any]:
        """What `.json` and `.cls` say. Raises CallError for a `.json` that holds no object."""
        found: dict[str, Any] = {}
        if (text := self.text("json")) is not None:
            try:
                found = json.loads(text)
            except ValueError as error:
                raise CallError(f"'{self.key}.json' in {where} is no JSON: {error}") from None
            if not isinstance(found, dict):
                raise CallError(f"'{self.key}.json' in {where} holds no object")
        if (text := self.text("cls")) is not None:
            found["class"] = int(text) if text.isdecimal() else text
        return found


def read_shard(path: Path) -> list[Sample]:
    """The samples of a shard, in its order.

    Raises CallError for a file that is no tar archive or ends too early, and for a key or a member that comes
    twice.
    """
    samples: dict[str, Sample] = {}
    last, done = None, 0
    try:
        with tarfile.open(path) as archive:
            for member, content in _members(archive):
                key, ending = _parts(member)
                if key != last and key in samples:
                    raise CallError(f"the shard '{path.name}' holds the key '{key}' twice")
                sample = samples.setdefault(key, Sample(key))
                if ending in sample.members:
                    raise CallError(f"the shard '{path.name}' holds '{member}' twice")
                sample.members[ending] = content
                last, done = key, done + 1
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        after = f" after {done} members" if done else ""
        raise CallError(f"the shard '{path.name}' cannot be read{after}: {first_line(error)}") from None
    return list(samples.values())


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        hidden = posixpath.basename(member.name).startswith(".")
        if member.isfile() and not hidden and (file := archive.extractfile(member)) is not None:
            yield member.name, file.read()


def _parts(name: str) -> tuple[str, str]:
    """`a/b.seg.png` → `a/b` and `seg.png`: a key ends at the first dot of a member's last part."""
    folder, base = posixpath.split(name)
    stem, _, ending = base.partition(".")
    return posixpath.join(folder, stem), ending.lower()
