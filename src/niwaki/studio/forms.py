"""What a page can ask of a program, described for its form, and what comes back as the program's inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, ConditionSpec, Runner
from niwaki.modalities import modality_of
from niwaki.serving.prompts import asked_by
from niwaki.studio.models import Model
from niwaki_runtime.programs import Program
from niwaki_runtime.specs import resolve
from niwaki_runtime.tokenizer import FILE

__all__ = ["asked_of", "field_of", "fields_of", "settings_of", "words_of"]

_FEW = 16
"""Numbers of one condition that are asked for one by one."""
_SETTINGS = {
    "steps": "Steps", "guidance": "Guidance", "temperature": "Temperature", "top_k": "Top k",
    "top_p": "Top p", "truncation": "Truncation", "eta": "Eta",
}  # fmt: skip
"""Settings of samplers that a form offers, where the program has them."""


def fields_of(runner: Runner, program: Program, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """A field for each input of a program but for those that its page gives by other means."""
    return [field_of(name, spec, runner) for name, spec in program.inputs.items() if name not in without]


def field_of(name: str, spec: ConditionSpec, runner: Runner) -> dict[str, Any]:
    """One condition, by what its spec says it is.

    kind: `class` (with its names), `text`, `numbers` (with names, bounds and usual values), `example` (one of
          those that come with the model); `null`: whether nothing may be asked
    """
    field: dict[str, Any] = {"name": name, "null": spec.null is not None}
    if spec.is_label:
        names = spec.value.names or tuple(map(str, range(spec.size)))
        return {**field, "kind": "class", "names": list(names)}
    reads = FILE in runner.files or callable(getattr(runner, "read_prompts", None))
    if spec.integer and spec.value.axes == "T" and reads:
        return {**field, "kind": "text"}
    size = math.prod(spec.shape)
    if not spec.integer and 0 < size <= _FEW:
        low, high = spec.value.low, spec.value.high
        bounds = {"low": low, "high": high} if math.isfinite(low) and math.isfinite(high) else {}
        usual = 0.0 if spec.null is None else spec.null
        named = len(spec.value.names) == size
        titles = list(spec.value.names) if named else [str(i + 1) for i in range(size)]
        usual = float(np.clip(usual, low, high))
        return {**field, "kind": "numbers", "names": titles, "usual": usual, **bounds}
    return {**field, "kind": "example"}


def settings_of(program: Program) -> list[dict[str, Any]]:
    """Numbers that the program's sampler can be told, each with its usual value."""
    found = []
    for name, title in _SETTINGS.items():
        values = [getattr(part, name) for part in program.sampler.parts() if hasattr(part, name)]
        value = next((v for v in values if isinstance(v, int | float) and not isinstance(v, bool)), None)
        if name in program.sampler.options() and value is not None:
            found.append({"name": name, "title": title, "usual": value, "whole": isinstance(value, int)})
    return found


def asked_of(
    model: Model, program: str, given: Any, n: int, start: int = 0, without: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Inputs by name, a row for each sample, of what a form brings: a class by its number, a text, numbers,
    the number of an example, null for nothing; what it leaves out is as it is by default.

    Raises CallError for what the model cannot be asked.
    """
    if not isinstance(given or {}, Mapping):
        raise CallError(f"what is asked for must be a table, not {given!r:.60}")
    runner = model.runner
    specs = {k: s for k, s in runner.program(program).inputs.items() if k not in without}
    found: dict[str, Any] = {}
    for name, value in (given or {}).items():
        spec = specs.get(name)
        if spec is None:
            raise CallError(f"this model has no condition '{name!s:.60}'")
        kind = field_of(name, spec, runner)["kind"]
        if value is None:
            if spec.null is None:
                raise CallError(f"'{name}' must be asked for something")
            found[name] = np.full(spec.shape, spec.null)
        elif kind == "numbers":
            found[name] = _numbers(name, value, spec)
        elif kind == "example":
            found[name] = _example(model, program, name, value)
        else:
            found[name] = value
    for name, spec in specs.items():
        if name not in found and spec.default(start, 1) is None:
            found[name] = _example(model, program, name, start, n)
    named = Program(runner.program(program).sampler, specs, runner.program(program).output)
    return resolve(specs, asked_by(runner, named, None, found or None), start, n)


def _numbers(name: str, value: Any, spec: ConditionSpec) -> np.ndarray:
    try:
        return np.asarray(value, np.float32).reshape(spec.shape)
    except (ValueError, TypeError):
        raise CallError(f"'{name}' must be {math.prod(spec.shape)} numbers") from None


def _example(model: Model, program: str, name: str, number: Any, n: int = 0) -> np.ndarray:
    """One row, or n rows from it on, in turn."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise CallError(f"'{name}' is the number of an example, 0, 1 …, not {number!r:.40}")
    rows = model.examples(program, 64).get(name)
    if rows is None or not len(rows):
        raise CallError(f"'{name}' must be given, and no examples come with '{model.name}'")
    places = [(number + i) % len(rows) for i in range(n or 1)]
    return np.asarray(rows[places] if n else rows[places[0]])


def words_of(runner: Runner, program: Program, asked: Mapping[str, np.ndarray], i: int) -> str:
    """What sample i was asked to be, in words; empty where that cannot be said."""
    said = []
    for name, rows in asked.items():
        spec, row = program.inputs[name], rows[i]
        if spec.null is not None and bool((row == spec.null).all()):
            continue
        if spec.integer:
            said.append(modality_of(spec.value).say(row, spec.value, runner.files))
    return ", ".join(word for word in said if word)
