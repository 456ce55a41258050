"""Real samples that stand beside generated ones: which of them the page shows, and what was kept of them."""

from __future__ import annotations

from niwaki.report import memory, modes, pictures, sheet
from niwaki.report.record import ORIGINALS, RunRecord

__all__ = ["ORIGINALS", "beside", "wanted"]


def wanted(record: RunRecord) -> dict[str, list[int]]:
    """By split, the positions of the real samples that the page shows; empty where samples are no pictures.
    `originals.npz` of the run directory is to hold them."""
    if not pictures.drawable(record.spec):
        return {}
    return {"test": modes.positions(record), "train": memory.positions(record)}


def beside(record: RunRecord) -> int:
    """How many real test samples are to stand beside generated ones; 0 where the run kept none of those."""
    made, spec = record.samples.get("before"), record.spec
    if made is None or spec is None or not len(made):
        return 0
    return sheet.shown_of(spec, pictures.kind(made[0], spec, record.files))
