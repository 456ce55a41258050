"""Pictures of what a text says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki_runtime.programs import SAMPLING, Runner
from niwaki_runtime.specs import resolve
from niwaki_runtime.text_conditions import as_tokens

__all__ = ["Draw", "DrawOptions"]


class DrawOptions(UseOptions):
    """
    n:        pictures of each caption
    guidance: how strongly the caption is followed; 0 for the sampler's own number
    steps:    of the sampler; 0 for its own number
    """

    n: int = Field(1, ge=1)
    guidance: float = Field(0.0, ge=0)
    steps: int = Field(0, ge=0)


@register_use("draw")
class Draw(Use):
    """Samples of a model that is asked by texts. What names a file holds captions, one on each line; all else
    is a caption."""

    Options = DrawOptions
    summary = "pictures of what a text says"
    edits = False
    example = 'runs/pages-text "a bold red A" -o a.png'

    def apply(self, call: Call, options: DrawOptions) -> Outcome:
        name = _caption(call.model)
        captions = _captions(call.words, call.local)
        n = len(captions) * options.n
        texts = [caption for caption in captions for _ in range(options.n)]
        inputs = call.model.program(SAMPLING).inputs
        tokens = as_tokens(call.model, inputs[name], texts)
        if isinstance(tokens, list):
            raise CallError(
                "this model ships no tokenizer, so that it cannot read a text; give tokens to `niwaki sample`"
            )
        rows = resolve(inputs, {**_others(call, name), name: tokens}, 0, n)
        asked: dict[str, Any] = {"guidance": options.guidance, "steps": options.steps}
        x = call.model.run(
            SAMPLING, n, seed=call.seed, inputs=rows, progress=call.progress,
            **{k: v for k, v in asked.items() if v},
        )  # fmt: skip
        return Outcome(
            record={"n": n, "captions": captions},
            lines=[f"{_counted(n, 'picture')} of {_counted(len(captions), 'caption')}"],
            x=np.asarray(call.model.backend().numpy(x)),
            spec=call.model.program(SAMPLING).output,
            names=[f"{text.replace('/', ' ').replace('.', ' ')}.png" for text in texts],
            columns=options.n if options.n > 1 else 0,
            ending=".png",
        )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _caption(runner: Runner) -> str:
    """The name of the input that is a text. Raises CallError where none is, or several are."""
    program = runner.program(SAMPLING)
    if program.output.axes != "CHW":
        raise CallError(f"'draw' is for models of pictures, and this one makes {program.output.modality}")
    texts = [k for k, spec in program.inputs.items() if spec.integer and spec.value.axes == "T"]
    if len(texts) != 1:
        asked = ", ".join(program.inputs) or "nothing"
        raise CallError(f"'draw' needs a model that is asked by a text, and this one is asked by {asked}")
    return texts[0]


def _captions(words: Any, local: bool) -> list[str]:
    found: list[str] = []
    for word in words:
        file = Path(word)
        if local and len(word) < 256 and file.is_file():
            try:
                lines = file.read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise CallError(f"{file} cannot be read as captions: it is no UTF-8 text") from error
            found += [line.strip() for line in lines if line.strip()]
        elif word.strip():
            found.append(word.strip())
    if not found:
        raise CallError(
            'say what is to be drawn, as "a bold red A", or name a file with a caption on each line'
        )
    return found


def _others(call: Call, caption: str) -> Mapping[str, Any]:
    """What is asked beside the caption."""
    if call.asked is None:
        return {}
    if isinstance(call.asked, Mapping):
        return call.asked
    others = [k for k in call.model.program(SAMPLING).inputs if k != caption]
    if len(others) != 1:
        raise CallError("say by name what is asked beside the caption, as --condition class=3")
    return {others[0]: call.asked}
