"""Pictures of one domain as those of the other, by a model that translates."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.reading import read_samples
from niwaki.uses.reconstruct import psnr
from niwaki.uses.truth import side_by_side
from niwaki_runtime.programs import Runner
from niwaki_runtime.specs import ValueSpec

__all__ = ["Translate", "TranslateOptions"]

_PROGRAMS = {"ab": "translate_ab", "ba": "translate_ba"}


class TranslateOptions(UseOptions):
    """
    to: b, the second domain, or a, back to the first
    n:  test samples, where no files are given
    """

    to: Literal["a", "b"] = "b"
    n: int = Field(64, ge=1)


@register_use("translate")
class Translate(Use):
    """Runs the program `translate_ab` or `translate_ba`, and where the model has both, back again: how much
    of each picture survives the round trip (pairs, which would be a truth, are not needed)."""

    Options = TranslateOptions
    summary = "pictures of one domain as those of another"
    example = "runs/glyphs-cyclegan letters/ to=b -o bold/"

    def apply(self, call: Call, options: TranslateOptions) -> Outcome:
        there, back = ("ab", "ba") if options.to == "b" else ("ba", "ab")
        program = _program(call.model, there)
        if program is None:
            raise CallError(
                f"'translate' needs the program '{_PROGRAMS[there]}', as CycleGAN has it, and this model "
                "lacks it; of a bundle, export it too (export.programs=[sample,translate_ab,translate_ba])"
            )
        name, source, spec = program
        x, names = _given(call, name, source, options.n)
        made = _run(call, _PROGRAMS[there], name, x)
        record: dict[str, Any] = {"n": len(x), "to": options.to}
        lines = [f"{len(x)} pictures to domain {options.to}"]
        columns, again = [x, made], _program(call.model, back)
        if again is not None:
            returned = _run(call, _PROGRAMS[back], again[0], made)
            ratio = np.minimum(psnr(x, returned, source.high - source.low), 100.0)
            record["round_trip_psnr"] = float(ratio.mean())
            lines.append(f"there and back: {ratio.mean():.2f} dB")
            columns.append(returned)
        together = len({one.shape[1:] for one in columns}) == 1
        sheet, width = side_by_side(*columns) if together else (None, 0)
        return Outcome(
            record=record, lines=lines, x=made, spec=spec, names=names, sheet=sheet, columns=width,
            ending=".png",
        )  # fmt: skip


def _program(runner: Runner, way: str) -> tuple[str, ValueSpec, ValueSpec] | None:
    """The name of its input, what that is, and what comes out; None where the model does not go that way."""
    found = runner.programs().get(_PROGRAMS[way])
    if found is None:
        return None
    (name, given), *more = found.inputs.items()
    if more:
        raise CallError(f"the program '{_PROGRAMS[way]}' is given more than a picture: use `niwaki sample`")
    return name, given.value, found.output


def _given(call: Call, name: str, source: ValueSpec, n: int) -> tuple[np.ndarray, list[str]]:
    """The files, or the first n rows of the test split's column of that name."""
    if call.files:
        return read_samples(call.files, source)
    dataset = call.dataset()
    if dataset is None:
        raise CallError("name the pictures to translate; this subject has no data of its own")
    column = dataset.test.column(name)
    if column.spec.shape != source.shape:
        raise CallError(f"the data hold {column.spec.shape}, and the model wants {source.shape}")
    x = column.values().cpu().numpy()[:n]
    return x, [f"test {i}" for i in range(len(x))]


def _run(call: Call, program: str, name: str, x: np.ndarray) -> np.ndarray:
    made = call.model.run(program, len(x), seed=call.seed, inputs={name: x}, progress=call.progress)
    return np.asarray(call.model.backend().numpy(made))
