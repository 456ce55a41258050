"""What an evaluation finds beside its numbers, with its progress told to a reporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.data import Dataset
from niwaki.evaluation.judges.findings import FINDINGS, findings
from niwaki.evaluation.judges.findings import fitness as check_fitness
from niwaki.workflow.reporter import Reporter

__all__ = ["FINDINGS", "findings", "fitness"]


def fitness(
    dataset: Dataset, extractors: Sequence[Any], *, seed: int = 0, cache: Path | None, reporter: Reporter
) -> dict[str, Mapping[str, Any]]:
    """By extractor, whether it is fit to judge (`niwaki.evaluation.judges.findings.fitness`)."""
    return check_fitness(
        dataset, extractors, seed=seed, cache=cache,
        on_check=lambda name: reporter.stage("ladders", f"is '{name}' fit to judge?"),
    )  # fmt: skip
