"""From the words of a request to what a program is asked: a class by its name, a caption as tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import Program, Runner
from niwaki_runtime.text_conditions import as_tokens

__all__ = ["asked_by"]


def asked_by(runner: Runner, program: Program, words: Any, conditions: Any) -> dict[str, Any] | None:
    """Inputs by name; None asks for the defaults.

    words:      a prompt: the caption of a model that reads one, else the name or number of a class
    conditions: by name, or a bare value for the only one; they go before words
    Raises CallError for words that the model cannot read.
    """
    specs = program.inputs
    if conditions is not None and not isinstance(conditions, Mapping):
        if len(specs) != 1:
            named = ", ".join(specs) or "none"
            raise CallError(f'name the conditions, as {{"class": 3}}; this model has {named}')
        conditions = {next(iter(specs)): conditions}
    asked = {name: as_tokens(runner, specs.get(name), value) for name, value in (conditions or {}).items()}
    if words in (None, ""):
        return asked or None
    if not isinstance(words, str | int) or isinstance(words, bool):
        raise CallError(f"a prompt is a text, not {words!r:.60}")
    free = {name: spec for name, spec in specs.items() if name not in asked and spec.integer}
    captions = [name for name, spec in free.items() if spec.value.axes == "T"]
    labels = [name for name, spec in free.items() if spec.is_label]
    if len(captions or labels) != 1:
        said = ", ".join(specs)
        raise CallError(
            f"say by name what is asked for, in 'conditions': {said}"
            if specs
            else "this model is asked for nothing; leave the prompt empty"
        )
    name = (captions or labels)[0]
    tokens = as_tokens(runner, specs[name], str(words))
    if captions and isinstance(tokens, str):
        raise CallError("this model ships no tokenizer, so that it cannot read a prompt; give tokens")
    return {**asked, name: tokens}
