"""Shares of groups as fairlearn frames them: a row for each real and each generated sample, grouped by what
it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from niwaki.core.errors import CallError, NiwakiError

__all__ = ["fairness_frame"]


def fairness_frame(
    real: Mapping[str, np.ndarray], generated: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]]
) -> Any:
    """A `fairlearn.metrics.MetricFrame` over the groups that samples show, of one attribute or of the
    meetings of several.

    real, generated: integers `(n,)` by attribute, of samples as one recogniser sees them
    names:           of the values, by attribute, in the order in which groups are to be shown
    Its metrics, by group: `generated` and `real`, the shares of the group among either, and `ratio` of the
    two: 1 where the model makes the group as often as the data have it. `difference()`, `ratio()`,
    `group_min()` are fairlearn's.
    Raises CallError for attributes that one of the two lacks, NiwakiError without fairlearn.
    """
    try:
        import pandas
        from fairlearn.metrics import MetricFrame
    except ModuleNotFoundError as error:
        raise NiwakiError(f"frames need {error.name}; pip install 'niwaki[fairness]'") from None
    missing = [name for name in names if name not in real or name not in generated]
    if missing or not names:
        raise CallError(
            f"there is no '{missing[0]}' to group by" if missing else "name attributes to group by"
        )
    sizes = [len(next(iter(rows.values()))) for rows in (generated, real)]
    columns = {
        name: [known[int(v)] for v in np.concatenate([generated[name], real[name]])]
        for name, known in names.items()
    }
    is_generated = np.repeat([1, 0], sizes)

    def share(of: int) -> Any:
        def metric(true: Any, predicted: Any) -> float:
            return float((np.asarray(predicted) == of).sum()) / sizes[1 - of]

        return metric

    def ratio(true: Any, predicted: Any) -> float:
        there = share(0)(true, predicted)
        return share(1)(true, predicted) / there if there else float("inf")

    return MetricFrame(
        metrics={"generated": share(1), "real": share(0), "ratio": ratio},
        y_true=is_generated,
        y_pred=is_generated,
        sensitive_features=pandas.DataFrame(columns),
    )
