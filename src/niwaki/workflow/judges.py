"""Who looks at samples, and what is asked of a model that is looked at: the same for runs and for loose
models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import ConditionSpec
from niwaki.data import Dataset
from niwaki.workflow.reporter import Reporter

__all__ = ["Asking", "ask", "balanced_labels", "judges", "tell_findings"]


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


def tell_findings(dataset: Dataset, reporter: Reporter) -> None:
    """What the audit of the data found, but for notes."""
    for finding in dataset.audit.findings:
        if finding.level != "note":
            reporter.note(f"data {finding.level}: {finding.text}")


def ask(
    conditions: Mapping[str, ConditionSpec], dataset: Dataset, n: int
) -> tuple[dict[str, np.ndarray] | None, np.ndarray | None]:
    """What is asked of a model with these conditions, and the class that each of n samples is asked to be
    `(n,)`. The classes follow the test split's, so that generated and real samples are balanced alike. Both
    None where it takes no class, or the data have none."""
    labels = balanced_labels(dataset, n)
    names = [name for name, spec in conditions.items() if spec.is_label]
    if labels is None or not names:
        return None, None
    return dict.fromkeys(names, labels), labels


def balanced_labels(dataset: Dataset, n: int) -> np.ndarray | None:
    """Classes that follow the test split's `(n,)`; None without."""
    y = dataset.test.y
    return None if y is None else np.resize(y.cpu().numpy(), n)


class Asking:
    """What a session and a setting, which have data, know of samples that are asked for."""

    @property
    def dataset(self) -> Dataset:
        raise NotImplementedError

    def labels(self, n: int) -> np.ndarray | None:
        """Classes that follow the test split's; None without."""
        return balanced_labels(self.dataset, n)

    def condition(self, conditions: Mapping[str, ConditionSpec], n: int) -> dict[str, np.ndarray] | None:
        """What is asked of a model that is judged."""
        return self.ask(conditions, n)[0]

    def ask(
        self, conditions: Mapping[str, ConditionSpec], n: int
    ) -> tuple[dict[str, np.ndarray] | None, np.ndarray | None]:
        """The same, and the class of each sample."""
        return ask(conditions, self.dataset, n)
