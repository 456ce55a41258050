"""What a run directory holds, read for the report. A missing file leaves its part empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import niwaki_runtime
from niwaki.core.array_files import read_array_file
from niwaki.core.contract import BundleError, DataSpec, NiwakiError
from niwaki.core.store import jsonable, read_json, read_jsonl
from niwaki.report.records import ExportRecord, FailureRecord, VerdictRecord

__all__ = ["ORIGINALS", "Measure", "RunRecord", "measures", "read_run"]

ORIGINALS = "originals.npz"
"""Real samples that the page shows: `test`, `train`, and their places there: `test_index`, `train_index`; and
those of the test split that stand beside made ones: `real_samples`, `real_labels`."""


@dataclass(frozen=True)
class Measure:
    """One metric as the evaluation recorded it; the last key of its path is its name."""

    path: tuple[str, ...]
    record: Mapping[str, Any]

    @property
    def metric(self) -> str:
        return self.path[-1]

    @property
    def where(self) -> str:
        """The features it was computed in, by name."""
        return self.path[-2] if len(self.path) > 1 else ""

    @property
    def by_class(self) -> bool:
        """Whether it is of one class alone: such metrics are drawn in a place of their own."""
        return any("class" in part and "classifier" not in part for part in self.path[:-1]) or (
            "per_class" in self.metric
        )

    @property
    def value(self) -> float | None:
        return self.record.get("value")


@dataclass
class RunRecord:
    """Everything that the report shows comes from here."""

    path: Path
    run: dict[str, Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    compression: dict[str, Any] = field(default_factory=dict)
    sensitivity: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    verdicts: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    originals: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)
    real: dict[str, np.ndarray] = field(default_factory=dict)
    manifest: Any = None
    bundle: Path | None = None
    bundle_error: str = ""
    failure: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.run.get("name") or self.path.name)

    @property
    def spec(self) -> DataSpec | None:
        """Of the samples; from the run's data or, where it has none, from the bundle."""
        if self.data.get("spec"):
            return DataSpec.from_json(self.data["spec"])
        return (
            None if self.manifest is None else DataSpec({"x": self.manifest.spec, **_labels(self.manifest)})
        )

    @property
    def measured(self) -> dict[str, Any]:
        """Figures by way of sampling: `before`, `compiled`, `float32`, `after`."""
        return dict(self.compression.get("measured") or {})

    @property
    def comparison(self) -> dict[str, Any]:
        """Before against after, with a verdict on each axis."""
        found = dict(self.evaluation.get("comparison") or {})
        return {**(self.compression.get("verdict") or {}), **found}

    @property
    def files(self) -> dict[str, str]:
        """What the model ships beside its graphs: its tokenizer."""
        return dict(self.model.get("files") or {})

    @property
    def judged_by_samples(self) -> bool:
        """Whether sets of samples were, or will be, compared with real ones; a run that was judged by other
        means alone (texts by their likelihood, forecasts by what came) has nothing to show of it."""
        found = self.sections.get("before")
        return not found or any(section.get("judge") == "samples" for section in found)

    @property
    def labels(self) -> np.ndarray | None:
        """Classes that the samples were asked for `(n,)`; None where nothing was asked."""
        labels = self.samples.get("labels")
        return None if labels is None else labels.astype(int)

    def caption(self, labels: np.ndarray | None, i: int) -> str:
        """Under sample i: its class, or else its number."""
        return f"sample {i}" if labels is None else self.class_name(int(labels[i]))

    def class_name(self, label: int) -> str:
        spec = self.spec
        return spec.class_names[label] if spec and label < len(spec.class_names) else str(label)


def _labels(manifest: Any) -> dict[str, Any]:
    """Labels that a bundle can be asked for, as columns."""
    return {name: c.value for name, c in manifest.conditions.items() if c.is_label}


def read_run(path: Path) -> RunRecord:
    """Raises NiwakiError where `path` is no run directory or one of its files is broken."""
    if not (path / "run.json").is_file():
        raise NiwakiError(f"{path} is not a run directory (it has no run.json)")
    record = RunRecord(path, read_json(path / "run.json"))
    record.failure = jsonable(FailureRecord.read(path)) or {}
    gone = _not_reached(record.failure)
    record.metrics = read_jsonl(path / "metrics.jsonl")
    for name in ("data", "evaluation", "compression", "sensitivity", "training", "search"):
        if name not in gone and (path / f"{name}.json").exists():
            setattr(record, name, read_json(path / f"{name}.json"))
    if (path / "model" / "model.json").exists():
        record.model = read_json(path / "model" / "model.json")
    _complete(record, gone)
    record.stages = _stages(path, record.run)
    record.recipe = _recipe(path / "recipe.yaml")
    record.samples = _pairs(path) if not gone & {"evaluation"} else {}
    if "verdict" in gone:
        record.samples = {k: v for k, v in record.samples.items() if k in ("before", "labels")}
    kept = _kept(path / ORIGINALS, record.data.get("fingerprint"))
    record.originals = _originals(kept)
    record.real = {name: kept[f"real_{name}"] for name in ("samples", "labels") if f"real_{name}" in kept}
    record.bundle = None if gone else _bundle(path, record.name)
    if record.bundle:
        try:
            record.manifest = niwaki_runtime.inspect(record.bundle)
        except BundleError as error:
            record.bundle_error = str(error)
    return record


