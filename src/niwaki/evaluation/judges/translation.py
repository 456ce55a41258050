"""Translation between two domains: does it look like the other one, and does it still show the same?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from niwaki.core.contract import CallError, Runner
from niwaki.data import Dataset
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.equivalence.items import Scores, item_verdicts, other_items, planted_margin
from niwaki.evaluation.equivalence.margins import SHARE
from niwaki.evaluation.equivalence.verdict import Axis
from niwaki.evaluation.judges.base import Evidence, Figure, Judge, Margins, Section, Tools, Verdicts
from niwaki.evaluation.judges.domain_classifiers import DomainClassifiers, labels_of
from niwaki.evaluation.judges.exhibits import exhibit
from niwaki.evaluation.judges.registry import register_judge
from niwaki.evaluation.judges.running import (
    first_rows,
    margin_key,
    margins_from_json,
    margins_to_json,
    results,
    where,
)
from niwaki.evaluation.judges.views import answered_column, domains
from niwaki.evaluation.statistics.result import mean_interval, signature, wilson

__all__ = ["PREFIX", "Translation"]

PREFIX = "translate_"
_BACK = "_back"
_SHOWN = 4
_METHOD = "left untranslated; translated as another sample"

FIDELITY = Axis(
    "fidelity",
    "share of translated samples that a classifier takes for the target domain",
    "the share taken for the target domain rose",
    "the share taken for the target domain fell",
    f"leaving {100 * SHARE:.0f} % of the samples untranslated would cost",
    "translated samples are taken for the target domain no more often than the inputs are",
)
DIVERSITY = Axis(
    "diversity",
    "share of translated samples that a classifier reads as the class of their input",
    "the share read as the class of the input rose",
    "the share read as the class of the input fell",
    f"translating {100 * SHARE:.0f} % of the samples as another one would cost",
    "a translation is read as the class of its input no more often than that of another one is",
)


class _Way(NamedTuple):
    """A program and the columns that it leads from and to."""

    program: str
    source: str
    target: str


class _Answers(NamedTuple):
    """Of the translations of one program, each `(n,)`: taken for the target domain; the class that is read,
    the class of the input (None where one of the domains has none)."""

    styled: np.ndarray
    untranslated: np.ndarray
    read: np.ndarray | None
    label: np.ndarray | None

    @property
    def kept(self) -> np.ndarray:
        return np.asarray(self.read == self.label)


@register_judge("translation")
class Translation(Judge):
    """Two classifiers, trained on real training samples of both domains, look at translated test samples.

    It speaks where there is a program `translate_…` that is given one of the columns `x`, `x_b` … and gives
    what another one is. The style classifier tells the domains apart; the content classifier knows the
    classes, where both domains have them (`class`, `class_b`). Where there is a way back, the cycle error is
    the mean |back − x|.
    Fidelity is the share that is taken for the target domain, diversity the share that is still read as the
    class of its input (a translator that makes the same of everything loses it). Margins: what it costs to
    leave 5 % untranslated, and to translate 5 % as another sample.

    evidence: by program the translations `(n, *shape)` float32, and `…_back` `(n,)`, the cycle error
    """

    title = "Translation"
    rank = 35

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self.classifiers = DomainClassifiers(tools)

    @classmethod
    def applies(cls, runner: Runner, dataset: Dataset) -> bool:
        return next(_ways(runner, dataset), None) is not None

    @classmethod
    def may_say(cls, word: str) -> bool:
        return word.startswith(PREFIX)

    def evidence(self, runner: Runner, dataset: Dataset, split: str, n: int, seed: int) -> Evidence:
        rows, arrays = dataset.split(split), {}
        ways = list(_ways(runner, dataset))
        for way in ways:
            m = min(n, len(rows.column(way.source)))
            inputs = make_inputs(runner, way.program, m, rows)
            made = results(runner, way.program, m, seed, inputs, self.tools.on_progress)
            arrays[way.program] = made
            back = next((w for w in ways if (w.source, w.target) == (way.target, way.source)), None)
            if back is not None:
                given = make_inputs(runner, back.program, m, rows) | {back.source: made}
                there = results(runner, back.program, m, seed, given)
                error = np.abs(there.astype(np.float64) - inputs[way.source])
                arrays[way.program + _BACK] = error.reshape(m, -1).mean(1)
        facts = {**where(runner), "ways": [list(way) for way in ways]}
        return Evidence(self.name, split, min(n, len(rows)), seed, arrays, facts)

    def evaluate(self, evidence: Evidence, dataset: Dataset) -> Section:
        style, content = self.classifiers.style(dataset), self.classifiers.content(dataset)
        figures: list[Figure] = []
        details: dict[str, Any] = {}
        exhibits: list[dict[str, Any]] = []
        for way, answers in self._answers(evidence, dataset):
            title = f"{way.program}: "
            figures.append(
                _share(
                    f"{title}share taken for the target domain", answers.styled, "fidelity",
                    style.accuracy.get(evidence.split), "real samples, told rightly",
                )
            )  # fmt: skip
            record: dict[str, Any] = {
                "target": float(answers.styled.mean()),
                "input_taken_for_target": float(answers.untranslated.mean()),
                "n": len(answers.styled),
            }
            if answers.read is not None and content is not None:
                figures.append(
                    _share(
                        f"{title}share read as the class of the input", answers.kept, "diversity",
                        content.accuracy.get(evidence.split), "real samples, read rightly",
                    )
                )  # fmt: skip
                record["same_class"] = float(answers.kept.mean())
                record["misread"] = np.flatnonzero(~answers.kept)[:32].tolist()
            cycle = evidence.arrays.get(way.program + _BACK)
            if cycle is not None:
                figures.append(
                    Figure(f"{title}cycle error", float(cycle.mean()), mean_interval(cycle), "fidelity")
                )
                record["cycle_error"] = float(cycle.mean())
            exhibits += self._shown(evidence, dataset, way)
            record["mistaken"] = np.flatnonzero(~answers.styled)[:32].tolist()
            details[way.program] = {"source": way.source, "target_column": way.target, **record}
        details["exhibits"] = exhibits
        details["classifiers"] = {
            name: None if c is None else {"accuracy": c.accuracy, "fingerprint": c.fingerprint}
            for name, c in (("style", style), ("content", content))
        }
        text = signature(
            "translation", split=evidence.split, n=evidence.n, seed=evidence.seed,
            data=dataset.fingerprint[:12], style=style.fingerprint[:8],
            content=content.fingerprint[:8] if content else None,
        )  # fmt: skip
        notes = () if content else ("Only one domain has classes, so nobody says whether they survive.",)
        return Section(self.name, self.title, tuple(figures), details, notes, text)

    def margins(self, evidence: Evidence, dataset: Dataset, n: int) -> Margins:
        lost: dict[str, list[np.ndarray]] = {"fidelity": [], "diversity": []}
        for _, answers in self._answers(evidence, dataset):
            lost["fidelity"].append(answers.styled.astype(float) - answers.untranslated)
            if answers.read is not None:
                other = answers.read[other_items(len(answers.read), evidence.seed)]
                lost["diversity"].append(answers.kept.astype(float) - (other == answers.label))
        found = {axis: planted_margin(np.concatenate(parts)) for axis, parts in lost.items() if parts}
        return Margins(self.name, margin_key(evidence, dataset, n, _METHOD), margins_to_json(found))

    def compare(self, before: Evidence, after: Evidence, margins: Margins, dataset: Dataset) -> Verdicts:
        sides = [[a for _, a in self._answers(e, dataset)] for e in (before, after)]
        styled = [np.concatenate([a.styled for a in side]).astype(float) for side in sides]
        scores = {"fidelity": Scores(FIDELITY, *styled)}
        if all(a.read is not None for side in sides for a in side):
            kept = [np.concatenate([a.kept for a in side]).astype(float) for side in sides]
            scores["diversity"] = Scores(DIVERSITY, *kept)
        names = [way.program for way in _known(before)]
        axes = item_verdicts(
            scores,
            margins_from_json(margins.axes),
            name=self.name, seed=before.seed,
            identical=all(np.array_equal(before.arrays[k], after.arrays[k]) for k in names),
            signature=signature(
                "paired-translation", n=len(styled[0]), seed=before.seed, share=SHARE,
                data=dataset.fingerprint[:12], margins=margins.key[:8],
            ),
        )  # fmt: skip
        details = {
            axis: {"before": float(s.before.mean()), "after": float(s.after.mean())}
            for axis, s in scores.items()
        }
        moved = [
            np.abs(after.arrays[k].astype(np.float64) - before.arrays[k]).reshape(len(before.arrays[k]), -1)
            for k in names
        ]
        arrays = {"moved": np.concatenate([part.mean(1) for part in moved])}
        return Verdicts(self.name, len(styled[0]), axes, {"shares": details, "paired": True}, arrays)

    def _shown(self, evidence: Evidence, dataset: Dataset, way: _Way) -> list[dict[str, Any]]:
        """The first inputs beside what became of them."""
        made = evidence.arrays[way.program][:_SHOWN]
        given = first_rows(dataset.split(evidence.split), way.source, len(made))
        spec = {name: dataset.spec[name] for name in (way.source, way.target)}
        return [
            exhibit(
                f"{way.program}, test sample {i}",
                [("input", given[i], spec[way.source]), ("translated", made[i], spec[way.target])],
                dataset.files,
            )
            for i in range(len(made))
        ]

    def _answers(self, evidence: Evidence, dataset: Dataset) -> Iterator[tuple[_Way, _Answers]]:
        """What the classifiers say of each program's translations."""
        style, content = self.classifiers.style(dataset), self.classifiers.content(dataset)
        rows, names = dataset.split(evidence.split), domains(dataset)
        for way in _known(evidence):
            made = evidence.arrays[way.program]
            given = first_rows(rows, way.source, len(made))
            target = names.index(way.target)
            taken = [style.probabilities(x).argmax(1) == target for x in (made, given)]
            read = label = None
            if content is not None:
                read = content.probabilities(made).argmax(1)
                label = labels_of(rows, way.source, len(made))
            yield way, _Answers(taken[0], taken[1], read, label)


def _ways(runner: Runner, dataset: Dataset) -> Iterator[_Way]:
    """Programs that lead from one domain to another."""
    for name, program in runner.programs().items():
        sources = [k for k in domains(dataset) if k in program.inputs]
        target = answered_column(program, dataset)
        if name.startswith(PREFIX) and len(sources) == 1 and target and not program.output.is_tokens:
            yield _Way(name, sources[0], target)


def _known(evidence: Evidence) -> list[_Way]:
    ways = [_Way(*map(str, way)) for way in evidence.facts["ways"]]
    if not ways:
        raise CallError("nothing was translated")
    return ways


def _share(name: str, hits: np.ndarray, axis: str, reference: float | None, words: str) -> Figure:
    interval = wilson(float(hits.sum()), len(hits))
    return Figure(name, float(hits.mean()), interval, axis, "higher", reference, words)
