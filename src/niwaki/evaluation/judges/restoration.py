"""Restoration: samples made whole again from a degraded version, against the hidden truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.core.contract import CallError, Runner, ValueSpec
from niwaki.data import Dataset
from niwaki.data.inputs import make_inputs, with_defaults
from niwaki.evaluation.equivalence.items import Scores, item_verdicts, other_items, planted_margin
from niwaki.evaluation.equivalence.margins import SHARE
from niwaki.evaluation.equivalence.verdict import Axis
from niwaki.evaluation.judges.base import Evidence, Figure, Judge, Margins, Section, Verdicts
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
from niwaki.evaluation.metrics import restored_sound  # noqa: F401  (its measures enter themselves)
from niwaki.evaluation.metrics.feature_distance import feature_distances
from niwaki.evaluation.metrics.restored import MEASURES, by_frame, enlarged, psnr
from niwaki.evaluation.statistics.result import mean_interval, signature
from niwaki.evaluation.statistics.samples import value_span
from niwaki_runtime.specs import SAMPLE

__all__ = ["PROGRAMS", "Restoration"]

CONTINUE = "continue"
PROGRAMS = ("restore", "upscale", "inpaint", CONTINUE)
_NAMED = {CONTINUE: "the last known frame, standing still"}
_SHOWN = 4
_METHOD = "restored as another sample"

FIDELITY = Axis(
    "fidelity",
    "peak signal-to-noise ratio of restored samples, in dB",
    "restored samples came closer to the truth: their ratio (PSNR) rose, in dB,",
    "restored samples moved away from the truth: their ratio (PSNR) fell, in dB,",
    f"restoring {100 * SHARE:.0f} % of the samples as another one would cost",
    "restoring each sample as another one costs nothing",
)


@register_judge("restoration")
class Restoration(Judge):
    """PSNR, structural similarity and feature distance of what `restore`, `upscale`, `inpaint` or `continue`
    (a clip after its past) gives; a
    verdict on fidelity by pairs.

    It speaks where such a program gives what `x` is and is given columns of the data (`low`, `masked`,
    `mask` …). Where the degraded version is of the sample's shape, or smaller by whole factors, it is judged
    itself, enlarged by repetition (of a past, its last frame): the reference that a restoration has to beat.
    The margin is what it costs to restore 5 % of the samples as another one.

    Of clips the figures of each frame are drawn as curves: how fast a prediction leaves the truth.

    evidence: `restored` `(n, *shape)` float32; facts: the `program`, the `degraded` column
    """

    title = "Restoration"
    rank = 40

    @classmethod
    def applies(cls, runner: Runner, dataset: Dataset) -> bool:
        return _program(runner, dataset) is not None

    def evidence(self, runner: Runner, dataset: Dataset, split: str, n: int, seed: int) -> Evidence:
        name = _program(runner, dataset)
        if name is None:
            raise CallError(f"this model restores nothing of '{dataset.name}'")
        n = min(n, len(dataset.split(split)))
        inputs = make_inputs(runner, name, n, dataset.split(split))
        made = results(runner, name, n, seed, inputs, self.tools.on_progress)
        spec = dataset.spec
        degraded = [  # a mask is given, too, and has other values
            k
            for k, v in inputs.items()
            if k in spec and spec[k].values == spec.values and _stand_in(name, v[:1], spec.shape) is not None
        ]
        facts = {**where(runner), "program": name, "degraded": degraded[0] if degraded else None}
        return Evidence(self.name, split, n, seed, {"restored": made}, facts)

    def evaluate(self, evidence: Evidence, dataset: Dataset) -> Section:
        restored, truth = evidence.arrays["restored"], _truth(evidence, dataset)
        given = self._degraded(evidence, dataset)
        span = value_span(dataset.spec, truth)
        measured = {"restored": restored} | ({} if given is None else {"degraded": given})
        ratio = {k: psnr(x, truth, span) for k, x in measured.items()}
        named = "" if given is None else _NAMED.get(evidence.facts["program"], "the degraded version")
        figures = [_figure("PSNR in dB", ratio, "higher", named)]
        for measure in MEASURES.values():
            each = {k: measure.of(x, truth, dataset.spec.x) for k, x in measured.items()}
            if each["restored"] is not None:
                figures.append(_figure(measure.name, each, measure.better, named))
        figures += self._in_features(measured, truth, named)
        worst = np.argsort(ratio["restored"], kind="stable")[:32]
        details: dict[str, Any] = {
            "program": evidence.facts["program"],
            "degraded": evidence.facts["degraded"],
            "worst": [{"index": int(i), "psnr": float(ratio["restored"][i])} for i in worst],
            "better_than_degraded": None
            if given is None
            else float((ratio["restored"] > ratio["degraded"]).mean()),
        }
        details["over_time"] = _over_time(measured, truth, dataset.spec.x, named)
        shown = ({} if given is None else {"given": given}) | {"restored": restored, "truth": truth}
        details["exhibits"] = [
            exhibit(
                f"Test sample {i}: PSNR {ratio['restored'][i]:.3g} dB",
                [(label, x[i], dataset.spec.x) for label, x in shown.items()],
                dataset.files,
            )
            for i in (*worst[:2], *range(min(_SHOWN, evidence.n)))
        ]
        text = signature(
            "restoration", program=evidence.facts["program"], split=evidence.split, n=evidence.n,
            seed=evidence.seed, span=f"{span:g}", data=dataset.fingerprint[:12],
        )  # fmt: skip
        return Section(self.name, self.title, tuple(figures), details, (), text)

    def margins(self, evidence: Evidence, dataset: Dataset, n: int) -> Margins:
        restored, truth = evidence.arrays["restored"], _truth(evidence, dataset)
        span = value_span(dataset.spec, truth)
        wrong = psnr(restored[other_items(evidence.n, evidence.seed)], truth, span)
        found = {"fidelity": planted_margin(psnr(restored, truth, span) - wrong)}
        return Margins(self.name, margin_key(evidence, dataset, n, _METHOD), margins_to_json(found))

    def compare(self, before: Evidence, after: Evidence, margins: Margins, dataset: Dataset) -> Verdicts:
        truth = _truth(before, dataset)
        span = value_span(dataset.spec, truth)
        sides = before.arrays["restored"], after.arrays["restored"]
        if sides[0].shape != sides[1].shape:
            raise CallError(f"both models must restore the same, not {sides[0].shape} and {sides[1].shape}")
        ratio = [psnr(x, truth, span) for x in sides]
        fall = ratio[0] - ratio[1]
        axes = item_verdicts(
            {"fidelity": Scores(FIDELITY, ratio[0], ratio[1])},
            margins_from_json(margins.axes),
            name=self.name, seed=before.seed, identical=np.array_equal(*sides),
            signature=signature(
                "paired-restoration", n=before.n, seed=before.seed, share=SHARE,
                data=dataset.fingerprint[:12], margins=margins.key[:8],
            ),
        )  # fmt: skip
        details = {
            "psnr": {"before": float(ratio[0].mean()), "after": float(ratio[1].mean())},
            "worst": [{"index": int(i), "fall": float(fall[i])} for i in np.argsort(-fall)[:32]],
            "paired": True,
        }
        return Verdicts(self.name, before.n, axes, details, {"fall": fall})

    def _degraded(self, evidence: Evidence, dataset: Dataset) -> np.ndarray | None:
        """What was given, of the sample's shape; None where it has no picture of its own."""
        column = evidence.facts["degraded"]
        if column is None or column not in dataset.spec:
            return None
        rows = first_rows(dataset.split(evidence.split), column, evidence.n)
        return _stand_in(evidence.facts["program"], rows.astype(np.float32), dataset.spec.shape)

    def _in_features(self, measured: dict[str, np.ndarray], truth: np.ndarray, named: str) -> list[Figure]:
        """Distance to the truth in features, in that of neighbouring real samples."""
        out = []
        for extractor in self.tools.extractors:
            distance = feature_distances(extractor, measured, truth)
            name = f"distance to the truth in features ({extractor.name}), 1: that of neighbouring samples"
            out.append(_figure(name, distance, "lower", named))
        return out


