"""How unusual samples are for a model, ranked; and how well that separates a class that it has never seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from niwaki.core.errors import CallError
from niwaki.data.splitting import OOD
from niwaki.evaluation.judges.likelihood import EXACT, dequantised
from niwaki.evaluation.metrics.bits_per_dim import bits_per_dim
from niwaki.evaluation.statistics.auroc import auroc
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.latents import decode, encode
from niwaki.uses.reading import read_samples, samples_of
from niwaki_runtime.programs import LOG_PROB, Runner
from niwaki_runtime.specs import ConditionSpec, ValueSpec, resolve

__all__ = ["Anomalies"]

_CHOICES = 1000


class AnomalyOptions(UseOptions):
    """
    by:      likelihood (bits per dimension), reconstruction (mean squared error), or auto: what the model
             has, likelihood first
    against: a folder or an array of usual samples: how well the scores tell the given ones from them
    """

    files: ClassVar[tuple[str, ...]] = ("against",)
    by: Literal["auto", "likelihood", "reconstruction"] = "auto"
    against: str = ""


@register_use("anomalies")
class Anomalies(Use):
    """A score for each sample, the most unusual first; with usual samples beside them, AUROC.

    Without files: the test split, and the held-out classes against it where the data have any.
    """

    Options = AnomalyOptions
    summary = "a score for each sample, the most unusual first"
    example = "runs/digits-spline new-pictures/ against=known-pictures/ -o ranking.csv"

    def apply(self, call: Call, options: AnomalyOptions) -> Outcome:
        score, unit, spec = _scorer(call, options.by)
        x, names = samples_of(call, spec)
        found = score(x)
        order = np.argsort(-found, kind="stable")
        record: dict[str, Any] = {"n": len(x), "score": unit, "mean": float(found.mean())}
        lines = [f"{len(x)} samples by {unit}: {found.mean():.3f} on average, {found.max():.3f} at most"]
        usual, odd = None, None
        if options.against:
            usual, odd = score(read_samples([Path(options.against)], spec)[0]), found
        elif not call.files:
            dataset = call.dataset()
            if dataset is not None and OOD in dataset.extra:
                usual, odd = found, score(samples_of(call, spec, OOD)[0])
        if usual is not None and odd is not None:
            area, (low, high) = auroc(odd, usual)
            record |= {"auroc": area, "interval": [low, high], "usual": len(usual), "odd": len(odd)}
            lines.append(
                f"AUROC {area:.3f} [{low:.3f}, {high:.3f}]: {len(odd)} odd samples against {len(usual)} usual"
            )
        rows = [
            {"rank": r + 1, "name": names[i], "score": float(found[i])} for r, i in enumerate(map(int, order))
        ]
        lines += [f"{row['rank']:>4}  {row['score']:.4f}  {row['name']}" for row in rows[:5]]
        return Outcome(record=record, lines=lines, rows=rows, x=x[order], spec=spec, names=[], ending=".csv")


def _scorer(call: Call, by: str) -> tuple[Callable[[np.ndarray], np.ndarray], str, ValueSpec]:
    """A function of samples to scores `(n,)`, higher for odder ones; what they are; the samples' spec."""
    runner = call.model
    has = {"likelihood": LOG_PROB in runner.programs(), "reconstruction": _has_latents(runner)}
    chosen = by if by != "auto" else next((name for name, there in has.items() if there), "")
    if not has.get(chosen, False):
        raise CallError(
            "anomalies are scored by the program log_prob or by encode and decode, and this model has neither"
            if by == "auto"
            else f"this model cannot score by {by}; a bundle may have been exported without the programs"
        )
    if chosen == "likelihood":
        spec = runner.program(LOG_PROB).inputs["x"].value
        return lambda x: _code_length(call, x, spec), "bits per dimension", spec
    spec = runner.program("encode").inputs["x"].value

    def error(x: np.ndarray) -> np.ndarray:
        return -_best_class(call, "encode", lambda a: -_error(x, decode(call, encode(call, x, a), a)), len(x))

    return error, "mean squared error", spec


def _code_length(call: Call, x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """Bits per dimension of each sample; for a density, of the level that it stands for."""
    exact = spec.is_tokens or call.model.program(LOG_PROB).output.names == (EXACT,)
    levels = 0 if exact or spec.is_tokens else spec.levels
    if levels:
        x = dequantised(x, (spec.high - spec.low) / (levels - 1), call.seed)
    nats = _best_class(call, LOG_PROB, lambda a: _log_prob(call, x, a), len(x))
    found = bits_per_dim(
        np.append(nats, nats[-1:]),  # the metric wants two samples or more
        dims=spec.size,
        levels=levels or None,
        span=spec.high - spec.low,
    ).per_sample
    return np.asarray(found)[:-1]


def _has_latents(runner: Runner) -> bool:
    return {"encode", "decode"} <= set(runner.programs())


def _log_prob(call: Call, x: np.ndarray, asked: dict[str, np.ndarray]) -> np.ndarray:
    made = call.model.run(LOG_PROB, len(x), seed=call.seed, inputs={"x": x, **asked}, progress=call.progress)
    return np.asarray(call.model.backend().numpy(made), np.float64)


def _error(x: np.ndarray, back: np.ndarray) -> np.ndarray:
    return np.asarray(np.square(x.astype(np.float64) - back).reshape(len(x), -1).mean(1))


def _best_class(call: Call, program: str, value: Any, n: int) -> np.ndarray:
    """The largest value `(n,)` over the classes that are not given: an oddity belongs to none of them."""
    specs: dict[str, ConditionSpec] = {
        k: s for k, s in call.model.program(program).inputs.items() if k not in ("x", "eps")
    }
    if not specs:
        return np.asarray(value({}))
    if call.asked is not None:
        return np.asarray(value(resolve(specs, call.asked, 0, n)))
    if len(specs) > 1 or not all(s.is_label and s.size <= _CHOICES for s in specs.values()):
        raise CallError(
            "say what the samples are, with --class: this model is conditioned on more than a class"
        )
    ((name, spec),) = specs.items()
    each = [value({name: np.full(n, k, np.int64)}) for k in range(spec.size)]
    return np.asarray(np.max(each, axis=0))
