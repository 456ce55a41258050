"""Likelihood: bits per dimension of real data under a model that knows `log_prob`.

The rule of what `log_prob` means:

* Its input `x` is what the model sees: amounts in low … high, or tokens.
* Tokens, and programs whose output is named `log_probability` (`ValueSpec(…, names=("log_probability",))`),
  have log P(x), of the stored values themselves: bits = −log₂ P(x) / d.
* All others have a log density p over the values as seen. Stored levels stand `step = (high − low)/(n − 1)`
  apart; each is given noise over its own cell, y = x + step·(u − ½), u uniform in (0, 1) by sample index and
  a fixed seed. Of a level's probability P(x) = ∫ p over its cell, log P(x) ≥ E_u log p(y) + d·log step
  (Jensen), so that bits = −log₂ p(y)/d − log₂ step is on average at least the code length (Theis et al. 2016;
  Uria, Murray & Larochelle, "RNADE", 2013). A model that fills another range maps it inside `log_prob` and
  adds the map's log-determinant.
* Amounts that were never levels have densities alone: bits are differential and may be negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.core.contract import CallError, Levels, Program, Runner
from niwaki.data import Dataset
from niwaki.data.inputs import make_inputs
from niwaki.data.splitting import OOD
from niwaki.evaluation.equivalence.items import Scores, item_verdicts, planted_margin
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
from niwaki.evaluation.metrics.bits_per_dim import bits_per_dim
from niwaki.evaluation.metrics.independent import independent_bits
from niwaki.evaluation.statistics.auroc import auroc
from niwaki.evaluation.statistics.result import Result, signature
from niwaki_runtime import noise
from niwaki_runtime.programs import LOG_PROB, SAMPLING
from niwaki_runtime.specs import SAMPLE

__all__ = ["EXACT", "PROGRAM", "Likelihood", "dequantised"]

PROGRAM = LOG_PROB
EXACT = "log_probability"
"""Name of an output that is the logarithm of a probability, not of a density."""
_SHOWN = 6
_METHOD = "5 % of the dimensions coded by their own distribution"

FIDELITY = Axis(
    "fidelity",
    "log-likelihood: log2 of the probability of test samples, per dimension",
    "test samples took fewer bits per dimension,",
    "test samples took more bits per dimension,",
    f"coding {100 * SHARE:.0f} % of the dimensions by their own distribution alone would cost",
    "the model predicts the data no better than independent dimensions do",
)


@register_judge("likelihood")
class Likelihood(Judge):
    """Bits per dimension of a split, beside independent dimensions; a verdict on fidelity by pairs of test
    samples.

    Where the data have a split `ood`, how well log p tells its samples from the others (AUROC) is a figure.
    The margin: a code that uses the model for 95 % of the dimensions and each dimension's own distribution
    for the rest costs 5 % of what both are apart. A model that is no better than independent dimensions has
    none.

    evidence: `log_prob` `(n,)` in nats of the first n samples, `ood` `(m,)` of those from outside
    """

    title = "Likelihood"
    rank = 30

    @classmethod
    def applies(cls, runner: Runner, dataset: Dataset) -> bool:
        program = runner.programs().get(PROGRAM)
        given = None if program is None else program.inputs.get(SAMPLE)
        if given is None or given.shape != dataset.spec.shape:
            return False
        sample = runner.program(SAMPLING)  # what is read token by token is the judge of predictions' to say
        return not (sample.output.is_tokens and sample.sampler.forceable)

    def evidence(self, runner: Runner, dataset: Dataset, split: str, n: int, seed: int) -> Evidence:
        program = runner.program(PROGRAM)
        levels = 0 if _exact(program) else _levels(dataset)
        arrays = {"log_prob": self._log_prob(runner, dataset, split, n, seed, levels)}
        if split == "test" and OOD in dataset.extra:
            arrays["ood"] = self._log_prob(runner, dataset, OOD, n, seed, levels)
        span = dataset.spec.high - dataset.spec.low if levels else 1.0
        facts = {
            **where(runner), "levels": levels, "span": span, "dims": dataset.spec.size,
            "exact": _exact(program),
        }  # fmt: skip
        return Evidence(self.name, split, len(arrays["log_prob"]), seed, arrays, facts)

    def evaluate(self, evidence: Evidence, dataset: Dataset) -> Section:
        found = _bits(evidence)
        assert found.per_sample is not None
        reference = _reference(evidence, dataset)
        name = "bits per dimension"
        if not (evidence.facts["levels"] or evidence.facts["exact"]):
            name += " (of a density)"
        figures = [
            Figure(
                name, found.value, found.interval, "fidelity", "lower", float(reference.mean()),
                "independent dimensions",
            )
        ]  # fmt: skip
        order = np.argsort(-found.per_sample, kind="stable")[:32]
        details: dict[str, Any] = {
            "bits_per_dim": found.to_json(),
            "independent": float(reference.mean()),
            "least_likely": [{"index": int(i), "bits": float(found.per_sample[i])} for i in order],
            "exhibits": self._shown(evidence, dataset, found.per_sample, order),
            "quantiles": {f"{q:g}": float(np.quantile(found.per_sample, q)) for q in (0, 0.1, 0.5, 0.9, 1)},
        }
        if "ood" in evidence.arrays:
            value, interval = auroc(evidence.arrays["log_prob"], evidence.arrays["ood"])
            figures.append(
                Figure(
                    "share of pairs in which a sample from outside is the less likely (AUROC)", value,
                    interval, "fidelity", "higher", 0.5, "chance",
                )
            )  # fmt: skip
            details["ood"] = {"auroc": value, "interval": list(interval), "n": len(evidence.arrays["ood"])}
        return Section(self.name, self.title, tuple(figures), details, (), found.signature)

    def margins(self, evidence: Evidence, dataset: Dataset, n: int) -> Margins:
        bits = _bits(evidence).per_sample
        assert bits is not None
        found = planted_margin(_reference(evidence, dataset) - bits)
        return Margins(
            self.name, margin_key(evidence, dataset, n, _METHOD), margins_to_json({"fidelity": found})
        )

    def compare(self, before: Evidence, after: Evidence, margins: Margins, dataset: Dataset) -> Verdicts:
        first, second = _bits(before), _bits(after)
        assert first.per_sample is not None
        assert second.per_sample is not None
        rise = second.per_sample - first.per_sample if before.n == after.n else np.zeros(0)
        axes = item_verdicts(
            {"fidelity": Scores(FIDELITY, -first.per_sample, -second.per_sample)},
            margins_from_json(margins.axes),
            name=self.name, seed=before.seed,
            signature=signature("paired-likelihood", n=before.n, seed=before.seed, share=SHARE,
                                data=dataset.fingerprint[:12], margins=margins.key[:8]),
            identical=np.array_equal(before.arrays["log_prob"], after.arrays["log_prob"]),
        )  # fmt: skip
        details = {"bits_per_dim": {"before": first.value, "after": second.value}, "paired": True}
        return Verdicts(self.name, before.n, axes, details, {"rise": rise})

    def _shown(
        self, evidence: Evidence, dataset: Dataset, bits: np.ndarray, order: np.ndarray
    ) -> list[dict[str, Any]]:
        """The least and the most likely samples."""
        rows, spec = first_rows(dataset.split(evidence.split), SAMPLE, evidence.n), dataset.spec.x
        ends = {"The least likely samples": order[:_SHOWN], "The most likely": np.argsort(bits)[:_SHOWN]}
        return [
            exhibit(caption, [(f"{bits[i]:.3g} bits", rows[i], spec) for i in which], dataset.files)
            for caption, which in ends.items()
        ]

    def _log_prob(
        self, runner: Runner, dataset: Dataset, split: str, n: int, seed: int, levels: int
    ) -> np.ndarray:
        n = min(n, len(dataset.split(split)))
        inputs = make_inputs(runner, PROGRAM, n, dataset.split(split))
        if levels:
            spec = dataset.spec
            step = (spec.high - spec.low) / (levels - 1)
            inputs[SAMPLE] = dequantised(inputs[SAMPLE], step, seed)
        found = results(runner, PROGRAM, n, seed, inputs, self.tools.on_progress)
        if found.reshape(n, -1).shape[1] != 1:
            raise CallError(f"'{PROGRAM}' must give one number for each sample, not {found.shape[1:]}")
        return found.reshape(n).astype(np.float64)


def dequantised(x: np.ndarray, step: float, seed: int) -> np.ndarray:
    """x + step·(u − ½), u uniform in (0, 1) by the sample's index `(n, *shape)` float32."""
    u = noise.uniform(seed, 0, len(x), int(np.prod(x.shape[1:])), stream="condition").reshape(x.shape)
    return (x + step * (u - 0.5)).astype(np.float32)


def _exact(program: Program) -> bool:
    """Whether it gives probabilities of stored values."""
    return program.inputs[SAMPLE].integer or program.output.names == (EXACT,)


def _levels(dataset: Dataset) -> int:
    """Stored levels; 0 for amounts."""
    values = dataset.spec.values
    return values.n if values.kind == Levels.kind else 0


def _bits(evidence: Evidence) -> Result:
    facts = evidence.facts
    return bits_per_dim(
        evidence.arrays["log_prob"], dims=int(facts["dims"]), levels=int(facts["levels"]) or None,
        span=float(facts["span"]),
    )  # fmt: skip


def _reference(evidence: Evidence, dataset: Dataset) -> np.ndarray:
    """Bits per dimension of the same samples, each dimension by itself `(n,)`."""
    split = dataset.split(evidence.split)
    return independent_bits(dataset.train.column(SAMPLE), split.column(SAMPLE), evidence.n)
