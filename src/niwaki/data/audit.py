"""What is odd about a data set, listed: nothing is dropped without being named here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ASSUMED",
    "CLIPPED",
    "LEFT_OUT",
    "Audit",
    "Finding",
    "Level",
    "balance",
    "captions",
    "duplicates",
    "is_said",
    "shortened",
    "value_range",
]

Level = Literal["note", "warning", "error"]
ORDER: tuple[Level, ...] = ("note", "warning", "error")
ASSUMED, CLIPPED, LEFT_OUT = "value range", "clipped", "left out"
SAID = (ASSUMED, CLIPPED, LEFT_OUT, "shapes", "other files", "splits", "remedied")
"""Kinds of findings that a user is told even as notes: what was assumed, and what was left out."""
SHOWN = 50  # items named in a finding that would otherwise fill pages; the text always carries the full count


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing.

    level: `note` (good to know), `warning` (may spoil a result), `error` (data were set aside)
    kind:  a short name that stays the same: `unreadable`, `duplicates`, `not finite`, `class balance` …
    text:  one sentence
    items: the files or samples meant, by name
    """

    level: Level
    kind: str
    text: str
    items: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"level": self.level, "kind": self.kind, "text": self.text, "items": list(self.items)}


@dataclass(frozen=True)
class Audit:
    """All findings on a data set, the gravest first, and its plain figures."""

    findings: tuple[Finding, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ranked = sorted(self.findings, key=lambda f: -ORDER.index(f.level))
        object.__setattr__(self, "findings", tuple(ranked))

    @property
    def worst(self) -> Level | None:
        """The gravest level found; None where nothing was."""
        return self.findings[0].level if self.findings else None

    @property
    def said(self) -> tuple[Finding, ...]:
        """What a user has to see who did not ask for an audit: all but plain notes."""
        return tuple(f for f in self.findings if is_said(f.level, f.kind))

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.kind == kind)

    def to_json(self) -> dict[str, Any]:
        return {"findings": [f.to_json() for f in self.findings], "summary": dict(self.summary)}


def is_said(level: str, kind: str) -> bool:
    """Whether a user has to see a finding who did not ask for an audit."""
    return level != "note" or kind in SAID


def shortened(items: Iterable[str]) -> tuple[str, ...]:
    """The first items, and how many more there are."""
    named = list(items)
    more = len(named) - SHOWN
    return tuple(named) if more <= 0 else (*named[:SHOWN], f"… and {more} more")


def duplicates(
    hashes: Sequence[bytes], split: np.ndarray, y: np.ndarray | None, name: Callable[[int], str]
) -> list[Finding]:
    """Samples with equal bytes: those that weigh double in a split, and those with two labels.

    hashes: one per sample; split: `(n,)` numbers of the splits; y: `(n,)` labels or None; name: of sample i
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, h in enumerate(hashes):
        groups[h].append(i)
    alike = [g for g in groups.values() if len(g) > 1]
    findings = []
    if alike:
        extra = sum(len(g) - 1 for g in alike)
        text = f"{extra} of {len(hashes)} samples repeat another exactly; all copies lie in the same split"
        text += "; 'data.remedies.duplicates: remove' leaves one of each"
        items = shortened(" = ".join(name(i) for i in g) for g in alike)
        findings.append(
            Finding("warning" if extra > 0.01 * len(hashes) else "note", "duplicates", text, items)
        )
    if y is not None:
        torn = [g for g in alike if len({int(y[i]) for i in g}) > 1]
        if torn:
            text = f"{len(torn)} groups of identical samples carry different labels"
            items = shortened(" ≠ ".join(f"{name(i)} ({int(y[i])})" for i in g) for g in torn)
            findings.append(Finding("warning", "label conflict", text, items))
    for g in alike:  # an invariant of the splitting, checked here and not only believed
        if len({int(split[i]) for i in g}) > 1:
            items = tuple(name(i) for i in g)
            findings.append(Finding("error", "leak", "identical samples lie in different splits", items))
    return findings


def balance(counts: Mapping[str, Sequence[int]], names: Sequence[str]) -> list[Finding]:
    """Classes that are absent from a split, and classes far rarer than others.

    counts: samples per class, by split
    """
    findings = []
    for split, row in counts.items():
        absent = tuple(names[c] for c, n in enumerate(row) if n == 0)
        if absent:
            text = f"{len(absent)} of {len(row)} classes have no sample in the {split} split"
            findings.append(Finding("warning", "class balance", text, shortened(absent)))
    train = np.asarray(counts["train"])
    if len(train) > 1 and train.min() > 0 and train.max() > 10 * train.min():
        rare, common = int(train.argmin()), int(train.argmax())
        text = (
            f"class '{names[common]}' has {train[common]} training samples, "
            f"'{names[rare]}' only {train[rare]}: rare classes will be learned badly; 'train.balance: class' "
            "draws all equally often"
        )
        findings.append(Finding("warning", "class balance", text, (names[rare],)))
    return findings


def captions(name: str, rows: Mapping[str, Tensor], nothing: int) -> tuple[list[Finding], dict[str, Any]]:
    """Texts that samples are asked for by: those that say nothing, and those that many samples share.

    name: of the column; rows: tokens `(n, length)` by split; nothing: the token that fills a row up
    """
    whole = torch.cat(list(rows.values())).long()
    if not whole.numel():
        return [], {}
    empty = int((whole == nothing).all(1).sum())
    kinds, counts = torch.unique(whole, dim=0, return_counts=True)
    known = {split: {tuple(row) for row in part.tolist()} for split, part in rows.items()}
    train = known.get("train", set())
    figures = {
        "different": len(kinds),
        "empty": empty,
        "longest": int((whole != nothing).sum(1).amax()),
        "in_train": {k: len(v & train) / max(len(v), 1) for k, v in known.items() if k != "train"},
    }
    findings = []
    if empty:
        text = f"{empty} of {len(whole)} samples have an empty '{name}': a model learns nothing from it"
        findings.append(Finding("warning", "captions", text))
    most = int(counts.amax())
    if 1 < len(whole) != len(kinds):
        text = f"{len(kinds)} different texts in '{name}' for {len(whole)} samples, the commonest for {most}"
        findings.append(Finding("warning" if 2 * most > len(whole) else "note", "captions", text))
    return findings, figures


def value_range(x: Tensor, levels: int) -> tuple[list[Finding], dict[str, Any]]:
    """Figures of the stored values; constant ones, or a range that is half unused, are warnings."""
    if x.numel() == 0:
        return [], {}
    low, high = x.amin().item(), x.amax().item()
    mean = (
        x.to(torch.float64).mean().item()
        if x.numel() < 1 << 24
        else x.flatten()[:: x.numel() >> 22].double().mean().item()
    )
    figures = {"minimum": low, "maximum": high, "mean": mean}
    if low == high:
        return [Finding("warning", "value range", f"every value of every sample is {low}")], figures
    if x.dtype == torch.uint8 and high - low < 0.5 * (levels - 1):
        text = f"stored values span only {int(low)} … {int(high)} of 0 … {levels - 1}"
        return [Finding("warning", "value range", text)], figures
    return [], figures
