"""Clips of any length: what comes next, and next again, each time after the last frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.data.inputs import make_inputs, with_defaults
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki_runtime.programs import SAMPLING, Runner
from niwaki_runtime.specs import resolve

__all__ = ["Extend", "ExtendOptions"]

_CONTINUE, _PAST = "continue", "past"


class ExtendOptions(UseOptions):
    """
    frames: of each clip in all
    n:      clips
    """

    frames: int = Field(32, ge=1, le=10_000)
    n: int = Field(8, ge=1)


@register_use("extend")
class Extend(Use):
    """Begins with samples, and continues them by the program `continue`, whose past are the last frames that
    are there (a sliding window), until each clip has so many frames. Where samples need a past themselves,
    those of the test split begin the clips."""

    Options = ExtendOptions
    summary = "clips of any length, by continuing from their last frames"
    example = "runs/moving-digits-tokens frames=40 n=6 --class 3 -o long.gif"

    def apply(self, call: Call, options: ExtendOptions) -> Outcome:
        model, n = call.model, options.n
        past, made = _check(model, self.name)
        known = _given(call, n)
        clips = _run(call, SAMPLING, n, 0, known)
        window = 0
        while clips.shape[1] < options.frames:
            window += 1
            later = _run(call, _CONTINUE, n, window, {**known, _PAST: clips[:, -past:]})
            clips = np.concatenate([clips, later], 1)
        clips = clips[:, : options.frames]
        spec = replace(model.program(SAMPLING).output, shape=tuple(clips.shape[1:]))
        return Outcome(
            record={"n": n, "frames": options.frames, "windows": window + 1},
            lines=[f"{n} clips of {options.frames} frames, made {made} at a time after {past}"],
            x=clips,
            spec=spec,
            ending=".gif",
        )


def _check(model: Runner, use: str) -> tuple[int, int]:
    """How many frames the model is given, and how many it then makes. Raises CallError where it cannot go on
    from its own samples."""
    program = model.programs().get(_CONTINUE)
    given = None if program is None else program.inputs.get(_PAST)
    if program is None or given is None or program.output.axes != "TCHW":
        raise CallError(
            f"'{use}' needs a program '{_CONTINUE}' that is given the frames before a clip, and this model "
            "has none; train it on data with a past (data.past)"
        )
    past, made = given.shape[0], program.output.shape[0]
    if made < past:
        raise CallError(f"this model makes {made} frames after {past}: too few to go on from")
    return past, made


def _given(call: Call, n: int) -> dict[str, np.ndarray]:
    """What all windows are asked for, and the past of the first one where samples need one."""
    specs = call.model.program(SAMPLING).inputs
    asked: Any = call.asked
    if asked is not None and not isinstance(asked, dict):
        labels = [name for name, spec in specs.items() if spec.is_label]
        if len(labels) != 1:
            raise CallError("say by name what is asked for, as this model has not exactly one label")
        asked = {labels[0]: asked}
    known = dict(asked or {})
    if _PAST in specs and _PAST not in known and not with_defaults(specs[_PAST]):
        dataset = call.dataset()
        if dataset is None:
            raise CallError("this model begins no clip by itself; name the data that its past comes from")
        found = make_inputs(call.model, SAMPLING, n, dataset.test)
        known = {**found, **known}
    known = {k: _in_turn(v, n) for k, v in known.items()}
    return resolve(specs, known, 0, n)


def _in_turn(value: Any, n: int) -> Any:
    return [value[i % len(value)] for i in range(n)] if isinstance(value, list | tuple) and value else value


def _run(call: Call, program: str, n: int, window: int, known: dict[str, np.ndarray]) -> np.ndarray:
    """One window of all clips; each window has noise of its own."""
    inputs = {k: v for k, v in known.items() if k in call.model.program(program).inputs}
    made = call.model.run(program, n, seed=call.seed + window, inputs=inputs, progress=call.progress)
    return np.asarray(call.model.backend().numpy(made))
