"""The verdict rehearsed: the judges of the final one, on data that it never sees.

What is judged by are validation samples, filled up with training ones where there are few; the test split is
left out of the data set that judges are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from niwaki.compression.sample_error import reference_samples
from niwaki.compression.search.rejection import EarlyTest
from niwaki.core.contract import CallError, GenerativeModel, NiwakiError, Runner
from niwaki.data import Dataset, Split
from niwaki.data.inputs import split_inputs
from niwaki.evaluation.equivalence.margins import Margin
from niwaki.evaluation.equivalence.verdict import Verdict
from niwaki.evaluation.judges import Blocks, Evidence, Judge, Margins, Verdicts
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.judging import AXES, headline
from niwaki.workflow.reporter import Quiet

__all__ = ["CHECKED", "Loss", "Rehearsal", "rehearsed"]

CHECKED = 32
"""Samples of the model that those of steps are compared with, where they are cheap."""
_BLOCK, _FEWEST = 100, 4
"""Samples of a block; blocks before which an early test decides nothing."""
_REAL = 360
"""Rows that are judged by at least, where there are so many: fewer leave the diversity of most plans open."""


@dataclass(frozen=True)
class Loss:
    """What one axis lost, in margins: 1 is as much as a verdict lets pass.

    interval: 95 % of it
    outcome:  as a verdict says it
    needed:   samples that would settle it; None where it is settled, or where more would not
    """

    value: float
    interval: tuple[float, float]
    outcome: str = ""
    needed: int | None = None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Loss:
        low, high = record["interval"]
        return cls(
            float(record["value"]), (float(low), float(high)), str(record["outcome"]), record.get("needed")
        )


def _calibrated(verdict: Verdict) -> bool:
    """Whether its margin is certainly above 0 (`niwaki.evaluation.equivalence.margins.Margin`)."""
    return Margin(verdict.margin, verdict.margin_noise).calibrated


def _in_margins(verdict: Verdict) -> Loss:
    """In margins; 0 where there is none, which is no proof: the outcome says so."""
    scale = 1.0 / verdict.margin if verdict.margin > 0 else 0.0
    low, high = (float(end) * scale for end in verdict.interval)
    return Loss(float(verdict.delta) * scale, (low, high), verdict.outcome, verdict.n_needed)


def _at_all_times(test: EarlyTest) -> dict[str, Loss]:
    """What an early test has found. An axis that the decision is not about stays open."""
    out = {}
    for axis, (low, high) in test.bounds().items():
        outcome = "no loss" if high < test.limit else "loss" if low > test.limit else "inconclusive"
        out[axis] = Loss(float(test.values[axis].mean()), (low, high), outcome)
    return out


def rehearsed(dataset: Dataset) -> Dataset:
    """The same training split, validation samples where test samples were, and in their place the last ones
    of training."""
    train, known = dataset.train, dataset.validation
    lacking = max(0, _REAL - len(known))
    many = min(max(len(known), _REAL), len(train) // 4)
    if 2 * len(train) > 3 * (lacking + many):
        at = len(train) - lacking - many
        test = known if not lacking else _joined(known, _rows(train, at, lacking))
        validation = _rows(train, at + lacking, many)
    else:
        test, validation = known, known
    fingerprint = f"{dataset.fingerprint}-rehearsed-{len(test)}-{len(validation)}"  # features are kept by it
    return replace(dataset, validation=validation, test=test, extra={}, fingerprint=fingerprint)


def _rows(split: Split, begin: int, many: int) -> Split:
    return split.select(torch.arange(begin, begin + many, device=split.x.device))


def _joined(first: Split, second: Split) -> Split:
    columns = {
        name: replace(c, data=torch.cat([c.data, second.columns[name].data])) if c.paired else c
        for name, c in first.columns.items()
    }
    attributes = {k: torch.cat([v, second.attributes[k]]) for k, v in first.attributes.items()}
    return Split(columns, attributes)


class Rehearsal:
    """The model before, as its judges see it, and what others lose against it.

    n:    samples (or windows) that a loss is measured on
    seed: of them, apart from the final verdict's
    checked: samples of the model that those of every step of a plan are compared with
    said: the last verdicts by axis, as records: about as long as the final ones
    unmeasured: axes of the last ones that have no margin: nothing can prove that nothing is lost on them
    particulars: of the last ones, of the judge that speaks first: classes, modes, the most damaged pairs
    Raises NiwakiError where no judge can tell a loss.
    """

    def __init__(
        self, context: EvaluationContext, before: Runner, *, n: int, seed: int, checked: int = CHECKED
    ) -> None:
        self.dataset, self.before, self.n, self.seed = rehearsed(context.dataset), before, n, seed
        self.checked = checked
        self._context = EvaluationContext(
            self.dataset, context.config, seed=context.seed, cache=context.cache, reporter=Quiet()
        )
        self._context.extractors = context.extractors
        self._context.dataset = self.dataset
        self._train = context.dataset.train
        self._context.tools.axes_alone = True
        self.said: dict[str, Any] = {}
        self.particulars: Mapping[str, Any] = {}
        self.unmeasured: tuple[str, ...] = ()
        self._evidence: dict[tuple[str, int, int], Evidence] = {}
        self._margins: dict[tuple[str, int, int], Margins] = {}

    @cached_property
    def reference(self) -> np.ndarray:
        """Samples of the model, which those of every step of a plan are compared with."""
        assert isinstance(self.before, GenerativeModel)
        return reference_samples(self.before, split_inputs(self.before, self._train), self.checked)

    @cached_property
    def judges(self) -> list[Judge]:
        """Those that speak, the first of each axis decides."""
        found = self._context.judges(self.before)
        if not found:
            raise NiwakiError("no judge has anything to say of this model on these data")
        return found

    def losses(
        self,
        runner: Runner,
        *,
        n: int | None = None,
        seed: int | None = None,
        after: Evidence | None = None,
    ) -> dict[str, Loss]:
        """By axis, in margins.

        after: what the judge that speaks first has asked of it, where that is known
        Raises NiwakiError where the model's samples cannot be judged.
        """
        n, seed = n or self.n, self.seed if seed is None else seed
        out: dict[str, Loss] = {}
        verdicts: list[Verdicts] = []
        unmeasured: list[str] = []
        silent = ""
        for judge in self.judges:
            try:
                before, margins = self._known(judge, n, seed)
            except CallError as error:  # left out, as of a verdict; a candidate's own errors are raised
                silent = silent or str(error)
                continue
            if runner is self.before:
                after = before
            elif after is None or after.judge != judge.name:
                after = judge.evidence(runner, self.dataset, "test", n, seed)
            found = judge.compare(before, after, margins, self.dataset)
            verdicts.append(found)
            for axis, verdict in found.axes.items():
                if axis not in out:
                    out[axis] = _in_margins(verdict)
                    if not _calibrated(verdict):
                        unmeasured.append(axis)
            if all(axis in out for axis in AXES):
                break
        if not out:
            raise NiwakiError(f"nothing can be judged: {silent or 'no judge has a say on either axis'}")
        self.said, self.particulars = headline(verdicts), verdicts[0].details
        self.unmeasured = tuple(unmeasured)
        return out

    def losses_of(
        self, runner: Runner, *, n: int | None = None, blocks: bool = False
    ) -> tuple[dict[str, Loss], int]:
        """The same, and how many samples they rest on.

        blocks: drawn in blocks until an early test is decided: then the interval is that of its bounds, which
                hold whenever one looks. Where it does not decide, all are drawn and tested as a verdict
                tests; so they are where the judge needs them all.
        """
        n = n or self.n
        drawing = self._drawing(runner, n) if blocks and n > _BLOCK * _FEWEST else None
        if drawing is None:
            return self.losses(runner, n=n), n
        test = EarlyTest()
        while drawing.drawn < n:
            drawing.draw(min(_BLOCK, n - drawing.drawn))
            values = drawing.values()
            if values is not None and test.look(*values) != "go on":
                return _at_all_times(test), drawing.drawn
        return self.losses(runner, n=n, after=drawing.evidence()), n

    def _drawing(self, runner: Runner, n: int) -> Blocks | None:
        judge = self.judges[0]
        try:
            before, margins = self._known(judge, n, self.seed)
        except CallError:
            return None
        return judge.in_blocks(runner, before, margins, self.dataset)

    def _known(self, judge: Judge, n: int, seed: int) -> tuple[Evidence, Margins]:
        key = (judge.name, n, seed)
        if key not in self._evidence:
            made = judge.evidence(self.before, self.dataset, "test", n, seed)
            base = made
            if judge.calibrates != "test":
                base = judge.evidence(self.before, self.dataset, judge.calibrates, n, seed)
            self._evidence[key], self._margins[key] = made, judge.margins(base, self.dataset, made.n)
        return self._evidence[key], self._margins[key]
