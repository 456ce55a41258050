"""Batch normalization: whether its statistics would be those of enough samples."""

from __future__ import annotations

from niwaki.training.batch_norms import FEWEST, few_for_batch_norms
from niwaki.training.checks.base import CHECKS, Check, Looked, Subject

__all__ = ["BatchNorms"]


@CHECKS.register("batch_norms")
class BatchNorms(Check):
    """The samples that each layer of batch normalization would see at a time: of one device and one
    micro-batch."""

    title = "batch normalization"

    def look(self, subject: Subject) -> Looked:
        if said := few_for_batch_norms(subject.make(), subject.config):
            return Looked.one("warning", "batch normalization", said)
        text = f"no batch normalization sees fewer than {FEWEST} samples"
        return Looked.one("note", "batch normalization", text)
