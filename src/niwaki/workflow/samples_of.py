"""Where samples come from: a run, a bundle on its engine, a folder of images, arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from niwaki.core.contract import CallError, GenerativeModel
from niwaki.training.hardware import choose_device
from niwaki.workflow.given import Given, is_arrays, read_arrays, read_folder
from niwaki.workflow.kept import read_samples
from niwaki.workflow.load import is_bundle, is_model, load
from niwaki.workflow.reporter import Reporter, counter
from niwaki.workflow.rundir import RunDirectory, is_run
from niwaki.workflow.setting import Setting
from niwaki_runtime import load as load_bundle

__all__ = ["Kind", "Source", "home", "kind_of", "sample_model", "samples_of"]

Kind = Literal["run", "model", "bundle", "folder", "arrays"]


@dataclass(frozen=True)
class Source:
    """Samples and where they are from.

    x:       `(n, *shape)` float32 in the spec's range
    labels:  the class that each was asked to be `(n,)`, or None
    seed:    of the noise that sample i was made from; None where that is not known, so that nothing is paired
    engine:  of a bundle
    broken:  files that were set aside: `file` and `reason`
    remarks: what was assumed
    """

    kind: Kind
    path: Path
    x: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    seed: int | None = None
    engine: str = ""
    broken: list[dict[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the samples are called: `trained`, `bundle` or `samples`."""
        return {"run": "trained", "model": "trained", "bundle": "bundle"}.get(self.kind, "samples")

    def first(self, n: int) -> Source:
        return replace(self, x=self.x[:n], labels=None if self.labels is None else self.labels[:n])

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": str(self.path),
            "n": len(self.x),
            "labels": self.labels is not None,
            "seed": self.seed,
            "engine": self.engine or None,
            "broken": self.broken,
            "remarks": self.remarks,
        }


def kind_of(what: str | Path) -> Kind | None:
    """What lies at a path; None where nothing does that samples come from."""
    path = Path(what)
    if is_bundle(path):
        return "bundle"
    if is_run(path):
        return "run"
    if is_model(path):
        return "model"
    if is_arrays(path):
        return "arrays"
    return "folder" if path.is_dir() and not (path / "recipe.yaml").is_file() else None


def home(what: str | Path) -> Path | None:
    """The run directory that says which data belong to a run or a bundle; None for all else."""
    path = Path(what)
    if is_run(path):
        return path
    inside = is_bundle(path) or is_model(path)
    return path.parent if inside and is_run(path.parent) else None


def samples_of(
    what: str | Path, setting: Setting, reporter: Reporter, *, engine: str = "auto", resize: bool = False
) -> Source:
    """The samples of a run, a model or a bundle (as many as the setting judges, of its seed, of classes that
    follow the test split), or all that lie in a folder or an array file.

    Raises CallError where there is nothing to sample from, and for samples that do not fit the data.
    """
    path, kind, spec = Path(what), kind_of(what), setting.dataset.spec
    if kind is None:
        raise CallError(
            f"{what} is neither a run, a model, a bundle, a folder of images nor an .npz or .npy file"
            if path.exists()
            else f"{what} does not exist"
        )
    if engine != "auto" and kind != "bundle":
        raise CallError(f"{what} is no bundle, so it runs on no engine; leave the engine out")
    if kind in ("folder", "arrays"):
        given = _read(path, kind, setting, reporter, resize)
        return Source(
            kind, path, given.x, given.labels, given.seed, broken=given.broken, remarks=given.remarks
        )
    n, seed = setting.n, setting.evaluate.seed
    if kind == "bundle":
        made: Any = load_bundle(path, engine=engine)
    else:
        kept = _kept(path, setting, n) if kind == "run" else None
        if kept is not None:
            return kept
        made = load(path)
    if tuple(made.spec.shape) != tuple(spec.shape):
        raise CallError(
            f"{path} makes samples of shape {tuple(made.spec.shape)}, the data of "
            f"'{setting.data.source}' have {tuple(spec.shape)}; name others with --data"
        )
    asked, labels = setting.ask(dict(made.conditions), n)
    on = f"the bundle on {made.engine}" if kind == "bundle" else f"{path}"
    reporter.stage("sample", f"{n:,} samples of {on}")
    if kind == "bundle":
        x = made.sample(n, seed=seed, condition=asked, progress=counter(reporter))
        return Source(kind, path, x, labels, seed, made.engine)
    made.to(choose_device("auto"))
    return Source(kind, path, sample_model(made, n, seed, asked, reporter), labels, seed)


def sample_model(model: GenerativeModel, n: int, seed: int, condition: Any, reporter: Reporter) -> np.ndarray:
    """Samples of a torch model where it stands, float32 on the CPU."""
    # in float32: TF32 would put the GPU's rounding into the pairs that damage is measured on
    with torch.backends.cudnn.flags(allow_tf32=False):
        made = model.sample(n, seed=seed, condition=condition, progress=counter(reporter))
    return np.asarray(made.float().cpu().numpy())


def _kept(path: Path, setting: Setting, n: int) -> Source | None:
    """The samples that a run's evaluation kept, if they are those that would be made now."""
    run = RunDirectory.open(path)
    leg = run.leg("evaluate")
    known = leg.get("made_from", {})
    if leg["status"] != "done" or not run.samples.exists() or known.get("model") != run.result("train"):
        return None
    if known.get("evaluate", {}).get("seed") != setting.evaluate.seed:
        return None
    kept = read_samples(run.samples)
    x, labels = kept.get("before"), kept.get("labels")
    if x is None or len(x) < n or x.shape[1:] != tuple(setting.dataset.spec.shape):
        return None
    asked = setting.labels(n)
    if labels is not None and (asked is None or not np.array_equal(labels[:n], asked)):
        return None
    return Source("run", path, x, labels, setting.evaluate.seed).first(n)


def _read(path: Path, kind: Kind, setting: Setting, reporter: Reporter, resize: bool) -> Given:
    spec = setting.dataset.spec
    reporter.stage("samples", str(path))
    if kind == "arrays":
        given = read_arrays(path, spec, resize=resize)
    else:
        background = int((setting.data.model_extra or {}).get("background", 255))
        given = read_folder(path, spec, background=background, resize=resize, progress=counter(reporter))
    for file in given.broken:
        reporter.note(f"set aside: {file['file']}: {file['reason']}")
    for remark in given.remarks:
        reporter.note(remark)
    return given
