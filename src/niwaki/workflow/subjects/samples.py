"""Samples and where they are from: drawn by a runner, or read from files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.judges import Evidence
from niwaki.evaluation.statistics.samples import drawn_evenly
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.reporter import counter
from niwaki.workflow.subjects.array_samples import read_arrays
from niwaki.workflow.subjects.files import FileSamples, read_folder
from niwaki.workflow.subjects.subject import Subject

__all__ = ["Origin", "evidence_of_files"]

_REAL = 512
"""Training samples that the values of files have to agree with."""


@dataclass(frozen=True)
class Origin:
    """What a record says of where samples are from.

    seed:    of the noise that sample i was made from; None where that is not known, so that nothing is paired
    broken:  files that were set aside: `file` and `reason`
    remarks: what was assumed
    """

    kind: str
    path: Path
    n: int
    labels: bool
    seed: int | None = None
    engine: str = ""
    broken: list[dict[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path), "engine": self.engine or None}


def evidence_of_files(
    subject: Subject, context: EvaluationContext, *, resize: bool = False
) -> tuple[Evidence, Origin]:
    """All samples that lie in a folder or an array file, as evidence for the judge of samples.

    Raises CallError for samples that do not fit the data.
    """
    spec = context.dataset.spec
    context.reporter.stage("samples", str(subject.path))
    given: FileSamples
    extra = getattr(context.data, "model_extra", None) or {}
    if subject.kind == "arrays":
        first = torch.arange(min(_REAL, len(context.dataset.train)))
        given = read_arrays(
            subject.path, spec, real=context.dataset.train.values(first).cpu().numpy(),
            units=extra.get("value_range"), resize=resize,
        )  # fmt: skip
    else:
        given = read_folder(
            subject.path,
            spec,
            background=int(extra.get("background", 255)),
            resize=resize,
            progress=counter(context.reporter),
        )
    for file in given.broken:
        context.reporter.note(f"set aside: {file['file']}: {file['reason']}")
    for remark in given.remarks:
        context.reporter.note(remark)
    if not len(given.x):
        raise CallError(f"{subject.path} holds no samples")
    most = len(context.dataset.train)
    index = drawn_evenly(given.labels, len(given.x), most, context.config.seed)
    remarks = list(given.remarks)
    if len(index) < len(given.x):
        how = "at random" if given.labels is None else "at random, of every class its share"
        remarks.append(
            f"{len(given.x) - len(index):,} of {len(given.x):,} samples are left out: {most:,}, as many as "
            f"there are training samples, are drawn {how} (evaluate.seed {context.config.seed})"
        )
        context.reporter.note(remarks[-1])
    arrays: dict[str, np.ndarray] = {"samples": given.x[index]}
    if given.labels is not None:
        arrays["labels"] = given.labels[index]
    origin = Origin(
        subject.kind, subject.path, len(given.x), given.labels is not None, given.seed, "",
        given.broken, remarks,
    )  # fmt: skip
    return Evidence("samples", "test", len(index), given.seed or 0, arrays), origin
