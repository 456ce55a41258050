"""Texts that a model is asked by, as the tokens that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from niwaki_runtime.specs import ConditionSpec
from niwaki_runtime.tokenizer import FILE, Tokenizer

if TYPE_CHECKING:
    from niwaki_runtime.programs import Runner

__all__ = ["as_tokens"]


def as_tokens(runner: Runner, spec: ConditionSpec | None, value: Any) -> Any:
    """A text, or a list of texts, as the tokens that the runner reads, filled up or cut off to the
    input's length; all else unchanged."""
    texts = [value] if isinstance(value, str) else value
    if spec is None or spec.is_label or not spec.integer or not isinstance(texts, list):
        return value
    own = getattr(runner, "read_prompts", None)
    if callable(own):  # a model that brings a tokenizer of another kind
        return own(value)
    text = runner.files.get(FILE)
    if text is None or not all(isinstance(t, str) for t in texts):
        return value
    tokenizer = Tokenizer(text)
    rows = np.full((len(texts), *spec.shape), -1 if spec.null is None else int(spec.null), np.int64)
    for row, one in zip(rows, texts, strict=True):
        found = tokenizer.encode(one)[: spec.shape[0]]
        row[: len(found)] = found
    return rows[0] if isinstance(value, str) else rows
