"""What a verb is about, whatever it is: something that runs programs, or samples that lie in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from niwaki.core.contract import CallError, DataSpec, GenerativeModel, Runner
from niwaki.models.io import load_model
from niwaki.training.hardware import choose_device
from niwaki.workflow.run_directory import RunDirectory, is_run
from niwaki.workflow.subjects.external import is_external, load_external, option_of
from niwaki.workflow.subjects.files import is_arrays
from niwaki_runtime import Bundle
from niwaki_runtime import load as load_bundle

__all__ = [
    "Kind",
    "Subject",
    "home_of",
    "is_bundle",
    "is_model",
    "kind_of",
    "open_subject",
    "refuse_for_others",
]

Kind = Literal["run", "model", "bundle", "folder", "arrays"]


@dataclass
class Subject:
    """One thing that a verb is about.

    kind:   what it is
    path:   where it lies, or what it is called
    runner: what runs its programs; None for files of samples
    home:   the run directory that says which data belong to it
    """

    kind: Kind
    path: Path
    runner: Runner | None = field(default=None, repr=False)
    home: Path | None = None

    @property
    def side(self) -> str:
        """What its samples are called in records: `trained`, `bundle` or `samples`."""
        return {"run": "trained", "model": "trained", "bundle": "bundle"}.get(self.kind, "samples")

    @property
    def engine(self) -> str:
        """Of a bundle; empty for all else."""
        return str(getattr(self.runner, "engine", ""))

    @property
    def words(self) -> str:
        """In sentences."""
        return f"the bundle on {self.engine}" if self.engine else str(self.path)


def is_bundle(path: str | Path) -> bool:
    """A `.niwaki` file, or a directory with a manifest."""
    path = Path(path)
    return (path.is_file() and path.suffix == ".niwaki") or (path / "manifest.json").is_file()


def is_model(path: str | Path) -> bool:
    """A directory that `save_model` wrote, the folder of a pipeline or of a language model, or a factory."""
    return (Path(path) / "model.json").is_file() or is_external(path)


def kind_of(what: Any) -> Kind | None:
    """What something is; None for what is none of the kinds."""
    if isinstance(what, GenerativeModel):
        return "model"
    if isinstance(what, Runner):
        return "bundle"
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


def home_of(what: Any) -> Path | None:
    """The run directory that says which data belong to a run, or to a bundle or a model in it."""
    if not isinstance(what, str | Path):
        return None
    path = Path(what)
    if is_run(path):
        return path
    inside = is_bundle(path) or is_model(path)
    return path.parent if inside and is_run(path.parent) else None


def open_subject(
    what: Any,
    *,
    engine: str = "auto",
    memory: int | str | None = None,
    device: str = "auto",
    weights: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    spec: DataSpec | None = None,
    named: str = "weights",
    **of_bundle: Any,
) -> Subject:
    """A run (its trained model), a model in memory, a saved model, a factory (`package.module:function`), a
    pipeline's folder, a bundle, a folder of samples or an array file.

    engine, memory: of a bundle, with further options of `niwaki_runtime.load`
    device:    of a torch model that is loaded here; one in memory stays where it is
    weights, options, spec, named: of a factory or a pipeline (`load_external`)
    Raises CallError for anything else, and for options of another kind of thing; NiwakiError where it is
    broken or not trained yet.
    """
    kind = kind_of(what)
    if kind != "bundle":
        refuse_for_others(what, engine, memory)
    if weights is not None and not (isinstance(what, str | Path) and is_external(what)):
        raise CallError(f"{option_of(named)} is for package.module:function, and {_called(what)} is none")
    if not isinstance(what, str | Path):
        if kind is None:
            raise CallError(f"a {type(what).__name__} is no run, model, bundle or file of samples")
        return Subject(kind, Path(_called(what)), what)
    path = Path(what)
    if kind is None:
        raise CallError(
            f"{what} is neither a run, a model, a bundle, a folder of samples nor an .npz or .npy file"
            if path.exists()
            else f"{what} does not exist; give a run, a model directory, a bundle or a file of samples"
        )
    home = home_of(what)
    if kind == "bundle":
        bundle: Bundle = load_bundle(path, engine=engine, memory=memory, **of_bundle)
        return Subject(kind, path, bundle, home)
    if kind in ("folder", "arrays"):
        return Subject(kind, path, None, home)
    model = _model(what, kind, weights, options, spec, named)
    return Subject(kind, path, model.to(choose_device(device)), home)


def refuse_for_others(what: Any, engine: str, memory: int | str | None) -> None:
    """Raises CallError for options that only a bundle has."""
    given = [name for name, value in (("engine", engine != "auto"), ("memory", memory is not None)) if value]
    if given:
        raise CallError(
            f"{_called(what)} is no bundle, so it runs on no engine; export it first, or leave the "
            f"{' and the '.join(given)} out"
        )


def _called(what: Any) -> str:
    """How something is called in sentences and records."""
    if isinstance(what, str | Path):
        return str(what)
    return getattr(what, "name", None) or str(getattr(what, "path", type(what).__name__))


def _model(
    what: str | Path,
    kind: Kind,
    weights: str | Path | None,
    options: Mapping[str, Any] | None,
    spec: DataSpec | None,
    named: str,
) -> GenerativeModel:
    if is_external(what):
        return load_external(what, weights=weights, options=options, spec=spec, named=named)
    if kind == "run":
        run = RunDirectory.open(what)
        if not is_model(run.model):
            raise CallError(f"{what} holds no trained model yet; run `niwaki train {what}` first")
        return load_model(run.model)
    return load_model(Path(what))
