"""Predictions: how probable real tokens are, each given the real ones before it (teacher forcing)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, Runner
from niwaki.core.store import hash_json, jsonable, kept_json
from niwaki.data import Dataset
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.equivalence import text as text_axes
from niwaki.evaluation.equivalence.text import FEWEST, bits, compare_text, rarefied_coverage_of_text
from niwaki.evaluation.equivalence.text_margins import damaged_windows, frequencies, margins_of_damage
from niwaki.evaluation.judges.base import Evidence, Figure, Judge, Margins, Section, Verdicts
from niwaki.evaluation.judges.exhibits import passages
from niwaki.evaluation.judges.forcing import forced_windows
from niwaki.evaluation.judges.reading import (
    ANSWERS,
    PROMPT,
    bytes_of,
    bytes_per_token,
    refuse_other_tokens,
    tokens_of,
    words_of,
)
from niwaki.evaluation.judges.registry import register_judge
from niwaki.evaluation.judges.running import (
    margin_key,
    margins_from_json,
    margins_to_json,
    results,
    where,
)
from niwaki.evaluation.judges.variety import memorised, varied, variety
from niwaki.evaluation.metrics.dictionary_coder import xz_bits_per_byte
from niwaki.evaluation.statistics.result import mean_interval, signature
from niwaki_runtime.programs import SAMPLING

__all__ = ["Predictions"]

_MARGINS = 256  # windows that margins are measured on at most
_WINDOWS, _TOKENS = 64, 1 << 14  # that choices rest on at least
_SAMPLES = 64  # whose n-grams are counted
_SHOWN = 8  # that are shown as text
_READ = 4  # that are put on a page
_KNOWN = 1 << 24  # bytes of the training text that xz is given at most
_METHOD = "5 % more at random than serves best; parts of the vocabulary of 5 %"


@register_judge("predictions")
class Predictions(Judge):
    """Bits per byte (per token, where there are no bytes) of real windows, beside codes without a network.

    evidence: `log_p` `(n, length)` in nats; on the validation split also `share`, `left` and `scale`
              (`niwaki.evaluation.equivalence.text_margins.damaged_windows`), elsewhere `samples`
              `(m, *shape)`, on which no verdict rests: `axes_alone` leaves them out; facts: `bytes_per_token`
    """

    title = "Predictions"
    rank = 20

    @classmethod
    def applies(cls, runner: Runner, dataset: Dataset) -> bool:
        program = runner.program(SAMPLING)
        tokens = program.output.is_tokens and dataset.spec.is_tokens
        if ANSWERS in dataset.spec.columns and PROMPT in program.inputs:
            return False  # what is learned are answers, which have a judge of their own
        return tokens and program.sampler.forceable and program.output.size == dataset.spec.size

    def evidence(self, runner: Runner, dataset: Dataset, split: str, n: int, seed: int) -> Evidence:
        """Raises CallError where the data have other tokens than the model, for fewer than 20 windows, and
        for a class that is no column of the data."""
        known = runner.program(SAMPLING).output.levels
        if dataset.spec.levels > known:
            raise CallError(
                f"the data '{dataset.name}' have {dataset.spec.levels} tokens, the model {known}: "
                "read the text with the model's own tokenizer (data.tokenizer=…)"
            )
        refuse_other_tokens(runner.files, dataset)
        margins = split == self.calibrates
        tokens = tokens_of(dataset, split, min(n, _MARGINS) if margins else n)
        if len(tokens) < FEWEST:
            raise CallError(
                f"the {split} split of '{dataset.name}' has {len(tokens)} windows; {FEWEST} are needed"
            )
        blocks = forced_windows(runner, dataset, split, tokens, self.tools.on_progress)
        if margins:
            share = frequencies(tokens_of(dataset, "train"), known)
            arrays = damaged_windows(blocks, share, seed=seed)
        else:
            taken = [np.take_along_axis(p, x[..., None], -1)[..., 0] for x, p in blocks]
            arrays = {"log_p": np.concatenate(taken)}
            if m := self.samples_made(n):
                inputs = make_inputs(runner, SAMPLING, m, dataset.split(split))
                arrays["samples"] = results(runner, SAMPLING, m, seed, inputs)
        facts = {**where(runner), "bytes_per_token": bytes_per_token(dataset, split, len(tokens))}
        return Evidence(self.name, split, len(tokens), seed, arrays, facts)

    def fewest(self, dataset: Dataset) -> int:
        """Windows of so many tokens: each is a prediction, and an interval of a loss so wide as that of a
        model's samples (docs/search.md)."""
        length = math.prod(dataset.spec.shape)
        return min(super().fewest(dataset), max(_WINDOWS, -(-_TOKENS // length)))

    def samples_made(self, n: int) -> int:
        return 0 if self.tools.axes_alone else min(n, _SAMPLES)

    def evaluate(self, evidence: Evidence, dataset: Dataset) -> Section:
        log_p, size = evidence.arrays["log_p"], evidence.facts["bytes_per_token"]
        cost, reached = bits(log_p, size or 1.0), rarefied_coverage_of_text(log_p)
        unit = "byte" if size else "token"
        references = self._references(evidence, dataset)
        nearest = next(k for k in ("xz_with_train", "order_0") if k in references)
        named = {
            "xz_with_train": "xz -9 that knows the training text",
            "order_0": "frequencies of tokens alone",
        }
        alone = np.log(frequencies(tokens_of(dataset, "train"), dataset.spec.levels))
        tokens = tokens_of(dataset, evidence.split, evidence.n)
        figures = [
            Figure(
                f"bits per {unit}", float(cost.mean()), mean_interval(cost), "fidelity", "lower",
                references[nearest], named[nearest],
            ),
            Figure(
                "rarefied coverage: chance that the real next token is among 20 drawn",
                float(reached.mean()), mean_interval(reached), "diversity", "higher",
                float(rarefied_coverage_of_text(alone[tokens]).mean()), named["order_0"],
            ),
        ]  # fmt: skip
        order = np.argsort(-cost, kind="stable")[:32]
        details: dict[str, Any] = {
            f"bits_per_{unit}": {"value": float(cost.mean()), "interval": list(mean_interval(cost))},
            "rarefied_coverage": float(reached.mean()),
            "references": references,
            "bytes_per_token": size,
            "least_likely": [{"window": int(i), "bits": float(cost[i])} for i in order],
        }
        if "samples" in evidence.arrays:
            samples = evidence.arrays["samples"].reshape(len(evidence.arrays["samples"]), -1)
            real = tokens[: len(samples)]
            figures += [*varied(samples, real), memorised(samples, real, tokens_of(dataset, "train"))]
            details["samples"] = {
                "tokens": samples[:_SHOWN].tolist(),
                "text": words_of(dataset, samples[:_SHOWN]),
                "real": words_of(dataset, tokens[:_SHOWN]),
            }
            words = details["samples"]["text"]
            if words is not None:
                pairs = list(zip(words, details["samples"]["real"], strict=False))[:_READ]
                details["exhibits"] = [
                    passages(f"Sample {i}", [("sample", made), ("a window of the test split", real)])
                    for i, (made, real) in enumerate(pairs)
                ]
            details["ngrams"] = jsonable(variety(samples))
        text = signature(
            "predictions", split=evidence.split, windows=evidence.n, length=log_p.shape[1],
            seed=evidence.seed, data=dataset.fingerprint[:12],
        )  # fmt: skip
        return Section(self.name, self.title, tuple(figures), details, (), text)

    def margins(self, evidence: Evidence, dataset: Dataset, n: int) -> Margins:
        found = margins_of_damage(
            evidence.arrays, n=n, bytes_per_token=evidence.facts["bytes_per_token"] or 1.0
        )
        return Margins(self.name, margin_key(evidence, dataset, n, _METHOD), margins_to_json(found))

    def compare(self, before: Evidence, after: Evidence, margins: Margins, dataset: Dataset) -> Verdicts:
        size = before.facts["bytes_per_token"]
        sides = {"before": before.arrays, "after": after.arrays}
        ngrams: dict[str, Any] = {}
        if all("samples" in arrays for arrays in sides.values()):
            found = {side: variety(a["samples"].reshape(len(a["samples"]), -1)) for side, a in sides.items()}
            ngrams = {k: {side: found[side][k].to_json() for side in sides} for k in found["before"]}
            ngrams["samples"] = len(before.arrays["samples"])
        made = compare_text(
            before.arrays["log_p"], after.arrays["log_p"], margins_from_json(margins.axes),
            bytes_per_token=size or 1.0, seed=before.seed, data=dataset.fingerprint[:12], figures=ngrams,
            axes=None if size else _of_tokens(),
        )  # fmt: skip
        rise = bits(after.arrays["log_p"], size or 1.0) - bits(before.arrays["log_p"], size or 1.0)
        axes = {"fidelity": made.fidelity, "diversity": made.diversity}
        return Verdicts(self.name, made.n, axes, jsonable(made), {"rise": rise})

    def _references(self, evidence: Evidence, dataset: Dataset) -> dict[str, float]:
        """Bits per byte (or token) of codes without a network, on the same windows.

        order_0: frequencies of tokens in the training split; xz: `xz -9` of the windows alone;
        xz_with_train: beyond the training text (of which the last 16 MiB are used)
        """
        size = evidence.facts["bytes_per_token"]
        tokens, train = tokens_of(dataset, evidence.split, evidence.n), tokens_of(dataset, "train")
        share = np.log(frequencies(train, dataset.spec.levels))
        out = {"order_0": float(bits(share[tokens], size or 1.0).mean())}
        own, known = bytes_of(dataset, tokens), bytes_of(dataset, train)
        if not size or own is None or known is None:
            return out
        key = hash_json(["xz", dataset.fingerprint, evidence.split, evidence.n])[:24]
        path = None if self.tools.cache is None else self.tools.cache / "references" / f"xz-{key}.json"
        # xz counts the bytes that it was given; a token's share of them may differ by the passages' ends.
        found: Mapping[str, float] = kept_json(
            path,
            lambda: {
                "xz": xz_bits_per_byte(own),
                "xz_with_train": xz_bits_per_byte(own, known[-_KNOWN:]),
            },
        )
        return {**out, **found}


def _of_tokens() -> tuple[Any, Any]:
    """The words of both verdicts for tokens that are not text."""
    fidelity = replace(
        text_axes.FIDELITY,
        statistic="log-likelihood: log2 of the probability of the test samples, per token",
        better="test samples took fewer bits per token,",
        worse="test samples took more bits per token,",
        no_margin="the model predicts tokens no better than their frequencies do",
    )
    diversity = replace(
        text_axes.DIVERSITY,
        margin_means=text_axes.DIVERSITY.margin_means.replace("of the words of the text", "of the tokens"),
        no_margin="no set of tokens makes up about 5 % of the samples",
    )
    return fidelity, diversity
