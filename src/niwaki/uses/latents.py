"""From samples to latents and back, through a model's `encode` and `decode`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from niwaki.core.errors import CallError
from niwaki.data.dataset import Split
from niwaki.uses.base import Call
from niwaki_runtime.programs import Runner
from niwaki_runtime.specs import resolve
from niwaki_runtime.text_conditions import as_tokens

__all__ = ["check_latents", "conditions_of", "decode", "encode", "in_turn", "labels_of"]


def check_latents(runner: Runner, use: str) -> None:
    """Raises CallError where the model has no latents, or a bundle was exported without the programs."""
    missing = [name for name in ("encode", "decode") if name not in runner.programs()]
    if missing:
        raise CallError(
            f"'{use}' needs the programs encode and decode, and this model lacks {' and '.join(missing)}; "
            "of a bundle, export them with it (export.programs=[sample,encode,decode])"
        )


def conditions_of(
    call: Call, program: str, n: int, given: Collection[str] = ("x", "z"), asked: Any = None
) -> dict[str, np.ndarray]:
    """What samples are asked to be, one row each, for a program that works on given ones.

    given: names of the inputs that are no such conditions
    asked: what to ask instead of what the call says
    Raises CallError where the model is conditioned and nothing is said: the class of a given sample is not
    for niwaki to choose.
    """
    specs = {k: s for k, s in call.model.program(program).inputs.items() if k not in given}
    if not specs:
        return {}
    asked = call.asked if asked is None else asked
    if asked is None:
        names = ", ".join(f"--class {k}=…" if len(specs) > 1 else "--class" for k in specs)
        raise CallError(f"this model is conditioned: say what the given samples are, with {names}")
    if not isinstance(asked, dict) and len(specs) == 1:
        asked = {next(iter(specs)): asked}
    if isinstance(asked, dict):
        asked = {k: as_tokens(call.model, specs.get(k), v) for k, v in in_turn(asked, n).items()}
    return resolve(specs, asked, 0, n)


def encode(call: Call, x: np.ndarray, asked: dict[str, np.ndarray]) -> np.ndarray:
    """Latents `(n, *shape)` of samples."""
    made = call.model.run("encode", len(x), inputs={"x": x, **asked})
    return np.asarray(call.model.backend().numpy(made))


def decode(call: Call, z: np.ndarray, asked: dict[str, np.ndarray]) -> np.ndarray:
    """Samples `(n, *shape)` of latents."""
    name = next(k for k in call.model.program("decode").inputs if k not in asked)
    made = call.model.run("decode", len(z), inputs={name: z, **asked}, progress=call.progress)
    return np.asarray(call.model.backend().numpy(made))


def in_turn(value: Any, n: int) -> Any:
    """Several values: one for each sample, in turn; a mapping's each by itself."""
    if isinstance(value, dict):
        return {k: in_turn(v, n) for k, v in value.items()}
    if isinstance(value, list | tuple) and value:
        return [value[i % len(value)] for i in range(n)]
    return value


def labels_of(split: Split) -> dict[str, np.ndarray]:
    """The classes that the data themselves give, by the names of columns."""
    return {
        name: column.values().cpu().numpy()
        for name, column in split.columns.items()
        if column.paired and column.spec.is_tokens and column.spec.shape == ()
    }
