"""Further facts about every sample, such as a row of metadata or a JSON file holds, as columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from niwaki.core.contract import Real, ValueSpec
from niwaki.data.audit import LEFT_OUT, Finding, shortened
from niwaki.data.columns import Column

__all__ = ["CAPTION_NAMES", "fact_columns", "take_caption"]

CAPTION_NAMES = ("text", "caption", "prompt")
"""Names of the fact that is a caption, the first that is there."""
_CLASS_NAMES = ("class", "label")
_RESERVED = ("x", "caption")
_MOST_LABELS = 256


def take_caption(facts: dict[str, Any]) -> str | None:
    """Take the caption out of the facts; None where there is none."""
    for name in CAPTION_NAMES:
        if isinstance(facts.get(name), str):
            return str(facts.pop(name))
    return None


def fact_columns(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], labels: Mapping[str, Sequence[str]] | None = None
) -> tuple[dict[str, Column], list[Finding]]:
    """A column of labels of what has few values (texts, whole numbers, true and false), and one of vectors of
    other numbers; `label` becomes `class`. What is neither, or is missing for some, is a finding.

    rows:   of every sample, by name of the column
    names:  of the samples, in findings
    labels: by column, the names of labels that are known to be whole numbers 0, 1 …
    """
    columns: dict[str, Column] = {}
    findings: list[Finding] = []
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        called = "class" if key in _CLASS_NAMES else key
        missing = [name for name, value in zip(names, values, strict=True) if value is None]
        column, why = (
            _labels(values, (labels or {}).get(key)) or _column(values),
            "is neither a label of few values nor a number",
        )
        if missing:
            column, why = None, f"is missing for {len(missing)} of {len(rows)} samples"
        elif called in columns or called in _RESERVED:
            column, why = None, "has the name of another column"
        if column is None:
            text = f"the column '{key}' of the metadata {why} and was left out"
            findings.append(Finding("warning" if missing else "note", LEFT_OUT, text, shortened(missing)))
        else:
            columns[called] = column
    return columns, findings


def _labels(values: Sequence[Any], names: Sequence[str] | None) -> Column | None:
    """Numbers of labels whose names are known."""
    if names is None or not all(isinstance(value, int) and 0 <= value < len(names) for value in values):
        return None
    return Column(ValueSpec.label(len(names), tuple(names)), torch.tensor(values))


def _column(values: Sequence[Any]) -> Column | None:
    if all(isinstance(value, str | bool | int) for value in values):
        kinds = sorted(set(values), key=lambda value: (isinstance(value, str), value))
        if 2 <= len(kinds) <= min(_MOST_LABELS, len(values) // 2):
            place = {value: i for i, value in enumerate(kinds)}
            spec = ValueSpec.label(len(kinds), tuple(map(str, kinds)))
            return Column(spec, torch.tensor([place[value] for value in values]))
    if (
        all(isinstance(value, int | float) and math.isfinite(value) for value in values)
        and len(set(values)) > 1
    ):
        spec = ValueSpec("vector", (1,), "C", Real(-math.inf, math.inf))
        return Column(spec, torch.tensor(values, dtype=torch.float32)[:, None])
    return None
