"""Samples: what networks see of them, beside real ones; before against after by pairs of the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import CallError, Program, Runner
from niwaki.core.store import jsonable
from niwaki.data import Dataset
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.equivalence.calibration import Calibration, calibrated, calibration_key
from niwaki.evaluation.equivalence.compare import compare
from niwaki.evaluation.equivalence.margins import real_size
from niwaki.evaluation.equivalence.verdict import Verdict
from niwaki.evaluation.evaluate import Evaluation, evaluate
from niwaki.evaluation.extractor_checks.unfit import hint_alone, unfit_alone
from niwaki.evaluation.judges.base import Blocks, Evidence, Figure, Judge, Margins, Section, Verdicts
from niwaki.evaluation.judges.findings import findings, fitness
from niwaki.evaluation.judges.paired_blocks import SAMPLES, PairedBlocks, view_of
from niwaki.evaluation.judges.read_back import EXTRA, read_back, told_columns
from niwaki.evaluation.judges.registry import register_judge
from niwaki.evaluation.judges.running import results, where
from niwaki.evaluation.judges.views import answered_column, class_column, dataset_of, domains
from niwaki.evaluation.measures import ALL, BY_JUDGES, DEFAULT, measures
from niwaki.evaluation.statistics.samples import split_features
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.specs import SAMPLE, resolve

__all__ = ["Samples", "extractor_records"]

IN_THEIR_PLACE = "real samples in their place"
_RECOGNISED = "share recognised as asked"
_SMOOTH = "perceptual path length"
_SYNTHETIC = "accuracy on real samples of a classifier trained on generated ones"
_FURTHER = frozenset(name.replace(" ", "_") for name in (_RECOGNISED, _SMOOTH, _SYNTHETIC))
_READ_BACK = "_read_back_as_asked"
"""Figures beside those of `measures`, by the names that `may_say` is asked."""


@register_judge("samples")
class Samples(Judge):
    """Features of samples against those of real ones, on both axes, and what was copied.

    It speaks where `sample` makes amounts of the shape of the data's samples, also of a second domain (a
    translator is given `x` and answers with `x_b`): that one's real data are then what it is judged by.

    evidence: `samples` `(n, *shape)`, and `labels` `(n,)` where the class of each was asked for, following
              the split's, or is that of the row whose caption or image was given; facts: the `column` that
              they answer to, `paired` (absent: true) whether sample i follows from the seed and i alone,
              `told` the columns of labels that they were asked to show. Where there are some, `samples.…`
              are those asked for by rows of every extra split
    """

    title = "Samples"
    rank = 10
    # The margin is of these very samples; the real ones among which it is measured are of the validation
    # split (`niwaki.evaluation.equivalence.margins.calibrate`).
    calibrates = "test"

    @classmethod
    def applies(cls, runner: Runner, dataset: Dataset) -> bool:
        program = runner.program(SAMPLING)
        found = answered_column(program, dataset)
        # The extractors are made for the shape of `x`.
        return (
            found is not None and not program.output.is_tokens and program.output.shape == dataset.spec.shape
        )

    @classmethod
    def may_say(cls, word: str) -> bool:
        known = (*measures(), *_FURTHER)  # with the features behind it where there are several
        return any(word == of or word.startswith(f"{of}_") for of in known) or _READ_BACK in word

    def evidence(self, runner: Runner, dataset: Dataset, split: str, n: int, seed: int) -> Evidence:
        program = runner.program(SAMPLING)
        column = answered_column(program, dataset)
        if column is None:
            raise CallError(f"the samples of this model are of no column of '{dataset.name}'")
        inputs = make_inputs(runner, SAMPLING, n, dataset.split(split))
        arrays = {SAMPLES: results(runner, SAMPLING, n, seed, inputs, self.tools.on_progress)}
        classes = dataset_of(dataset, column).spec.classes
        rows = resolve(program.inputs, inputs, 0, n)
        labels = [rows[k] for k, spec in program.inputs.items() if spec.is_label and spec.size == classes]
        labels = labels or _classes_of_rows(program, dataset, split, n, classes)
        if labels:
            arrays["labels"] = labels[0]
        facts: dict[str, Any] = {**where(runner), "column": column}
        if column == SAMPLE and (told := told_columns(program, dataset)):
            facts["told"] = list(told)
            for name, part in dataset.extra.items() if split == self.calibrates else ():
                m = min(n, EXTRA, len(part))
                given = make_inputs(runner, SAMPLING, m, part)
                arrays[f"{SAMPLES}.{name}"] = results(runner, SAMPLING, m, seed, given)
        if "path_length" in self.tools.metrics:
            from niwaki.evaluation.judges.smoothness import PATHS, smoothness

            found = smoothness(
                runner, SAMPLING, inputs,
                features=self.tools.extractors[0], paths=min(n, PATHS), seed=seed,
            )  # fmt: skip
            facts["path_length"] = None if found is None else found.to_json()
        return Evidence(self.name, split, n, seed, arrays, facts)

    def samples_made(self, n: int) -> int:
        return n

    def evaluate(self, evidence: Evidence, dataset: Dataset) -> Section:
        view, extractors = view_of(evidence, dataset), self.tools.extractors
        samples, labels = evidence.arrays["samples"], evidence.arrays.get("labels")
        asked = tuple(name for name in self.tools.metrics if name not in BY_JUDGES) or DEFAULT
        evaluation = evaluate(
            samples, labels, view, extractors,
            metrics=asked, seed=evidence.seed, split=evidence.split, cache=self.tools.cache,
        )  # fmt: skip
        details: dict[str, Any] = {
            "evaluation": jsonable(evaluation),
            **findings(samples, labels, evaluation, view, extractors, seed=evidence.seed),
            "extractors": extractor_records(extractors),
            "fitness": self._fitness(view),
        }
        nearest = view.train.values(torch.from_numpy(evaluation.copies.index)).cpu().numpy()
        figures, notes = list(_figures(evaluation)), []
        if told := evidence.facts.get("told"):
            made = {evidence.split: samples}
            for name in dataset.extra:
                if f"{SAMPLES}.{name}" in evidence.arrays:
                    made[name] = evidence.arrays[f"{SAMPLES}.{name}"]
            further, read = read_back(made, told, dataset, self.tools)
            details["evaluation"] |= read
            first = int(bool(figures) and figures[0].name == _RECOGNISED)
            figures[first:first] = further
        if ALL in self.tools.metrics or "train_on_synthetic" in self.tools.metrics:
            try:
                further, details["train_on_synthetic"] = self._synthetic(samples, labels, view, evidence)
                figures += further
            except CallError as error:
                notes.append(f"Nothing was trained on the samples: {error}.")
        if "path_length" in evidence.facts:
            smooth = details["path_length"] = evidence.facts["path_length"]
            if smooth is None:
                notes.append("These samples begin with no latent, so that no path has a length.")
            else:
                interval = (float(smooth["interval"][0]), float(smooth["interval"][1]))
                figures.append(Figure(_SMOOTH, smooth["value"], interval, "both", "lower"))
        return Section(
            self.name, self.title, tuple(figures), details, tuple(notes), evaluation.signature,
            {"nearest": nearest},
        )  # fmt: skip

    def margins(self, evidence: Evidence, dataset: Dataset, n: int) -> Margins:
        view, before = view_of(evidence, dataset), evidence.arrays["samples"]
        found = calibrated(
            before, view, self.tools.extractors, seed=evidence.seed, size=real_size(len(view.test), n)
        )
        return Margins(self.name, found.key, found.to_json())

    def margins_key(self, evidence: Evidence, dataset: Dataset) -> str:
        view = view_of(evidence, dataset)
        size = real_size(len(view.test), evidence.n)
        before = evidence.arrays["samples"]
        return calibration_key(before, view, self.tools.extractors, seed=evidence.seed, size=size)

    def compare(self, before: Evidence, after: Evidence, margins: Margins, dataset: Dataset) -> Verdicts:
        """Paired where both are of the same seed and number and neither says otherwise. Margins of other
        samples are measured anew."""
        paired = (
            before.seed == after.seed
            and len(before.arrays["samples"]) == len(after.arrays["samples"])
            and all(e.facts.get("paired", True) for e in (before, after))
        )
        found = compare(
            before.arrays[SAMPLES], after.arrays[SAMPLES],
            view_of(before, dataset), self.tools.extractors,
            labels=before.arrays.get("labels"), seed=before.seed, paired=paired,
            calibration=Calibration.from_json(margins.axes),
            labels_after=None if paired else after.arrays.get("labels"),
        )  # fmt: skip
        same = np.array_equal(before.arrays["samples"], after.arrays["samples"])  # whoever looks
        names = [extractor.name for extractor in self.tools.extractors]
        if not same and (unfit := unfit_alone(names, self._fitness(view_of(before, dataset)))):
            found = replace(
                found, fidelity=_hint(found.fidelity, unfit), diversity=_hint(found.diversity, unfit)
            )
        axes = {"fidelity": found.fidelity, "diversity": found.diversity}
        arrays = {"damage": found.damage} if paired else {}
        return Verdicts(self.name, found.n, axes, jsonable(found), arrays)

    def in_blocks(
        self, runner: Runner, before: Evidence, margins: Margins, dataset: Dataset
    ) -> Blocks | None:
        """Where samples are paired by their noise and both axes have a margin."""
        if not before.facts.get("paired", True) or before.facts.get("told"):
            return None
        made = PairedBlocks(self.tools.extractors, runner, before, margins, dataset)
        return made if made.damage.measurable else None

    def _fitness(self, view: Dataset) -> Mapping[str, Mapping[str, Any]]:
        """Whether the extractors are fit for these data, tried once."""
        known = self.tools.fitness
        if view.fingerprint not in known:
            known[view.fingerprint] = fitness(view, self.tools.extractors, cache=self.tools.cache)
        return known[view.fingerprint]

    def _synthetic(
        self, samples: np.ndarray, labels: np.ndarray | None, view: Dataset, evidence: Evidence
    ) -> tuple[list[Figure], dict[str, Any]]:
        """Train on synthetic, test on real, in the first extractor's features."""
        from niwaki.evaluation.metrics.tstr import train_on_synthetic_test_on_real

        real = view.split(evidence.split)
        if labels is None or real.y is None or view.train.y is None:
            raise CallError("it is not known which classes they were asked to be")
        first = self.tools.extractors[0]
        found = train_on_synthetic_test_on_real(
            first(samples), labels, split_features(first, view, evidence.split), real.y.cpu().numpy(),
            train=split_features(first, view, "train"), train_labels=view.train.y.cpu().numpy(),
            seed=evidence.seed,
        )  # fmt: skip
        result = found.synthetic
        figure = Figure(
            _SYNTHETIC,
            result.value, result.interval, "both", "higher", result.floor, "trained on real samples",
        )  # fmt: skip
        return [figure], {"features": first.name, **jsonable(found)}


