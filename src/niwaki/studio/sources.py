"""What a studio was called with: models, runs, folders of runs, searches; read anew at every question, since
runs and searches grow while they are watched."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_json
from niwaki.studio.models import Model
from niwaki.workflow.run_directory import is_run
from niwaki.workflow.runs.listing import find_runs
from niwaki.workflow.searching.standing import find_searches
from niwaki.workflow.subjects.subject import is_bundle, is_model, kind_of

__all__ = ["Source", "Sources", "open_sources"]


@dataclass(frozen=True)
class Source:
    """One word of the call. name: of what lies at path"""

    name: str
    path: Path


@dataclass(eq=False)
class Sources:
    """
    given:  what the studio was called with
    folder: of the answers and what was shown for them
    seed:   of the samples that raters see, and of the order of questions
    checks: share of planted questions; goal: answers of a rater, 0 for any number
    """

    given: Sequence[Source]
    folder: Path = Path("studio")
    seed: int = 0
    checks: float = 0.1
    goal: int = 0
    _models: dict[tuple[str, Path, int], Model] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def runs(self) -> list[Path]:
        """Those that were named, and those in folders that were."""
        return find_runs(one.path for one in self.given if one.path.is_dir() and not is_bundle(one.path))

    def searches(self) -> list[Path]:
        """Directories of searches of these runs, and among them."""
        return find_searches(self.runs())

    def models(self) -> dict[str, Model]:
        """By name: the trained model and the bundle of every run that was named, the bundles of runs in
        folders, and all else that was named."""
        found: dict[str, Path] = {}
        for one in self.given:
            if is_run(one.path):
                parts = {"trained": one.path / "model", "bundle": _bundle(one.path)}
                there = {part: place for part, place in parts.items() if is_model(place) or is_bundle(place)}
                found |= {_of(one.name, part): place for part, place in there.items()}
            elif is_bundle(one.path) or is_model(one.path):
                found[one.name] = one.path
            else:
                bundles = {run.name: _bundle(run) for run in find_runs([one.path])}
                found |= {name: place for name, place in bundles.items() if is_bundle(place)}
        return {name: self._model(name, path) for name, path in found.items()}

    def model(self, name: str) -> Model:
        """Raises CallError where there is none of this name."""
        known = self.models()
        if name not in known:
            raise CallError(f"there is no model '{name!s:.80}' here; there are {', '.join(known) or 'none'}")
        return known[name]

    def with_program(self, program: str) -> list[Model]:
        """Models that have a program."""
        return [model for model in self.models().values() if model.does(program)]

    def contestants(self) -> dict[str, Model]:
        """By the names of the call, of a run its bundle where it has one, else its trained model."""
        found, models = {}, self.models()
        for one in self.given:
            for name in (_of(one.name, "bundle"), _of(one.name, "trained"), one.name):
                if name in models:
                    found[one.name] = models[name]
                    break
        return found

    def _model(self, name: str, path: Path) -> Model:
        """The same as long as its files are: what was trained anew is opened anew."""
        with self._lock:
            return self._models.setdefault((name, path, _changed(path)), Model(name, path))


def open_sources(what: Sequence[str | Path], folder: Path, **settings: float) -> Sources:
    """what: runs, folders of runs, bundles and models, as PATH or NAME=PATH. Models that are named are opened
    here, so that a broken one is told at once.

    Raises CallError for two of one name and for what is none of these, NiwakiError for what is broken.
    """
    if not what:
        raise CallError("name a run, a bundle or a folder of runs: niwaki studio runs/digits-gan")
    given: list[Source] = []
    for word in map(str, what):
        name, equals, path = word.partition("=")
        place = Path(path if equals else word)
        name = name if equals else place.resolve().stem
        if not name or "/" in name or name.startswith("."):
            raise CallError(f"'{name}' is no name of a model; letters, figures and - will do")
        if any(one.name == name for one in given):
            raise CallError(f"two models are called '{name}'; name them, as small={name}.niwaki")
        given.append(Source(name, place))
        if kind_of(place) == "arrays":
            raise CallError(f"{place} is no model that makes samples")
        if kind_of(place) is None:
            raise CallError(f"{place} is no run, no bundle, no model and no folder of runs")
    sources = Sources(given, folder, **settings)  # type: ignore[arg-type]
    named = {one.path for one in given}
    for model in sources.models().values():
        if model.path in named or model.home in named:
            _ = model.runner, model.programs
    return sources


def _of(name: str, part: str) -> str:
    return f"{name} ({part})"


def _bundle(run: Path) -> Path:
    """Where it lies, or would."""
    try:
        name = read_json(run / "run.json").get("name")
    except (NiwakiError, AttributeError):  # it is broken: the page of runs tells
        name = None
    return run / f"{name or run.name}.niwaki"


def _changed(path: Path) -> int:
    """When a model's files were last written."""
    place = next((path / name for name in ("model.json", "manifest.json") if (path / name).is_file()), path)
    return place.stat().st_mtime_ns if place.exists() else 0
