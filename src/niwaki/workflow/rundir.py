"""The run directory: what every leg leaves for the next one, and the record that says which legs still hold.

`run.json` keeps for each leg its status, a hash of all that it was made from, its seconds and its outputs. A
leg *holds* while that hash is the same and its outputs are there. Every write is atomic.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import hash_json, read_json, write_json, write_text
from niwaki.recipe import Recipe, dump_recipe, load_recipe
from niwaki.workflow.lock import locked

__all__ = ["LEGS", "RunDirectory", "is_run", "versions"]

LEGS = ("train", "evaluate", "compress", "export", "verdict", "report")
_FORMAT = 1
_WRITES_OVER = {"evaluate": ("verdict",), "compress": ("export", "verdict"), "export": ("verdict",)}
"""Legs whose files another leg completes (figures, verdicts): done again, they take the other's work away."""
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
    """One run on disk. Make one with `create` or `open`."""

    def __init__(self, path: Path, recipe: Recipe, info: dict[str, Any]) -> None:
        self.path = path
        self.recipe = recipe
        self.info = info

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
            if any(p.name != ".lock" for p in path.iterdir()):
                raise CallError(f"{path} holds other things than a run; choose an empty or a new --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NiwakiError(f"{path} cannot be made: {error.strerror or error}") from None
        info = _read_info(path) if is_run(path) else {"format": _FORMAT, "created": _now(), "legs": {}}
        return cls(path, recipe, info)

    @classmethod
    def open(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> RunDirectory:
        """An existing run. Raises CallError where `path` is none, NiwakiError where its record is broken."""
        path = Path(path)
        if not is_run(path):
            raise CallError(f"{path} is not a run directory (it has no run.json)")
        return cls(path, load_recipe(path / "recipe.yaml", overrides), _read_info(path))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Lock the directory for this process, and write the recipe that it now works by."""
        with locked(self.path):
            if is_run(self.path):
                self.info = _read_info(self.path)
            write_text(self.path / "recipe.yaml", dump_recipe(self.recipe))
            self.save(name=self.recipe.name, seed=self.recipe.seed, versions=versions(), machine=_machine())
            yield

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

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def compression(self) -> Path:
        return self.path / "compression.json"

    @property
    def samples(self) -> Path:
        return self.path / "samples.npz"

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

    def leg(self, name: str) -> dict[str, Any]:
        """The record of a leg: `status` (`missing`, `started`, `done`), `inputs`, `seconds`, `outputs` …"""
        return self.info["legs"].get(name, {"status": "missing"})

    def holds(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Whether a leg is done, was made from these inputs, and left all its outputs in place."""
        record = self.leg(name)
        return (
            record["status"] == "done"
            and record.get("inputs") == hash_json(inputs)
            and all((self.path / output).exists() for output in record.get("outputs", []))
        )

    def changed(self, name: str, inputs: Mapping[str, Any]) -> list[str]:
        """Dotted names of the inputs of a leg that differ from those it was last made from."""
        return _differences(self.leg(name).get("made_from", {}), inputs)

    @contextmanager
    def working(
        self, name: str, inputs: Mapping[str, Any], outputs: tuple[Path, ...]
    ) -> Iterator[dict[str, Any]]:
        """A leg at work: marked `started`, and `done` only if the block ends well. What is put into the
        record stays."""
        began = time.monotonic()
        record: dict[str, Any] = {"status": "started", "inputs": hash_json(inputs), "made_from": dict(inputs)}
        self.info["legs"][name] = record
        for later in _WRITES_OVER.get(name, ()):
            self.info["legs"].pop(later, None)
        self.save()
        yield record
        record |= {
            "status": "done",
            "seconds": round(time.monotonic() - began, 3),
            "finished": _now(),
            "outputs": [str(p.relative_to(self.path)) for p in outputs],
        }
        self.save()

    def result(self, name: str) -> str:
        """What later legs depend on: the hash of a finished leg's result."""
        return str(self.leg(name).get("result", ""))


def _read_info(path: Path) -> dict[str, Any]:
    file = path / "run.json"
    info = read_json(file)
    if not isinstance(info, dict) or not isinstance(info.get("legs"), dict):
        raise NiwakiError(f"{file} is not the record of a run; move {path} away or choose another --out")
    if info.get("format", 0) > _FORMAT:
        raise NiwakiError(f"{path} was written by a newer niwaki; update niwaki or choose another --out")
    return info


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = list(dict.fromkeys([*old, *new]))
        return [
            d for n in names for d in _differences(old.get(n), new.get(n), f"{key}.{n}" if key else str(n))
        ]
    return [] if hash_json(old) == hash_json(new) else [key]


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