def _figure(name: str, values: dict[str, Any], better: str, named: str) -> Figure:
    own, given = values["restored"], values.get("degraded")
    return Figure(
        name, float(own.mean()), mean_interval(own), "fidelity", better,
        None if given is None else float(given.mean()), named if given is not None else "",
    )  # fmt: skip


def _over_time(
    measured: dict[str, np.ndarray], truth: np.ndarray, spec: ValueSpec, named: str
) -> list[dict[str, Any]]:
    """How near each frame of clips is to the truth, the mean over clips: a curve for each measure, beside
    what was given. Nothing for what is no clip."""
    each = {k: by_frame(x, truth, spec) for k, x in measured.items()}
    return [
        {
            "title": f"{name}, by frame",
            "unit": "frame",
            "values": each["restored"][name].mean(0).tolist(),
            "reference": each["degraded"][name].mean(0).tolist() if "degraded" in each else None,
            "reference_name": named,
        }
        for name in each["restored"]
    ]


def _stand_in(program: str, given: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """What was given, of a sample's shape; of a past that is continued its last frame, standing still."""
    return enlarged(given[:, -1:] if program == CONTINUE else given, shape)


def _program(runner: Runner, dataset: Dataset) -> str | None:
    """The first program that restores `x` from columns of the data."""
    spec = dataset.spec
    for name in PROGRAMS:
        program = runner.programs().get(name)
        if program is None or spec.is_tokens or program.output.shape != spec.shape:
            continue
        needed = [k for k, given in program.inputs.items() if not with_defaults(given)]
        if needed and all(k in spec and k != SAMPLE for k in needed):
            return name
    return None


def _truth(evidence: Evidence, dataset: Dataset) -> np.ndarray:
    return first_rows(dataset.split(evidence.split), SAMPLE, evidence.n)
