"""Forecasts: paths that a model draws from a known past, against the future that came."""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.core.contract import CallError, Runner
from niwaki.data import Dataset
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.equivalence.items import Scores, item_verdicts, other_items, planted_margin
from niwaki.evaluation.equivalence.margins import SHARE
from niwaki.evaluation.equivalence.verdict import Axis
from niwaki.evaluation.judges.base import Evidence, Figure, Judge, Margins, Section, Verdicts
from niwaki.evaluation.judges.exhibits import forecast_fan
from niwaki.evaluation.judges.registry import register_judge
from niwaki.evaluation.judges.running import (
    first_rows,
    margin_key,
    margins_from_json,
    margins_to_json,
    results,
    where,
)
from niwaki.evaluation.metrics.forecasts import (
    crps_ensemble,
    crps_normal,
    estimate_season,
    naive_forecast,
    pinball,
)
from niwaki.evaluation.statistics.result import mean_interval, signature
from niwaki_runtime.specs import SAMPLE

__all__ = ["PAST", "PATHS", "PROGRAM", "Forecast"]

PROGRAM = "forecast"
PAST = "past"
"""The column of what came before: `(C, T_past)` or `(T_past,)`; the sample `x` is the future."""
MEASURED = "x_mask"
"""A column that is 1 where the future was measured: the rest of it is not scored."""
PATHS = 50
"""Paths drawn for each item."""
LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9
_SEASONAL = 2000  # training pasts that the season is read from at most
_SHOWN = 5
_SEEN = "past_mask"
_LEGEND = "Black: the past and what came of it. Green: the median of the forecast and its 80 % interval."
_METHOD = "paths of another item; paths that are all one"

FIDELITY = Axis(
    "fidelity",
    "minus the continuous ranked probability score of forecasts",
    "the score of forecasts (CRPS) fell",
    "the score of forecasts (CRPS) rose",
    f"forecasting {100 * SHARE:.0f} % of the series with the past of another one would cost",
    "forecasts from the past of another series are no worse",
)
DIVERSITY = Axis(
    "diversity",
    "share of the future inside the 80 % interval of forecasts",
    "the share of the future inside the 80 % interval rose",
    "the share of the future inside the 80 % interval fell",
    f"drawing no more than one path for {100 * SHARE:.0f} % of the series would cost",
    "the forecasts have no spread",
)


