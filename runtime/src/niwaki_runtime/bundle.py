"""Bundles: verified by hash before anything is opened, then sampled from. Reading one executes no code."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from niwaki_runtime import archive
from niwaki_runtime.engines import GraphRunner, open_graph, resolve_engine
from niwaki_runtime.errors import BundleError, CallError
from niwaki_runtime.external import external_files
from niwaki_runtime.manifest import MANIFEST, FileEntry, Manifest, hash_file, read_manifest, safe_path
from niwaki_runtime.packed import expand
from niwaki_runtime.samplers import Noise, NumpyBackend, Sampler
from niwaki_runtime.specs import ConditionSpec, SampleSpec, resolve

__all__ = ["Bundle", "inspect", "load"]

_BATCH = 64  # samples worked on at once where the caller does not say


class Bundle:
    """A model ready to sample from. Made by `load`.

    path:     where it was read from
    manifest: all that it says about itself
    graphs:   its networks on the engine, by name: callables from numpy arrays to numpy arrays
    engine:   name of the engine
    """

    def __init__(
        self, path: Path, manifest: Manifest, graphs: Mapping[str, GraphRunner], engine: str
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.graphs = dict(graphs)
        self.engine = engine
        self._backend = NumpyBackend()

    @property
    def spec(self) -> SampleSpec:
        return self.manifest.spec

    @property
    def conditions(self) -> Mapping[str, ConditionSpec]:
        return self.manifest.conditions

    @property
    def sampler(self) -> Sampler:
        return self.manifest.sampler

    def __repr__(self) -> str:
        return f"Bundle({self.manifest.name!r}, {self.sampler.kind} on {self.engine})"

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        condition: Any = None,
        start: int = 0,
        batch: int | None = None,
        project: Callable[[np.ndarray, float, int], np.ndarray] | None = None,
        progress: Callable[[int, int], None] | None = None,
        **overrides: Any,
    ) -> np.ndarray:
        """Samples start … start+n−1 of `seed`: `(n, *spec.shape)`, float32 (int64 where samples are tokens).

        condition: a value, an array with one row per sample, or a mapping of condition names to either; None
                   asks for the classes in turn, by sample index
        batch:     samples worked on at once, at most (64); only the network's own rounding depends on it
        project:   `(x, t, draw) → x` after each solver step of an iterative sampler (inpainting, constraints)
        progress:  called with (samples done, samples in all)
        overrides: fields of the sampler (`steps=10`, `guidance=2.0`, `temperature=0.8` …)
        Raises CallError for a condition or an option that the model does not have.

        >>> bundle.sample(16, seed=7, condition=3).shape  # doctest: +SKIP
        (16, 1, 8, 8)
        """
        if n < 0 or start < 0 or (batch is not None and batch < 1):
            raise CallError(
                f"n and start must not be negative and batch at least 1, not {n}, {start}, {batch}"
            )
        sampler = self.sampler.override(**overrides)
        rows = resolve(self.conditions, condition, start, n)
        # Batches of equal size, the surplus of the last one cut off: every new size is a new compilation.
        size = -(-n // max(1, -(-n // (batch or _BATCH))))
        parts = []
        for at in range(0, n, size or 1):
            noise = Noise(self._backend, seed, start + at, size)
            part = {k: _rows(v, at, size) for k, v in rows.items()}
            told = _part(progress, at, size, n) if progress else None
            parts.append(sampler(self.graphs, noise, part, project=project, progress=told)[: n - at])
        if not parts:
            return np.empty((0, *self.spec.shape), np.float32)
        out = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return out.astype(np.float32, copy=False) if out.dtype.kind == "f" else out


def _part(progress: Callable[[int, int], None], at: int, size: int, n: int) -> Callable[[int, int], None]:
    """Calls done in one batch as samples done in all."""
    return lambda i, of: progress(min(at + size * i // of, n), n)


def _rows(values: np.ndarray, at: int, size: int) -> np.ndarray:
    """Rows at … at+size−1, the last one repeated where there are fewer."""
    part = values[at : at + size]
    if len(part) == size:
        return part
    return np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])


def load(
    path: Path | str, *, engine: str = "auto", precision: str = "fast", threads: int | None = None
) -> Bundle:
    """The bundle at `path` (a `.niwaki` directory or its zip), verified and ready to sample from.

    engine:    `openvino`, `onnxruntime`, or `auto`: openvino where it is installed
    precision: `fast` lets the engine choose its arithmetic, `exact` asks for float32
    threads:   CPU threads; None is the engine's own choice
    Raises BundleError for a bundle that is incomplete, altered, unsafe or too new, CallError for a wrong
    argument, and NiwakiError where the engine is not installed.
    """
    path = Path(path)
    engine = resolve_engine(engine)

    def opened(directory: Path, manifest: Manifest) -> Bundle:
        graphs = {
            name: open_graph(
                engine,
                directory / graph.file,
                precision=precision,
                threads=threads,
                inputs=graph.input_names,
                outputs=graph.output_names,
                state=graph.state,
            )
            for name, graph in manifest.graphs.items()
        }
        return Bundle(path, manifest, graphs, engine)

    return _read(path, opened)


def inspect(path: Path | str) -> Manifest:
    """What the bundle at `path` says about itself, verified; needs no engine. Raises BundleError."""
    return _read(Path(path), lambda directory, manifest: manifest)


def _read(path: Path, use: Callable[[Path, Manifest], Any]) -> Any:
    """`use(directory, manifest)` once every file is verified; a zip or packed weights are unpacked for as
    long as that takes."""
    if path.is_dir():
        manifest = _manifest(path)
        _verify(path, manifest)
        if not manifest.packed:
            _verify_graphs(path, manifest)
            return use(path, manifest)
    elif not path.is_file():
        raise BundleError(f"{path} does not exist")
    with tempfile.TemporaryDirectory(prefix="niwaki-", ignore_cleanup_errors=True) as temporary:
        directory = Path(temporary)
        if path.is_dir():
            _copy_graphs(path, directory, manifest)
        else:
            manifest = archive.unpack(path, directory)
            _verify(directory, manifest)
        for name, entry in manifest.packed.items():
            source = path if path.is_dir() else directory
            expand(
                _inside(source, entry.file), _inside(directory, name), FileEntry(entry.sha256, entry.bytes)
            )
        _verify_graphs(directory, manifest)
        return use(directory, manifest)


def _manifest(directory: Path) -> Manifest:
    try:
        return read_manifest((directory / MANIFEST).read_bytes())
    except OSError as error:
        raise BundleError(
            f"{directory} holds no {MANIFEST} that can be read; it is not a niwaki bundle"
        ) from error


def _verify(directory: Path, manifest: Manifest) -> None:
    """Every file is there, inside the bundle, and byte for byte what was written."""
    root = directory.resolve()
    for name, entry in manifest.files.items():
        file = _inside(directory, name)
        if not file.is_file():
            raise BundleError(f"the bundle lacks {name}; copy or export it again")
        if not file.resolve().is_relative_to(root):
            raise BundleError(f"{name} is a link that leaves the bundle; do not trust it")
        if file.stat().st_size != entry.bytes or hash_file(file) != entry:
            raise BundleError(
                f"{name} is not what was written (its hash differs); copy or export the bundle again"
            )


def _inside(directory: Path, name: str) -> Path:
    return directory.joinpath(*safe_path(name).parts)


def _copy_graphs(path: Path, directory: Path, manifest: Manifest) -> None:
    """All but packed weights into the empty `directory`: engines want the unpacked ones beside the graphs."""
    packed = {entry.file for entry in manifest.packed.values()}
    try:
        for name in manifest.files:
            if name not in packed:
                _inside(directory, name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(_inside(path, name), _inside(directory, name))
    except OSError as error:
        raise BundleError(f"{path} could not be unpacked: {error.strerror or error}") from error


def _verify_graphs(directory: Path, manifest: Manifest) -> None:
    """No graph reads weights from a file that is not listed."""
    known = {*manifest.files, *manifest.packed}
    for graph in sorted({g.file for g in manifest.graphs.values()}):
        for other in external_files(directory / graph):
            if (PurePosixPath(graph).parent / other).as_posix() not in known:
                raise BundleError(
                    f"{graph} reads {other!r}, which the manifest does not list; do not trust it"
                )
