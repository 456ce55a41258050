"""What the folders that files lie in mean: classes, splits, or nothing; and what is odd about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from niwaki.core.contract import CallError
from niwaki.data.audit import LEFT_OUT, Finding, shortened
from niwaki.data.reading.walking import alike
from niwaki.data.splitting import SPLITS, by_hash

__all__ = ["Layout", "divided", "laid_out", "split_called"]

_CALLED = {
    "train": 0, "training": 0,
    "val": 1, "valid": 1, "validation": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip
"""Names of folders that are splits, in small letters."""


@dataclass
class Layout:
    """What the folders say of every image.

    names:    of the classes, sorted; empty without classes
    labels:   the class of each image, or None
    split:    the number of the split of each image, or None where the folders do not say
    findings: what was assumed, and what is odd
    """

    names: tuple[str, ...] = ()
    labels: list[int] | None = None
    split: list[int] | None = None
    findings: list[Finding] = field(default_factory=list)


def laid_out(
    root: str,
    images: Sequence[str],
    folders: Sequence[str],
    labels: bool | None,
    splits: bool | None,
    what: str = "images",
) -> Layout:
    """Two or more subfolders with images are classes, below `train/`, `val/` and `test/` where all are called
    so.

    images, folders: relative paths
    labels:          False: no classes are wanted
    splits:          whether the uppermost folders are splits; None: where all are called so
    what:            what the files are called
    Raises CallError where labels are not refused and some images lie in subfolders, others beside them, and
    where splits are wanted and the folders are called otherwise.
    """
    found = Layout()
    found.split, named = _splits(root, images, splits)
    inner = images
    if found.split is not None:
        found.findings.append(_said(found.split, named))
        inner = [path.split("/", 1)[1] for path in images]
        folders = [path.split("/", 1)[1] for path in folders if "/" in path]
    if labels is False:
        return found
    tops = [path.split("/", 1)[0] if "/" in path else None for path in inner]
    names = tuple(sorted({t for t in tops if t is not None}))
    if names and None in tops:
        loose = sum(t is None for t in tops)
        raise CallError(
            f"'{root}' has {loose} {what} beside its subfolders, so that their class is unknown; "
            "move them into subfolders or set data.labels=false"
        )
    found.findings += _odd(root, inner, folders, names, what)
    if len(names) >= 2:
        place = {name: i for i, name in enumerate(names)}
        found.names, found.labels = names, [place[str(t)] for t in tops]
    return found


def split_called(name: str) -> int | None:
    """The number of the split that a folder of this name is; None where it is none."""
    return _CALLED.get(name.lower())


def divided(split: np.ndarray, hashes: Sequence[bytes], shares: Sequence[float], seed: int) -> np.ndarray:
    """The splits that folders say, with those that no folder is called by drawn from the training images.

    split: `(n,)` numbers; hashes: of the samples; shares: of train, validation and test
    """
    missing = [k for k in range(1, len(SPLITS)) if not (split == k).any()]
    if not missing:
        return split
    wanted = np.array([s if k == 0 or k in missing else 0.0 for k, s in enumerate(shares)])
    drawn = by_hash(hashes, list(wanted / wanted.sum()), seed)
    return np.where(split == 0, drawn, split)


def _splits(root: str, images: Sequence[str], wanted: bool | None) -> tuple[list[int] | None, dict[str, int]]:
    """The split of each image, and which folder is which."""
    tops = {path.split("/", 1)[0] if "/" in path else "" for path in images}
    named = {top: _CALLED[top.lower()] for top in sorted(tops) if top.lower() in _CALLED}
    whole = len(named) == len(tops) and 0 in named.values() and len(set(named.values())) > 1
    if wanted is False or (wanted is None and not whole):
        return None, {}
    if not whole:
        raise CallError(
            f"data.splits is true, but the folders in '{root}' are not train/ with validation/ or test/ alone"
        )
    return [named[path.split("/", 1)[0]] for path in images], named


def _said(split: Sequence[int], named: dict[str, int]) -> Finding:
    counts = np.bincount(split, minlength=len(SPLITS))
    text = "the folders are the splits: " + ", ".join(f"{name} is {SPLITS[k]}" for name, k in named.items())
    missing = [SPLITS[k] for k in range(len(SPLITS)) if not counts[k]]
    if missing:
        text += f"; {' and '.join(missing)} are drawn from train by data.fractions"
    return Finding("note", "splits", f"{text} (data.splits=false takes them for classes)")


def _odd(
    root: str, images: Sequence[str], folders: Sequence[str], names: tuple[str, ...], what: str
) -> list[Finding]:
    """Classes that are missing, that may be one, and subfolders that are none."""
    found = []
    there = {folder.split("/", 1)[0] for folder in folders if folder}
    empty = sorted(there - set(names))
    if empty and names:
        text = f"{len(empty)} subfolders hold no {what} that can be read, so these classes are missing"
        found.append(Finding("warning", LEFT_OUT, f"{text}: {', '.join(shortened(empty))}", shortened(empty)))
    for group in alike(names):
        text = (
            f"the classes {' and '.join(map(repr, group))} are called alike but for case, blanks or accents"
        )
        found.append(Finding("warning", "class names", text, group))
    below = sorted({"/".join(path.split("/")[:2]) for path in images if path.count("/") > 1})
    if len(names) == 1 and len(below) > 1:
        inner = ", ".join(shortened(path.split("/")[1] for path in below))
        text = f"all {what} lie in '{names[0]}', so its subfolders ({inner}) are no classes"
        found.append(
            Finding("warning", LEFT_OUT, f"{text}; set data.path to '{root}/{names[0]}'", tuple(below))
        )
    elif below:
        text = (
            f"{len(below)} subfolders of classes are no classes of their own: {', '.join(shortened(below))}"
        )
        found.append(Finding("note", LEFT_OUT, text, shortened(below)))
    return found
