"""Pairs of JSON lines: `{"chosen": …, "rejected": …}`, with conditions by name beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.array_files import read_array_file
from niwaki.core.contract import DataSpec, GenerativeModel, ValueSpec
from niwaki.data.reading.pictures import read_picture
from niwaki_runtime.errors import CallError, NiwakiError
from niwaki_runtime.specs import Tokens
from niwaki_runtime.tokenizer import FILE, Tokenizer

__all__ = ["read_pairs"]

SIDES = "chosen", "rejected"


def read_pairs(
    path: Path, reference: GenerativeModel, spec: DataSpec
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Chosen and rejected samples `(n, *shape)` and what they were asked for, as the model sees them.

    A sample is a text or a list of tokens (`prompt`, where there is one, stands before both), the path of a
    picture or of an array (`.npy`, as the model sees samples) beside the file, or a whole number: the seed
    that the reference makes it from.
    Raises NiwakiError where there is no such file, CallError for a line that is no pair.
    """
    if not path.is_file():
        raise NiwakiError(f"train.prefer.pairs: there is no file {path}")
    found: dict[str, list[Tensor]] = {side: [] for side in SIDES}
    asked: dict[str, list[Tensor]] = {}
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not text.strip():
            continue
        where = f"{path}, line {number}"
        line = _line(text, where)
        given = {
            name: _condition(line[name], spec[name], f"{where}, '{name}'")
            for name in reference.conditions
            if name in line and name in spec
        }
        if (asked and asked.keys() != given.keys()) or (any(found.values()) and not asked and given):
            raise CallError(f"{where} names other conditions than the lines before it")
        for name, value in given.items():
            asked.setdefault(name, []).append(value)
        for side in SIDES:
            found[side].append(_sample(line, side, given, reference, spec.x, path.parent, where))
    if not found[SIDES[0]]:
        raise CallError(f"train.prefer.pairs: {path} holds no pairs")
    both = [torch.stack(found[side]) for side in SIDES]
    return both[0], both[1], {name: torch.stack(values) for name, values in asked.items()}


def _line(text: str, where: str) -> Mapping[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        raise CallError(f"{where} is no JSON") from None
    if not isinstance(line, Mapping) or any(side not in line for side in SIDES):
        raise CallError(f"{where} must be an object with 'chosen' and 'rejected'")
    return line


def _condition(value: Any, spec: ValueSpec, where: str) -> Tensor:
    try:
        found = torch.as_tensor(np.asarray(value, dtype=spec.dtype))
    except (ValueError, TypeError):
        raise CallError(f"{where} must be a number or numbers of shape {spec.shape}") from None
    if tuple(found.shape) != tuple(spec.shape) or (
        spec.is_tokens and bool(((found < 0) | (found >= spec.levels)).any())
    ):
        raise CallError(f"{where} is not among the values of that column, {value!r:.60}")
    return found


def _sample(
    line: Mapping[str, Any],
    side: str,
    asked: Mapping[str, Tensor],
    reference: GenerativeModel,
    spec: ValueSpec,
    folder: Path,
    where: str,
) -> Tensor:
    value = line[side]
    if isinstance(value, int) and not isinstance(value, bool):
        inputs = {name: one[None] for name, one in asked.items()}
        made: Tensor = reference.run("sample", 1, seed=value, inputs=inputs or None)[0].cpu()
        return made
    read: Callable[..., Tensor] = _tokens if spec.is_tokens and spec.axes == "T" else _picture
    if isinstance(value, str) and value.endswith(".npy") and read is _picture:
        read = _array
    prompt = line.get("prompt", "") if read is _tokens else ""
    return read(value, spec, where=f"{where}, '{side}'", folder=folder, prompt=prompt, model=reference)


def _tokens(
    value: Any, spec: ValueSpec, *, where: str, prompt: Any, model: GenerativeModel, folder: Path
) -> Tensor:
    """The tokens of a prompt and what follows it, filled up with the token that ends samples."""
    tokenizer = Tokenizer(model.files[FILE]) if FILE in model.files else None

    def cut(said: Any) -> list[int]:
        if isinstance(said, str) and tokenizer is not None:
            return tokenizer.encode(said)
        if isinstance(said, list) and all(isinstance(t, int) and 0 <= t < spec.levels for t in said):
            return said
        need = f"a text or a list of tokens 0 … {spec.levels - 1}" if tokenizer else "a list of tokens"
        raise CallError(f"{where} must be {need}, not {said!r:.60}")

    tokens, most = [*(cut(prompt) if prompt else ()), *cut(value)], spec.shape[0]
    end = spec.values.end if isinstance(spec.values, Tokens) else None
    if len(tokens) > most or (end is None and len(tokens) < most):
        raise CallError(f"{where} has {len(tokens)} tokens with its prompt; this model's samples have {most}")
    return torch.tensor(tokens + [end or 0] * (most - len(tokens)))


def _array(
    value: str, spec: ValueSpec, *, where: str, prompt: Any, model: GenerativeModel, folder: Path
) -> Tensor:
    """One sample of any modality."""
    x = read_array_file(folder / value, called=f"{where}: {value}").get("x")
    if x is None:
        raise CallError(f"{where}: {value} holds no array 'x'")
    if x.shape != tuple(spec.shape) or x.dtype.kind not in "iuf" or not np.isfinite(x).all():
        raise CallError(f"{where}: {value} must hold finite numbers of shape {spec.shape}, not {x.shape}")
    return torch.from_numpy(np.ascontiguousarray(x, dtype=spec.dtype))


def _picture(
    value: Any, spec: ValueSpec, *, where: str, prompt: Any, model: GenerativeModel, folder: Path
) -> Tensor:
    if spec.axes != "CHW" or spec.shape[1] != spec.shape[2] or not isinstance(value, str):
        raise CallError(
            f"{where} must be the seed of a sample, a whole number, the path of a square picture or an .npy"
        )
    pixels, reason = read_picture(folder / value, spec.shape[1], spec.shape[0], 0)
    if pixels is None:
        raise CallError(f"{where}: {value} cannot be read: {reason}")
    return torch.from_numpy(spec.low + (spec.high - spec.low) * pixels.astype(np.float32) / 255.0)
