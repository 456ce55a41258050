"""Bundles: verified by hash before anything is opened, then sampled from. Reading one executes no code."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from niwaki_runtime import archive
from niwaki_runtime.chat_template import FILE as CHAT
from niwaki_runtime.choice import choose_engine
from niwaki_runtime.engines import GraphRunner, open_graph, resolve_engine
from niwaki_runtime.errors import BundleError, CallError, NiwakiError, is_full
from niwaki_runtime.examples import example_rows
from niwaki_runtime.external import external_files
from niwaki_runtime.manifest import MANIFEST, FileEntry, Manifest, hash_file, read_manifest, safe_path
from niwaki_runtime.member import read_member
from niwaki_runtime.packed import expand
from niwaki_runtime.programs import LOG_PROB, SAMPLING, Program, Runner
from niwaki_runtime.samplers import NumpyBackend, Sampler
from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.tokenizer import FILE as TOKENIZER
from niwaki_runtime.unfinished import partial_file, scratch_directory

__all__ = ["Bundle", "extract", "inspect", "load", "open_files"]


class Bundle(Runner):
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

    even_batches = True  # every new size is a new compilation

    @property
    def spec(self) -> ValueSpec:
        """What one sample is."""
        return self.manifest.spec

    @property
    def refused(self) -> Mapping[str, str]:
        """Engines that cannot run it, with the reason."""
        return self.manifest.refused

    @property
    def sampler(self) -> Sampler:
        """How samples come about."""
        return self.manifest.sampler

    @cached_property
    def files(self) -> Mapping[str, str]:  # type: ignore[override]
        """Texts that the bundle ships (`tokenizer.json`, `chat.json`)."""
        names = [name for name in self.manifest.files if name in (TOKENIZER, CHAT)]
        return {name: read_member(self.path, self.manifest, name).decode() for name in names}

    def programs(self) -> Mapping[str, Program]:
        return self.manifest.programs

    def callable_graphs(self) -> Mapping[str, GraphRunner]:
        return self.graphs

    def backend(self) -> NumpyBackend:
        return self._backend

    def __repr__(self) -> str:
        return f"Bundle({self.manifest.name!r}, {self.sampler.kind} on {self.engine})"

    def run(self, program: str | Program, n: int, **options: Any) -> np.ndarray:
        """Results of a program as `Runner.run` says: float32, or int64 where they are tokens.

        >>> bundle.run("encode", 16, inputs={"x": images}).shape  # doctest: +SKIP
        (16, 32)
        """
        out = super().run(program, n, **options)
        return out.astype(np.float32, copy=False) if out.dtype.kind == "f" else out

    def example_inputs(self, program: str = SAMPLING, n: int = 1) -> dict[str, np.ndarray]:
        """n rows of every input of a program that has no default, from the examples that the bundle carries;
        empty where all have one.

        Raises BundleError where the file is not what was written.
        """
        return example_rows(self.path, self.manifest, self.program(program).inputs, n)


def load(
    path: Path | str,
    *,
    engine: str = "auto",
    precision: str = "fast",
    threads: int | None = None,
    memory: int | str | None = None,
) -> Bundle:
    """The bundle at `path` (a `.niwaki` directory or its zip), verified and ready to sample from.

    engine:    `openvino`, `onnxruntime`, or `auto`: openvino where it is installed and can run the bundle
    precision: `fast` lets the engine choose its arithmetic, `exact` asks for float32. Networks that
               `log_prob` calls and `sample` does not, and those that draw by themselves, always compute in
               float32: sums over all values are not to be rounded
    threads:   CPU threads; None is the engine's own choice
    memory:    bytes, or `"32MB"`: `auto` then takes an engine that is expected to need no more
               (`niwaki_runtime.choice.needed_memory`)
    Raises BundleError for a bundle that is incomplete, altered, unsafe or too new, CallError for a wrong
    argument, and NiwakiError where the engine is not installed, cannot run the bundle or needs more memory.
    """
    path = Path(path)
    resolve_engine(engine)

    def opened(directory: Path, manifest: Manifest) -> Bundle:
        exact, chosen = _summing_graphs(manifest), choose_engine(engine, manifest, memory)
        graphs = {
            name: open_graph(
                chosen,
                directory / graph.file,
                precision="exact" if precision == "fast" and name in exact else precision,
                threads=threads,
                inputs=graph.input_names,
                outputs=graph.output_names,
                state=graph.state,
            )
            for name, graph in manifest.graphs.items()
        }
        return Bundle(path, manifest, graphs, chosen)

    return open_files(path, opened)


def _summing_graphs(manifest: Manifest) -> set[str]:
    """Graphs that `log_prob` calls and `sample` does not, and those that samplers draw by."""
    called = {
        name: set(program.sampler.graphs_used())
        for name, program in manifest.programs.items()
        if name in (SAMPLING, LOG_PROB)
    }
    likely = called.get(LOG_PROB, set()) - called.get(SAMPLING, set())
    return likely.union(
        *(part.drawing_graphs() for p in manifest.programs.values() for part in p.sampler.parts())
    )


def inspect(path: Path | str) -> Manifest:
    """What the bundle at `path` says about itself, verified; needs no engine. Raises BundleError."""
    return open_files(Path(path), lambda directory, manifest: manifest)


def extract(path: Path | str, out: Path | str) -> list[Path]:
    """Plain ONNX out of a bundle: its graphs, with the weights that they read beside them, in the directory
    `out`, which is made. Other programs read them as they are.

    A file that is already there with the same content stays. Raises BundleError, CallError where one is there
    with another, and NiwakiError where they cannot be written.
    """
    out = Path(out)

    def copied(directory: Path, manifest: Manifest) -> list[Path]:
        graphs = sorted({graph.file for graph in manifest.graphs.values()})
        names = sorted({*graphs, *(name for graph in graphs for name in _weights_of(directory, graph))})
        for name in names:
            if _inside(out, name).exists() and not _is_copy(_inside(out, name), _inside(directory, name)):
                raise CallError(f"{_inside(out, name)} already exists; name another directory")
        for name in names:
            _inside(out, name).parent.mkdir(parents=True, exist_ok=True)
            with open(_inside(directory, name), "rb") as source, partial_file(_inside(out, name)) as file:
                shutil.copyfileobj(source, file, 1 << 20)
        return [_inside(out, graph) for graph in graphs]

    try:
        found: list[Path] = open_files(Path(path), copied)
    except OSError as error:
        raise NiwakiError(f"{out} could not be written: {error.strerror or error}") from error
    return found


def _is_copy(path: Path, of: Path) -> bool:
    return path.is_file() and hash_file(path) == hash_file(of)


def open_files(path: Path, use: Callable[[Path, Manifest], Any]) -> Any:
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
    with scratch_directory() as directory:
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
        if is_full(error):
            raise NiwakiError(f"{path} could not be unpacked into {directory}: {error.strerror}") from error
        raise BundleError(f"{path} could not be unpacked: {error.strerror or error}") from error


def _verify_graphs(directory: Path, manifest: Manifest) -> None:
    """No graph reads weights from a file that is not listed."""
    known = {*manifest.files, *manifest.packed}
    for graph in sorted({g.file for g in manifest.graphs.values()}):
        for name in _weights_of(directory, graph):
            if name not in known:
                raise BundleError(
                    f"{graph} reads {name!r}, which the manifest does not list; do not trust it"
                )


def _weights_of(directory: Path, graph: str) -> list[str]:
    """Files that a graph reads its weights from, as paths in the bundle."""
    return [(PurePosixPath(graph).parent / other).as_posix() for other in external_files(directory / graph)]
