"""What pictures show, in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.data import Dataset
from niwaki.data.reading.captions import NOTHING
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.reading import samples_of
from niwaki_runtime.specs import SAMPLE
from niwaki_runtime.tokenizer import FILE, Tokenizer

__all__ = ["Caption", "CaptionUseOptions", "said_rightly"]

PROGRAM = "caption"
_WHOLE = "caption"


class CaptionUseOptions(UseOptions):
    """
    n:     samples of the data, where no files are given
    split: of the data: test, or an extra one such as unseen_pairs
    """

    n: int = Field(500, ge=1)
    split: str = "test"


@register_use("caption")
class Caption(Use):
    """A caption of every picture. Of the data's own pictures it is measured, too: the share of captions that
    are the true one to the word, and by column of labels the share that says the true value."""

    Options = CaptionUseOptions
    summary = "what pictures show, in words"
    example = "runs/told pictures/ -o captions.csv"

    def apply(self, call: Call, options: CaptionUseOptions) -> Outcome:
        program = call.model.programs().get(PROGRAM)
        if program is None or set(program.inputs) != {SAMPLE}:
            raise CallError(
                f"{call.path} has no program '{PROGRAM}' that is given a picture; of a bundle, export it too "
                f"(export.programs=[sample,{PROGRAM}])"
            )
        text = call.model.files.get(FILE)
        if text is None:
            raise CallError("this model ships no tokenizer, so that its captions are no text")
        x, names = samples_of(call, program.inputs[SAMPLE].value, options.split)
        if not call.files:
            x, names = x[: options.n], names[: options.n]
        made = call.model.run(PROGRAM, len(x), seed=call.seed, inputs={SAMPLE: x}, progress=call.progress)
        tokens = np.asarray(call.model.backend().numpy(made))
        tokenizer = Tokenizer(text)
        said = [tokenizer.decode(row[row != NOTHING].tolist()) for row in tokens]
        rows = [{"name": name, "caption": one} for name, one in zip(names, said, strict=True)]
        record: dict[str, object] = {"n": len(x), "rows": rows}
        lines = [f"{row['name']}: {row['caption']}" for row in rows[:10]]
        dataset = None if call.files else call.dataset()
        if dataset is not None:
            shares = said_rightly(tokens, dataset, options.split)
            record["said"] = shares
            lines = [f"{name} said as it is: {share:.1%} of {len(x)}" for name, share in shares.items()]
        return Outcome(record=record, lines=lines, rows=rows, ending=".csv")


def said_rightly(tokens: np.ndarray, dataset: Dataset, split: str = "test") -> dict[str, float]:
    """By column of labels, the share of captions that say the true value, and of those that are the true one
    to the word. What a caption says is what the samples have that the data know by it: a caption that they do
    not know says nothing.

    tokens: captions `(n, T)` of the first samples of the split
    Raises CallError for data without captions of that form.
    """
    column = next(
        (k for k, c in dataset.train.columns.items() if k != SAMPLE and c.spec.shape == tokens.shape[1:]
         and c.spec.is_tokens), None,
    )  # fmt: skip
    if column is None:
        raise CallError(f"the data have no captions of {tokens.shape[1]} tokens")
    labels = [k for k, c in dataset.train.columns.items() if c.spec.is_tokens and not c.spec.shape]
    known: dict[bytes, Mapping[str, int]] = {}
    for part in dataset.splits.values():
        captions = part.columns[column].data.cpu().numpy().astype(np.int64)
        every = {k: part.columns[k].data.cpu().numpy() for k in labels}
        _, first = np.unique(captions, axis=0, return_index=True)
        for i in first.tolist():
            known[captions[i].tobytes()] = {k: int(of[i]) for k, of in every.items()}
    true = dataset.splits[split].columns
    right = true[column].data[: len(tokens)].cpu().numpy().astype(np.int64)
    found = [known.get(row.tobytes(), {}) for row in tokens.astype(np.int64)]
    shares = {}
    for name in labels:
        wanted = true[name].data[: len(tokens)].tolist()
        shares[name] = float(np.mean([one.get(name) == w for one, w in zip(found, wanted, strict=True)]))
    return {**shares, _WHOLE: float((tokens == right).all(1).mean())}
