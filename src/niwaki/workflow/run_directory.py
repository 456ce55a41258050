"""The run directory: what every stage leaves for the next one, and which stages still hold.

`stages/<name>.json` says of a stage its status, a hash of all that it was made from, its seconds and its
outputs. A stage *holds* while that hash is the same and its outputs are there. What a stage found is a record
of its own (`niwaki.report.records`). No stage writes another one's files; every write is atomic.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from niwaki.core.differences import differences
from niwaki.core.errors import CallError, NiwakiError
from niwaki.core.store import hash_json, read_json, write_json, write_text
from niwaki.core.version import __version__
from niwaki.recipe import Overrides, Recipe, dump_recipe, load_recipe
from niwaki.report.records import DataRecord, FailureRecord
from niwaki.workflow.code_version import code_version
from niwaki.workflow.lock import locked
from niwaki_runtime.unfinished import clear_below, is_unfinished

__all__ = ["STAGES", "RunDirectory", "is_run", "versions"]

STAGES = ("train", "evaluate", "compress", "export", "verdict", "report")
_FORMAT = 2
_PACKAGES = (
    "niwaki", "niwaki-runtime", "torch", "numpy", "lightning-fabric", "nncf", "onnx",
    "onnxscript", "onnxruntime", "openvino", "safetensors", "pydantic", "scikit-learn", "scipy", "matplotlib",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what figures depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def is_run(path: str | Path) -> bool:
    """Whether `path` is a run directory."""
    return (Path(path) / "run.json").is_file()


class RunDirectory:
    """One run on disk. Make one with `create` or `open`.

    worked: whether a stage has begun to work in this call
    """

    def __init__(self, path: Path, recipe: Recipe, info: dict[str, Any]) -> None:
        self.path = path
        self.recipe = recipe
        self.info = info
        self.worked = False
        self._adopted = False
        self._waiting: list[Callable[[], None]] = []

    @classmethod
    def create(cls, recipe: Recipe, out: str | Path | None = None) -> RunDirectory:
        """The run directory of a recipe (default `runs/<name>`): a new one, or the one that is there with
        this recipe.

        Raises CallError where the place holds something else, NiwakiError where it cannot be written.
        """
        path = Path(out) if out is not None else Path("runs") / recipe.name
        if path.exists() and not is_run(path):
            if not path.is_dir():
                raise CallError(f"{path} is a file; choose another --out for the run directory")
            if any(p.name != ".lock" and not is_unfinished(p) for p in path.iterdir()):
                raise CallError(f"{path} holds other things than a run; choose an empty or a new --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NiwakiError(f"{path} cannot be made: {error.strerror or error}") from None
        info = _read_info(path) if is_run(path) else {"format": _FORMAT, "created": _now()}
        return cls(path, recipe, info)

    @classmethod
    def open(cls, path: str | Path, overrides: Overrides = ()) -> RunDirectory:
        """An existing run. Raises CallError where `path` is none, NiwakiError where its record is broken."""
        path = Path(path)
        if not is_run(path):
            raise CallError(f"{path} is not a run directory (it has no run.json)")
        return cls(path, load_recipe(path / "recipe.yaml", overrides), _read_info(path))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Lock the directory for this process, and clear away what a killed one left half written. The recipe
        that it now works by is written when a stage begins to work, or at the end: a call that is refused
        leaves the run as it was."""
        with locked(self.path):
            clear_below(self.path)
            if is_run(self.path):
                self.info = _read_info(self.path)
            else:
                self.adopt()
            yield
            self.adopt()

    def adopt(self) -> None:
        """From here on this recipe is the run's, and what was read for it is kept."""
        if self._adopted:
            return
        self._adopted = True
        # The record first: it is what makes the directory a run, and it alone is no harm.
        self.save(
            name=self.recipe.name,
            seed=self.recipe.seed,
            versions=versions(),
            code=code_version(),
            machine=_machine(),
        )
        write_text(self.path / "recipe.yaml", dump_recipe(self.recipe))
        for write in self._waiting:
            write()
        self._waiting.clear()

    def when_adopted(self, write: Callable[[], None]) -> None:
        """Do it once the recipe is adopted: at once, or never."""
        if self._adopted:
            write()
        else:
            self._waiting.append(write)

    def __repr__(self) -> str:
        return f"<run {self.path}>"

    def _repr_html_(self) -> str:
        from niwaki.workflow.notebook.views import run_view

        return run_view(self.path)

    # what is where

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def compressed(self) -> Path:
        return self.path / "compressed"

    @property
    def bundle(self) -> Path:
        return self.path / f"{self.recipe.name}.niwaki"

    @property
    def original_bundle(self) -> Path:
        """The uncompressed model's bundle: what compression is measured against on the same engine."""
        return self.path / f"{self.recipe.name}-float32.niwaki"

    def evidence(self, judge: str) -> Path:
        """What the trained model did when a judge asked it."""
        return self.path / "evidence" / f"{judge}.npz"

    def verdict_arrays(self, judge: str) -> Path:
        """What the bundle did, and what the judge says of single items."""
        return self.path / "verdict" / f"{judge}.npz"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    # the record

    def save(self, **changes: Any) -> None:
        self.info.update(changes)
        write_json(self.path / "run.json", self.info)

    def stage(self, name: str) -> dict[str, Any]:
        """Where a stage stands: `status` (`missing`, `started`, `done`), `inputs`, `seconds`, `outputs` …

        Raises NiwakiError where its file is broken.
        """
        file = self._stage_file(name)
        if file.exists():
            found = read_json(file)
            if isinstance(found, dict) and "status" in found:
                return found
            raise NiwakiError(f"{file} does not say where a stage stands; delete it and run again")
        legs: dict[str, Any] = self.info.get("legs", {})  # the first edition kept them in run.json
        return dict(legs.get(name, {"status": "missing"}))

    def _stage_file(self, name: str) -> Path:
        return self.path / "stages" / f"{name}.json"

    def holds(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Whether a stage is done, was made from these inputs, and left all its outputs in place."""
        found = self.stage(name)
        return (
            found["status"] == "done"
            and found.get("inputs") == hash_json(inputs)
            and all((self.path / output).exists() for output in found.get("outputs", []))
        )

    def changed(self, name: str, inputs: Mapping[str, Any]) -> list[str]:
        """Dotted names of the inputs of a stage that differ from those it was last made from."""
        return [one.key for one in differences(self.stage(name).get("made_from", {}), inputs)]

    @contextmanager
    def working(self, name: str, inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A stage at work: marked `started`, and `done` only if the block ends well. The block puts in what
        later stages go by (`result`) and its `outputs` (paths)."""
        self.adopt()
        self.worked = True
        began = time.monotonic()
        state: dict[str, Any] = {"status": "started", "inputs": hash_json(inputs), "made_from": dict(inputs)}
        write_json(self._stage_file(name), state)
        given: dict[str, Any] = {"outputs": ()}
        yield given
        outputs = [str(Path(p).relative_to(self.path)) for p in given.pop("outputs")]
        state |= {
            **given,
            "status": "done",
            "seconds": round(time.monotonic() - began, 3),
            "finished": _now(),
            "outputs": outputs,
            "versions": self._versions(name, str(given.get("result", ""))),
        }
        (self.path / FailureRecord.file).unlink(missing_ok=True)
        write_json(self._stage_file(name), state)

    def _versions(self, name: str, result: str) -> dict[str, Any]:
        """Of what a stage's record rests on: code, data and model."""
        data = DataRecord.read(self.path) or DataRecord()
        model = result if name == "train" else self.result("train")
        code = {"niwaki": __version__, **code_version()}
        return {"code": code, "data": data.fingerprint, "model": model}

    def result(self, name: str) -> str:
        """What later stages depend on: the hash of a finished stage's result."""
        return str(self.stage(name).get("result", ""))


def _read_info(path: Path) -> dict[str, Any]:
    file = path / "run.json"
    info = read_json(file)
    if not isinstance(info, dict) or "format" not in info:
        raise NiwakiError(f"{file} is not the record of a run; move {path} away or choose another --out")
    if info.get("format", 0) > _FORMAT:
        raise NiwakiError(f"{path} was written by a newer niwaki; update niwaki or choose another --out")
    return info


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine() -> dict[str, Any]:
    import psutil

    return {
        "system": platform.platform(terse=True),
        "processor": platform.machine(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "memory": psutil.virtual_memory().total,
    }
