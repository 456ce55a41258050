"""The plan that `niwaki search` finds within a budget, in the time that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression_rows.artefact import Artefact
from compression_rows.subject import Subject
from niwaki.api.search import search
from niwaki.core.contract import NiwakiError

__all__ = ["BUDGETS", "found_by_search", "search_settings"]

BUDGETS: Mapping[str, str] = {
    "digits-gan": "size=/40, latency=/4",
    "glyphs-gan": "size=/20, latency=/10",
    "digits-ddpm": "latency=/20, size=/8",
    "outside-dcgan": "size=/15, latency=/5",
    "language": "size=/4, latency=/2",
    "docs-transformer": "size=/6, latency=/3.5",
}
"""Model → what its bundle may cost."""
QUICK, MINUTES = 2, 20


def search_settings(subject: Subject) -> list[Any]:
    """What decides the row."""
    return [BUDGETS[subject.name], QUICK if subject.quick else MINUTES]


def found_by_search(subject: Subject, directory: Path) -> tuple[Artefact, dict[str, Any]]:
    """One search; where it was killed it goes on. Raises NiwakiError with the reason of a refusal."""
    budget, minutes = search_settings(subject)
    record = search(
        subject.model, data=subject.dataset, out=subject.directory / "search", budget=budget,
        time=f"{minutes}m", n=subject.n, seed=subject.seed,
        features=None if subject.tokens else subject.features,
    )  # fmt: skip
    if record.bundle is None:
        raise NiwakiError(f"refused: {record.refusal['text']}")
    notes = {"budget": budget, "limits": record.limits, "spent": record.spent, "plan": record.plan}
    return Artefact("bundle", str(record.bundle), "openvino"), notes
