"""How unusual samples are for a model, ranked; and how well that separates a class that it has never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from niwaki.data.splitting import OOD
from niwaki.evaluation.statistics.auroc import auroc
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.reading import read_samples, samples_of
from niwaki.uses.scoring import scorer

__all__ = ["Anomalies"]


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
    makes = False
    example = "runs/digits-spline new-pictures/ against=known-pictures/ -o ranking.csv"

    def apply(self, call: Call, options: AnomalyOptions) -> Outcome:
        score, unit, spec = scorer(call, options.by)
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
