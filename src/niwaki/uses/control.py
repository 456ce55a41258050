"""Pictures that keep the edges (or whatever leads the model) of others, made as they are asked to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.data.derived import derivation_names, find_derivation
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.statistics.result import mean_interval
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.latents import in_turn
from niwaki.uses.reading import read_samples
from niwaki.uses.truth import side_by_side
from niwaki_runtime.programs import SAMPLING, Program
from niwaki_runtime.specs import SAMPLE, ValueSpec, resolve
from niwaki_runtime.text_conditions import as_tokens

__all__ = ["Control", "ControlOptions", "correlations"]


class ControlOptions(UseOptions):
    """
    given:    what the files are: pictures, whose control picture is computed from them (their edges), or
              control pictures themselves, light where there is an edge
    each:     pictures made of every given one
    n:        test samples, where no files are given
    guidance: how strongly the class or the caption is followed; 0 for the sampler's own number
    steps:    of the sampler; 0 for its own number
    """

    given: Literal["pictures", "control"] = "pictures"
    each: int = Field(1, ge=1)
    n: int = Field(64, ge=1)
    guidance: float = Field(0.0, ge=0)
    steps: int = Field(0, ge=0)


@register_use("control")
class Control(Use):
    """Samples of a model that is led by a picture (`controlnet`). What else it is asked for is said by
    `--condition`, and of test samples it is theirs.

    What came out is measured where the control picture can be computed from it: its correlation with the one
    that was asked for, and for comparison with those of other rows.
    """

    Options = ControlOptions
    summary = "pictures with the edges of given ones, made as asked"
    example = 'runs/pages-controlnet letter.png -c caption="a red A" -o red.png'

    def apply(self, call: Call, options: ControlOptions) -> Outcome:
        program = call.model.program(SAMPLING)
        name = _control_input(program)
        control, rest, names = _given(call, program, name, options)
        control = control.repeat(options.each, 0)
        n = len(control)
        rows = resolve(program.inputs, {**_asked(call, program, name, rest, n), name: control}, 0, n)
        settings: dict[str, Any] = {"guidance": options.guidance, "steps": options.steps}
        made = call.model.run(
            SAMPLING, n, seed=call.seed, inputs=rows, progress=call.progress,
            **{k: v for k, v in settings.items() if v},
        )  # fmt: skip
        x = np.asarray(call.model.backend().numpy(made))
        record: dict[str, Any] = {"n": n, "control": name}
        lines = [f"{n} pictures led by {name}"]
        measured = _obeyed(name, x, control, options.each, program.output)
        if measured:
            record["measured"] = measured
            lines += [f"{k}: correlation {v['correlation']:.3f}" for k, v in measured.items()]
        sheet, width = side_by_side(_shown(control, program.inputs[name].value, program.output), x)
        return Outcome(
            record=record, lines=lines, x=x, spec=program.output,
            names=[one for one in names for _ in range(options.each)], sheet=sheet, columns=width,
            ending=".png",
        )  # fmt: skip


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row of `a` and `b` `(n, …)` over all its values `(n,)`; 0 where one of
    them is the same everywhere."""
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (a, b))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.asarray(np.where(size > 0, (a * b).sum(1) / np.where(size > 0, size, 1.0), 0.0))


def _control_input(program: Program) -> str:
    """The input that leads. Raises CallError where none does, or several do."""
    if program.output.axes != "CHW":
        raise CallError(f"'control' is for models of pictures, and this one makes {program.output.modality}")
    pictures = [
        k for k, v in program.inputs.items() if k != SAMPLE and v.value.axes == "CHW" and not v.integer
    ]
    if len(pictures) != 1:
        asked = ", ".join(program.inputs) or "nothing"
        raise CallError(
            f"'control' needs a model that is led by a picture (controlnet), and this one is asked by {asked}"
        )
    return pictures[0]


def _given(
    call: Call, program: Program, name: str, options: ControlOptions
) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """Control pictures, what the data ask for beside them, and names."""
    wanted = program.inputs[name].value
    if call.files and options.given == "control":
        found, names = read_samples(call.files, wanted)
        return _levelled(found, wanted), {}, names
    if call.files:
        x, names = read_samples(call.files, program.output)
        return _derived(name, x, program.output), {}, names
    dataset = call.dataset()
    if dataset is None:
        raise CallError("name the files to work on; this subject has no data of its own")
    n = min(options.n, len(dataset.test))
    rows = make_inputs(call.model, SAMPLING, n, dataset.test)
    return rows.pop(name), rows, [f"test {i}" for i in range(n)]


def _levelled(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """The nearest level to each value, where there are levels: grey between an edge and none is none."""
    step = getattr(spec.values, "step", 0.0)
    return (np.rint((x - spec.low) / step) * step + spec.low).astype(np.float32) if step else x


def _derived(name: str, x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """Raises CallError where nobody knows how such a control picture is computed."""
    if name not in derivation_names():
        raise CallError(
            f"'{name}' cannot be computed from pictures; give such pictures themselves, with given=control"
        )
    return find_derivation(name)(torch.from_numpy(x), spec).values().numpy()


def _asked(call: Call, program: Program, name: str, rest: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """What is asked beside the control picture: as the call says, else as the data do, else nothing."""
    inputs = {k: spec for k, spec in program.inputs.items() if k != name}
    said = call.asked
    if said is not None and not isinstance(said, Mapping):
        if len(inputs) != 1:
            others = ", ".join(inputs) or "nothing"
            raise CallError(f"say by name what is asked beside '{name}', which is one of: {others}")
        said = {next(iter(inputs)): said}
    known: dict[str, Any] = {
        k: np.full((n, *spec.shape), spec.null, spec.value.dtype)
        for k, spec in inputs.items()
        if spec.null is not None
    }
    known |= {k: np.resize(rows.repeat(n // len(rows), 0), (n, *rows.shape[1:])) for k, rows in rest.items()}
    for k, value in (said or {}).items():
        known[k] = as_tokens(call.model, inputs.get(k), in_turn(value, n))
    return known


def _obeyed(
    name: str, x: np.ndarray, control: np.ndarray, each: int, spec: ValueSpec
) -> dict[str, dict[str, Any]]:
    """How far what leads, computed from what was made, is what was asked for; and what another row asked for.

    {} where it cannot be computed.
    """
    if name not in derivation_names():
        return {}
    found = _derived(name, x, spec)
    pairs = {"as asked": control}
    if len(control) > each:
        pairs["as others were asked"] = np.roll(control, each, 0)
    measured: dict[str, dict[str, Any]] = {}
    for words, wanted in pairs.items():
        each_one = correlations(found, wanted)
        measured[words] = {"correlation": float(each_one.mean())}
        if len(each_one) > 1:
            measured[words]["interval"] = [float(end) for end in mean_interval(each_one)]
    return measured


def _shown(control: np.ndarray, spec: ValueSpec, output: ValueSpec) -> np.ndarray:
    """Control pictures beside samples in a sheet: in their range, grey where samples have colours."""
    shown = (control - spec.low) / (spec.high - spec.low) * (output.high - output.low) + output.low
    channels, height, width = output.shape
    if shown.shape[1] != channels:
        shown = np.repeat(shown.mean(1, keepdims=True), channels, 1)
    up = height // shown.shape[2]
    return np.asarray(shown.repeat(max(up, 1), 2).repeat(max(up, 1), 3)[:, :, :height, :width], np.float32)
