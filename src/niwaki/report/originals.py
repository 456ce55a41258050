"""Real samples that stand beside generated ones: which of them the page shows, and what was kept of them."""

from __future__ import annotations

from niwaki.report import memory, modes
from niwaki.report.pictures import drawable
from niwaki.report.record import ORIGINALS, RunRecord

__all__ = ["ORIGINALS", "wanted"]


def wanted(record: RunRecord) -> dict[str, list[int]]:
    """By split, the positions of the real samples that the page shows; empty where samples are no pictures.
    `originals.npz` of the run directory is to hold them."""
    if not drawable(record.spec):
        return {}
    return {"test": modes.positions(record), "train": memory.positions(record)}
