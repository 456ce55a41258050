"""Who looks at samples, and what is asked of a model that is looked at: the same for runs and for loose
models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.contract import ConditionSpec
from niwaki.data import Dataset
from niwaki.workflow.reporter import Reporter

__all__ = ["asked_of", "balanced_labels", "judges"]


def judges(
    dataset: Dataset, wanted: Sequence[str], *, seed: int, cache: Path | None, reporter: Reporter
) -> list[Any]:
    """The extractors by name, from `cache` where they were made before; a classifier, which needs labels, is
    left out where there are none."""
    from niwaki.features import build

    names = [f for f in wanted if f != "classifier" or dataset.spec.classes > 1]
    reporter.stage("features", ", ".join(names))
    if len(names) < len(wanted):
        reporter.note("the data have no labels, so no classifier looks at the samples")
    return build(
        names,
        dataset,
        cache=cache,
        seed=seed,
        progress=lambda name, done, total: reporter.update(done, total, {"": name}),
    )


def balanced_labels(dataset: Dataset, n: int) -> np.ndarray | None:
    """Classes that follow the test split's, so that generated and real samples are balanced alike `(n,)`;
    None without."""
    y = dataset.test.y
    return None if y is None else np.resize(y.cpu().numpy(), n)


def asked_of(
    conditions: Mapping[str, ConditionSpec], dataset: Dataset, n: int
) -> dict[str, np.ndarray] | None:
    """What is asked of a model with these conditions: the balanced classes. None where it takes none."""
    labels = balanced_labels(dataset, n)
    if labels is None:
        return None
    return {name: labels for name, spec in conditions.items() if spec.kind == "class"} or None
