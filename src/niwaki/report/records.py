"""The records of a run: a file per stage, written by that stage alone, read by report and command line.

A record says what a stage found. Whether the stage still holds (its inputs, its seconds) is in `stages/`.
Runs of the first edition, whose later stages completed the files of earlier ones, are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from niwaki.core.errors import NiwakiError
from niwaki.core.store import jsonable, read_json, write_json
from niwaki.data.audit import is_said

__all__ = [
    "CompressionRecord",
    "DataRecord",
    "EvaluationRecord",
    "ExportRecord",
    "FailureRecord",
    "Record",
    "TrainingRecord",
    "VerdictRecord",
    "said_of",
]


@dataclass(frozen=True)
class Record:
    """Base of all records: a file name, a version, plain JSON.

    file:    in the run directory
    version: of its form; a newer one is refused
    """

    file: ClassVar[str]
    version: ClassVar[int] = 2

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version, **{f.name: getattr(self, f.name) for f in fields(self)}}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Raises NiwakiError for a newer version; keys that it does not know are left out."""
        if int(record.get("version", 1)) > cls.version:
            raise NiwakiError(f"{cls.file} was written by a newer niwaki; update niwaki")
        names = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in record.items() if k in names})

    def write(self, directory: Path) -> None:
        """Into its file, whole or not at all."""
        write_json(directory / self.file, jsonable(self))

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """None where the stage has not written it. Raises NiwakiError where the file is broken."""
        path = directory / cls.file
        if not path.exists():
            return None
        found = read_json(path)
        if not isinstance(found, Mapping):
            raise NiwakiError(f"{path} is not the record of a stage; run the stage again")
        return cls.from_json(found)


@dataclass(frozen=True)
class DataRecord(Record):
    """What was read: its signature (what decides it), fingerprint, sizes of the splits, specs, audit."""

    file: ClassVar[str] = "data.json"
    signature: str = ""
    fingerprint: str = ""
    name: str = ""
    samples: dict[str, int] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)


def said_of(run: Path) -> list[dict[str, Any]]:
    """Findings on the data of a run that a user has to see: what was assumed, left out or set aside."""
    record = DataRecord.read(run)
    found = [] if record is None else record.audit.get("findings") or []
    return [finding for finding in found if is_said(finding["level"], finding["kind"])]


@dataclass(frozen=True)
class TrainingRecord(Record):
    """How the weights came about; `given` where they were not trained here.

    longer: lengths that a stage had before the training was made longer, `{at, stage, then, now}`
    looks:  what the watch has seen, `{step, stage, kind, …}`: of the samples of an adversarial training, of
            gradients where they failed
    health: how the gradients of every layer fared, `{stage, layer, count, gradient, update, …}`
    chosen: what rules have chosen from the data, `{stage, name, value, text}`
    told:   failures that it told, `{step, stage, failure, text}`; `lasting` where its last look shows it too
    """

    file: ClassVar[str] = "training.json"
    steps: int = 0
    parameters: int = 0
    training_seconds: float = 0.0
    samples_per_second: float = 0.0
    last: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_loss: float | None = None
    probe: dict[str, Any] | None = None
    given: str = ""
    longer: list[dict[str, Any]] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    health: list[dict[str, Any]] = field(default_factory=list)
    chosen: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class FailureRecord(Record):
    """The stage in which the last call failed, and why. The next stage that ends well takes it away."""

    file: ClassVar[str] = "failure.json"
    stage: str = ""
    error: str = ""


@dataclass(frozen=True)
class EvaluationRecord(Record):
    """What the judges say of the trained model.

    sections:   one per judge, the first speaks first (`niwaki.evaluation.judges.Section`)
    evidence:   by judge, what it was asked: split, n, seed, facts; arrays lie in `evidence/`
    margins:    by judge, or why there are none
    trained:    metrics of its samples, by extractor; clusters, bias, gate, modes: what else was found
    extractors: what looked at the samples, and their `fitness`
    remembered: where the training went on from another model: both by that one's data, as `compare` says it
    """

    file: ClassVar[str] = "evaluation.json"
    n: int = 0
    seed: int = 0
    sections: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    margins: dict[str, Any] = field(default_factory=dict)
    extractors: list[dict[str, Any]] = field(default_factory=list)
    fitness: dict[str, Any] = field(default_factory=dict)
    trained: dict[str, Any] = field(default_factory=dict)
    clusters: dict[str, Any] = field(default_factory=dict)
    bias: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    modes: dict[str, Any] = field(default_factory=dict)
    remembered: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CompressionRecord(Record):
    """The plan that was carried out, step by step, and what was foreseen."""

    file: ClassVar[str] = "compression.json"
    plan: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    warnings: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class ExportRecord(Record):
    """The bundle: its programs, its differences from torch, and the figures taken beside the model."""

    file: ClassVar[str] = "export.json"
    bundle: str = ""
    programs: list[str] = field(default_factory=list)
    parity: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class VerdictRecord(Record):
    """The bundle on its engine against the trained model.

    verdict:    by axis, the verdict of the first judge that has a say on it
    verdicts:   by judge, everything that it says
    sections:   what the judges say of the bundle
    bundle:     metrics of its samples; clusters, bias, gate, modes: what else was found
    comparison: the particulars of the samples' verdict
    bytes:      of the bundle, its own records included
    """

    file: ClassVar[str] = "verdict.json"
    engine: str = ""
    n: int = 0
    verdict: dict[str, Any] = field(default_factory=dict)
    verdicts: dict[str, Any] = field(default_factory=dict)
    sections: list[dict[str, Any]] = field(default_factory=list)
    bundle: dict[str, Any] = field(default_factory=dict)
    comparison: dict[str, Any] = field(default_factory=dict)
    clusters: dict[str, Any] = field(default_factory=dict)
    bias: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    modes: dict[str, Any] = field(default_factory=dict)
    bytes: int = 0
