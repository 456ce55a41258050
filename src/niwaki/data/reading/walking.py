"""The files below a folder, and everything that was passed by: nothing disappears without being named.

Folders are walked in a fixed order. Links to folders are followed where that reads nothing twice and goes
round in no circle; what cannot be opened, is hidden, or is no file at all is counted by its reason.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from niwaki.core.store import hash_file
from niwaki.data.audit import LEFT_OUT, Finding, Level, shortened

__all__ = ["Walk", "alike", "ending", "hash_or_reason", "walk"]

HIDDEN = (".", "__MACOSX")

_REASONS: dict[str, tuple[Level, str]] = {
    "unreadable folder": ("error", "{n} cannot be opened, and whatever they hold is missing"),
    "name": ("error", "{n} have names that are no UTF-8, and were set aside; rename them"),
    "no file": ("warning", "{n} are no files (pipes, sockets, devices) and were not read"),
    "loop": ("warning", "{n} lead back to a folder that they lie in, and were not followed"),
    "link": ("note", "{n} lead to a folder that was read already, and were not followed"),
    "hidden": ("note", "{n} are hidden (their names begin with a dot, or are __MACOSX) and were not read"),
}
"""Why something was left out → how grave that is, and what is said of n such things."""


@dataclass
class Walk:
    """What lies below a folder.

    files:    those that are wanted, as paths relative to it with '/'
    others:   files of other endings
    folders:  all that were opened, likewise; '' is the folder itself
    left_out: by reason, what was passed by
    """

    files: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def findings(self, what: str) -> list[Finding]:
        """One finding for each reason. what: the files that are wanted, as `images`."""
        found = []
        for reason, (level, text) in _REASONS.items():
            items = sorted(self.left_out.get(reason, ()))
            if items:
                n = f"{len(items)} things in the folder"
                found.append(Finding(level, LEFT_OUT, text.format(n=n), shortened(items)))
        if self.others:
            many = len(self.others) > max(3, len(self.files) // 20)
            text = f"{len(self.others)} files are not {what} by their names and were not read: "
            level_of: Level = "warning" if many else "note"
            found.append(
                Finding(level_of, "other files", text + _endings(self.others), shortened(self.others))
            )
        return found


def ending(path: str) -> str:
    """What a name ends in behind its last dot, in small letters; empty where it has none."""
    name = path.rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[-1].lower() if "." in name else ""


def walk(root: Path, endings: Iterable[str]) -> Walk:
    """Everything below `root`, each real folder once; files in the order of their paths' parts.

    endings: in small letters, of the files that are wanted
    Raises OSError where `root` itself cannot be opened.
    """
    found, wanted = Walk(), frozenset(endings)
    os.scandir(root).close()  # a folder that cannot be opened at all is no empty one
    visited: set[tuple[int, int]] = set()
    links = _below(root, "", (), found, wanted, visited)
    while links:  # after all that really lies here: what a link leads to may be read by its own name
        path, above = links.pop(0)
        inside = _identity(root / path)
        if inside is None:
            _leave(found, "unreadable folder", path)
        elif inside in above or _holds(root, inside):
            _leave(found, "loop", path)
        elif inside in visited:
            _leave(found, "link", path)
        else:
            links += _below(root, path, above, found, wanted, visited)
    for part in (found.files, found.others, found.folders):
        part.sort(key=lambda path: path.split("/"))
    return found


Link = tuple[str, tuple[tuple[int, int], ...]]


def _below(
    root: Path,
    start: str,
    above: tuple[tuple[int, int], ...],
    found: Walk,
    wanted: frozenset[str],
    visited: set[tuple[int, int]],
) -> list[Link]:
    """Walk the real folders from `start` on; the links to folders that were met, with what they lie in."""
    links: list[Link] = []
    waiting = [(start, above)]
    while waiting:
        here, chain = waiting.pop()
        identity = _identity(root / here)
        if identity is None or identity in visited:
            if identity is None:
                _leave(found, "unreadable folder", here)
            continue
        visited.add(identity)
        chain = (*chain, identity)
        try:
            with os.scandir(root / here) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            _leave(found, "unreadable folder", here)
            continue
        found.folders.append(here)
        for entry in inside:
            path = f"{here}/{entry.name}" if here else entry.name
            if not _utf8(entry.name):
                _leave(found, "name", os.fsencode(path).decode("utf-8", "backslashreplace"))
                continue
            is_folder = _is(entry.is_dir)
            if entry.name.startswith(HIDDEN):
                if is_folder or ending(path) in wanted:
                    _leave(found, "hidden", path)
            elif is_folder and entry.is_symlink():
                links.append((path, chain))
            elif is_folder:
                waiting.append((path, chain))
            elif _special(entry):
                _leave(found, "no file", path)
            else:  # a link that leads nowhere too: whoever reads it says so by name
                (found.files if ending(path) in wanted else found.others).append(path)
    return links


def _identity(path: Path) -> tuple[int, int] | None:
    """Which folder a path leads to, whatever it is called; None where that cannot be told."""
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_dev, known.st_ino


def _holds(root: Path, identity: tuple[int, int]) -> bool:
    """Whether a folder is one that `root` lies in."""
    return any(_identity(parent) == identity for parent in root.resolve().parents)


def _special(entry: os.DirEntry[str]) -> bool:
    """A pipe, a socket or a device: opening one may wait for ever."""
    try:
        return not stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False


def _is(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except OSError:
        return False


def _utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _leave(found: Walk, reason: str, path: str) -> None:
    found.left_out.setdefault(reason, []).append(path or ".")


def _endings(paths: Iterable[str]) -> str:
    """`.csv (3), .heic (2), without an ending (1)`, the commonest first."""
    counts: dict[str, int] = {}
    for path in paths:
        counts[ending(path)] = counts.get(ending(path), 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{'.' + e if e else 'without an ending'} ({n})" for e, n in ranked[:8]]
    return ", ".join(named) + (", …" if len(ranked) > 8 else "")


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ by case, blanks at their ends or the spelling of accents alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFKC", name).strip().casefold(), []).append(name)
    return [tuple(sorted(group)) for group in groups.values() if len(group) > 1]


def hash_or_reason(path: Path) -> str:
    """The hash of a file's bytes, or why it cannot be read (whoever reads it will say so by name)."""
    try:
        return hash_file(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"