@register_judge("forecast")
class Forecast(Judge):
    """CRPS, pinball loss and coverage of forecasts, beside the naive ones; verdicts by pairs of series.

    Values that the column `x_mask` says were not measured are not scored.
    It speaks where a program `forecast` is given the column `past` and gives what `x` is: amounts over time,
    axes `CT` or `T`. k = 50 paths are drawn for each item; a program without noise draws the same path 50
    times, and is scored by its absolute error. Quantiles are read off the paths.

    References, from the past alone: the last season again (`seasonal naive`) and the last value again
    (`naive`), without drift, with normal intervals from the past's own seasonal differences. The season is
    read off the autocorrelation of the training pasts.
    Margins: fidelity, what it costs to give 5 % of the series the paths of another one; diversity, the
    coverage that is lost where the paths of 5 % are all one.

    evidence: `paths` `(n, k, *shape)` float32; path j of item i has the noise of sample i·k + j
    """

    title = "Forecasts"
    rank = 25

    @classmethod
    def applies(cls, runner: Runner, dataset: Dataset) -> bool:
        program, spec = runner.programs().get(PROGRAM), dataset.spec
        return (
            program is not None
            and PAST in program.inputs
            and PAST in spec
            and program.output.shape == spec.shape
            and spec.axes in ("CT", "T")
            and not spec.is_tokens
        )

    def evidence(self, runner: Runner, dataset: Dataset, split: str, n: int, seed: int) -> Evidence:
        n = min(n, len(dataset.split(split)))
        given = make_inputs(runner, PROGRAM, n, dataset.split(split))
        inputs = {name: np.repeat(rows, PATHS, axis=0) for name, rows in given.items()}
        made = results(runner, PROGRAM, n * PATHS, seed, inputs, self.tools.on_progress)
        paths = made.reshape(n, PATHS, *dataset.spec.shape)
        if not np.isfinite(paths).all():
            raise CallError("some forecasts are NaN or infinite")
        return Evidence(self.name, split, n, seed, {"paths": paths}, {**where(runner), "paths": PATHS})

    def samples_made(self, n: int) -> int:
        return n * PATHS

    def evaluate(self, evidence: Evidence, dataset: Dataset) -> Section:
        paths, truth = evidence.arrays["paths"], _truth(evidence, dataset)
        score, inside = _crps(paths, truth), _coverage(paths, truth)
        naive, season = self._naive(evidence, dataset, truth)
        against = "seasonal naive" if season > 1 else "naive: the last value again"
        best = naive.get("seasonal", naive["last"])
        quantiles = _quantiles(paths, LOW, MIDDLE, HIGH)
        losses = {
            level: _per_item(pinball(q, truth, level))
            for level, q in zip((LOW, MIDDLE, HIGH), quantiles, strict=True)
        }
        figures = [
            Figure(
                "CRPS", float(score.mean()), mean_interval(score), "fidelity", "lower",
                float(best["crps"].mean()), against,
            ),
            *(
                Figure(
                    f"pinball loss at {level:g}", float(loss.mean()), mean_interval(loss), "fidelity",
                    "lower", float(best[f"pinball_{level:g}"].mean()), against,
                )
                for level, loss in losses.items()
            ),
            Figure(
                "coverage of the 80 % interval", float(inside.mean()), _within(mean_interval(inside)),
                "diversity", "higher", HIGH - LOW, "calibrated",
            ),
        ]  # fmt: skip
        skill = 1 - float(score.mean()) / max(float(best["crps"].mean()), 1e-12)
        worst = np.argsort(-score, kind="stable")[:32]
        details: dict[str, Any] = {
            "season": season,
            "skill": skill,
            "naive": {k: {m: float(v.mean()) for m, v in row.items()} for k, row in naive.items()},
            "by_step": _by_step(paths, truth).tolist(),
            "worst": [{"index": int(i), "crps": float(score[i])} for i in worst],
            "legend": _LEGEND,
            "exhibits": self._shown(evidence, dataset, truth, quantiles, score),
        }
        text = signature(
            "forecast", split=evidence.split, n=evidence.n, paths=paths.shape[1], seed=evidence.seed,
            season=season, data=dataset.fingerprint[:12],
        )  # fmt: skip
        notes = () if skill > 0 else (f"The forecasts are no better than {against}.",)
        return Section(self.name, self.title, tuple(figures), details, notes, text)

    def margins(self, evidence: Evidence, dataset: Dataset, n: int) -> Margins:
        paths, truth = evidence.arrays["paths"], _truth(evidence, dataset)
        wrong = _crps(paths[other_items(evidence.n, evidence.seed)], truth)
        found = {
            "fidelity": planted_margin(wrong - _crps(paths, truth)),
            # A single path has an interval of no width, which holds nothing.
            "diversity": planted_margin(_coverage(paths, truth)),
        }
        return Margins(self.name, margin_key(evidence, dataset, n, _METHOD), margins_to_json(found))

    def compare(self, before: Evidence, after: Evidence, margins: Margins, dataset: Dataset) -> Verdicts:
        truth = _truth(before, dataset)
        sides = before.arrays["paths"], after.arrays["paths"]
        if sides[0].shape != sides[1].shape:
            raise CallError(f"both models must forecast the same, not {sides[0].shape} and {sides[1].shape}")
        score, inside = ([f(x, truth) for x in sides] for f in (_crps, _coverage))
        axes = item_verdicts(
            {
                "fidelity": Scores(FIDELITY, -score[0], -score[1]),
                "diversity": Scores(DIVERSITY, inside[0], inside[1]),
            },
            margins_from_json(margins.axes),
            name=self.name, seed=before.seed, identical=np.array_equal(*sides),
            signature=signature(
                "paired-forecast", n=before.n, paths=sides[0].shape[1], seed=before.seed, share=SHARE,
                data=dataset.fingerprint[:12], margins=margins.key[:8],
            ),
        )  # fmt: skip
        rise = score[1] - score[0]
        details = {
            "crps": {"before": float(score[0].mean()), "after": float(score[1].mean())},
            "coverage": {"before": float(inside[0].mean()), "after": float(inside[1].mean())},
            "worst": [{"index": int(i), "rise": float(rise[i])} for i in np.argsort(-rise)[:32]],
            "paired": True,
        }
        return Verdicts(self.name, before.n, axes, details, {"rise": rise})

    def _shown(
        self,
        evidence: Evidence,
        dataset: Dataset,
        truth: np.ndarray,
        quantiles: np.ndarray,
        score: np.ndarray,
    ) -> list[dict[str, Any]]:
        """Series at even places of the split, and the worst one; of several channels the first."""
        past = _measured(
            first_rows(dataset.split(evidence.split), PAST, evidence.n), evidence, dataset, _SEEN
        )
        rows = past.reshape(evidence.n, -1, past.shape[-1])[:, 0]
        came = truth.reshape(evidence.n, -1, truth.shape[-1])[:, 0]
        said = quantiles.reshape(3, evidence.n, -1, truth.shape[-1])[:, :, 0]
        even = np.unique(np.linspace(0, evidence.n - 1, min(_SHOWN, evidence.n)).astype(int))
        worst = int(np.argmax(score))
        titles = {**{int(i): f"Test series {i}" for i in even}, worst: f"The worst of all, series {worst}"}
        return [
            forecast_fan(f"{title}: CRPS {score[i]:.3g}", rows[i], came[i], said[:, i])
            for i, title in titles.items()
        ]

    def _naive(
        self, evidence: Evidence, dataset: Dataset, truth: np.ndarray
    ) -> tuple[dict[str, dict[str, np.ndarray]], int]:
        """Scores of each item under the naive forecasts, and the season (1: none)."""
        past = first_rows(dataset.split(evidence.split), PAST, evidence.n)
        season = estimate_season(first_rows(dataset.train, PAST, _SEASONAL))
        found = {"last": 1} | ({"seasonal": season} if season > 1 else {})
        return {name: _scores(past, truth, length) for name, length in found.items()}, season