_FILES = {
    "train": "training", "evaluate": "evaluation", "compress": "compression", "export": "export",
    "verdict": "verdict",
}  # fmt: skip
"""By stage, in their order, the record that it writes."""


def _not_reached(failure: Mapping[str, Any]) -> set[str]:
    """Records of the stage that failed and of those after it: what lies there is of an earlier call."""
    order = list(_FILES)
    if failure.get("stage") not in order:
        return {"verdict"} if failure else set()
    return {_FILES[stage] for stage in order[order.index(failure["stage"]) :]}


def _complete(record: RunRecord, gone: set[str]) -> None:
    """What later stages found, beside what earlier ones did; runs of the first edition hold it already."""
    record.data = record.data or dict(record.run.get("data") or {})
    export = None if "export" in gone else ExportRecord.read(record.path)
    verdict = None if "verdict" in gone else VerdictRecord.read(record.path)
    record.sections = {"before": list(record.evaluation.get("sections") or [])}
    if export is not None:
        record.compression["measured"] = {k: dict(v) for k, v in export.measured.items()}
    if verdict is None:
        return
    for part in ("clusters", "bias", "gate", "modes"):
        record.evaluation[part] = {**(record.evaluation.get(part) or {}), **getattr(verdict, part)}
    record.evaluation |= {"bundle": verdict.bundle, "comparison": {**verdict.comparison, **verdict.verdict}}
    record.compression["verdict"] = verdict.verdict
    record.sections["after"] = verdict.sections
    record.verdicts = verdict.verdicts
    after = record.compression.get("measured", {}).get("after")
    if after and verdict.bytes:
        after["bytes"] = verdict.bytes


def _stages(path: Path, run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Where every stage stands, in the order in which they were done."""
    found = {p.stem: read_json(p) for p in (path / "stages").glob("*.json")}
    states = {**dict(run.get("legs") or {}), **found}
    order = ("train", "evaluate", "compress", "export", "verdict", "report")
    return {name: states[name] for name in order if name in states}


def _pairs(path: Path) -> dict[str, np.ndarray]:
    """Samples before and after, their classes, damage and nearest training samples."""
    first, second = _samples(path / "evidence" / "samples.npz"), _samples(path / "verdict" / "samples.npz")
    if not first:
        return _samples(path / "samples.npz")  # the first edition kept both in one file
    named = {"before": first.get("samples"), "labels": first.get("labels"), "after": second.get("samples")}
    named |= {key: second.get(key) for key in ("damage", "nearest")}
    return {key: value for key, value in named.items() if value is not None}


def measures(tree: Any, path: tuple[str, ...] = ()) -> list[Measure]:
    """All metrics below `tree`: whatever has a value and a signature that repeats it."""
    if not isinstance(tree, Mapping):
        return []
    if "value" in tree and "signature" in tree:
        return [Measure(path, tree)]
    return [m for key, value in tree.items() for m in measures(value, (*path, str(key)))]


def _recipe(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NiwakiError(f"{path} is not readable YAML: {error}") from error
    return found if isinstance(found, dict) else {}


def _samples(path: Path) -> dict[str, np.ndarray]:
    return read_array_file(path) if path.exists() else {}


def _kept(path: Path, fingerprint: Any) -> dict[str, np.ndarray]:
    """Real samples; nothing where they are of other data than the run's."""
    kept = _samples(path)
    return kept if str(kept.get("fingerprint", "")) == fingerprint else {}


def _originals(kept: Mapping[str, np.ndarray]) -> dict[str, dict[int, np.ndarray]]:
    """By split and position."""
    return {
        split: dict(zip(kept[f"{split}_index"].tolist(), kept[split], strict=True))
        for split in ("test", "train")
        if split in kept and f"{split}_index" in kept
    }


def _bundle(path: Path, name: str) -> Path | None:
    """The run's own bundle: by its name, or the only one there."""
    if (path / f"{name}.niwaki").exists():
        return path / f"{name}.niwaki"
    found = sorted(p for p in path.glob("*.niwaki") if not p.stem.endswith("-float32"))
    return found[0] if len(found) == 1 else None