def _classes_of_rows(
    program: Program, dataset: Dataset, split: str, n: int, classes: int
) -> list[np.ndarray]:
    """Classes of the rows that samples were asked by: who is given the caption of a row, or an image to
    translate, has to show what that row shows. [] where no input is a column, or no such classes exist."""
    rows = dataset.split(split)
    given = next((name for name in program.inputs if name in rows.columns), None)
    if given is None or not classes:
        return []
    name = class_column(given) if given in domains(dataset) else class_column(SAMPLE)
    if name not in rows.columns or rows.columns[name].spec.levels != classes:
        return []
    if given not in domains(dataset) and not rows.columns[given].paired:
        return []
    known = rows.columns[name].data.cpu().numpy().astype(np.int64)
    return [known[np.arange(n) % len(known)]]


def _hint(verdict: Verdict, unfit: tuple[str, ...]) -> Verdict:
    """The same, said to be a hint."""
    return replace(verdict, text=f"{verdict.text} {hint_alone(unfit)}", unfit=unfit)


def _figures(evaluation: Evaluation) -> list[Figure]:
    """The share that is recognised first, then the metrics of each extractor."""
    known = measures()
    out: list[Figure] = []
    for features, found in evaluation.metrics.items():
        for name, result in found.items():
            if name == "recognised":
                figure = Figure(
                    _RECOGNISED, result.value, result.interval, "fidelity", "higher",
                    result.floor, "real samples",
                )  # fmt: skip
                out.insert(0, figure)
            elif name in known and known[name].axis:
                row = known[name]
                figure = Figure(
                    f"{name.replace('_', ' ')} ({features})", result.value, result.interval, row.axis,
                    row.better, result.floor, "" if result.floor is None else IN_THEIR_PLACE,
                )  # fmt: skip
                out.append(figure)
    return out


def extractor_records(extractors: Sequence[Any]) -> list[dict[str, Any]]:
    """What looked at the samples: name, fingerprint, width, a classifier's accuracy, an encoder's probe."""
    records = []
    for e in extractors:
        record = {"name": e.name, "fingerprint": e.fingerprint, "dim": e.dim}
        record |= {known: getattr(e, known) for known in ("accuracy", "probe") if hasattr(e, known)}
        records.append(record)
    return records