def _scores(past: np.ndarray, truth: np.ndarray, season: int) -> dict[str, np.ndarray]:
    mean, deviation = naive_forecast(past, truth.shape[-1], season)
    z = 1.2815515655446004  # the 90 % quantile of the standard normal
    at = {LOW: mean - z * deviation, MIDDLE: mean, HIGH: mean + z * deviation}
    return {
        "crps": _per_item(crps_normal(mean, deviation, truth)),
        "absolute_error": _per_item(np.abs(mean - truth)),
        "coverage": _per_item(_inside(truth, at[LOW], at[HIGH])),
        **{f"pinball_{level:g}": _per_item(pinball(q, truth, level)) for level, q in at.items()},
    }


def _truth(evidence: Evidence, dataset: Dataset) -> np.ndarray:
    """The future that came, NaN where nothing was measured."""
    rows = first_rows(dataset.split(evidence.split), SAMPLE, evidence.n).astype(np.float64)
    return _measured(rows, evidence, dataset, MEASURED)


def _measured(rows: np.ndarray, evidence: Evidence, dataset: Dataset, mask: str) -> np.ndarray:
    """Rows of a column with NaN where that of the name `mask`, if there is one, is 0."""
    split = dataset.split(evidence.split)
    if mask not in split.columns:
        return rows
    return np.where(first_rows(split, mask, evidence.n) > 0, rows, np.nan)


def _crps(paths: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return _per_item(crps_ensemble(paths, truth))


def _coverage(paths: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Share of each item's values inside its 80 % interval `(n,)`."""
    low, high = _quantiles(paths, LOW, HIGH)
    return _per_item(_inside(truth, low, high))


def _inside(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """1 where the truth lies within, 0 where not, NaN where there is none."""
    return np.where(np.isnan(truth), np.nan, (truth >= low) & (truth <= high))


def _quantiles(paths: np.ndarray, *levels: float) -> np.ndarray:
    """Of the k paths: `(levels, n, *shape)`. At rank τ(k + 1), so that a further draw falls below with
    chance τ (Hyndman & Fan 1996, type 6; the usual type 7 gives 50 paths an interval of 77 % for 80 %)."""
    return np.quantile(paths.astype(np.float64), levels, axis=1, method="weibull")


def _by_step(paths: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """CRPS of each step ahead `(T,)`."""
    found = crps_ensemble(paths, truth)
    rows = found.reshape(-1, found.shape[-1])
    known = np.isfinite(rows)
    return np.where(known, rows, 0.0).sum(0) / np.maximum(known.sum(0), 1)


def _per_item(values: np.ndarray) -> np.ndarray:
    """The mean of each item's values, of those that are known."""
    return np.nanmean(np.asarray(values, np.float64).reshape(len(values), -1), 1)


def _within(interval: tuple[float, float]) -> tuple[float, float]:
    return max(0.0, interval[0]), min(1.0, interval[1])
