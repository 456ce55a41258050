"""What a bundle says about itself: `manifest.json`, schema 3. niwaki writes it, the device reads it.

A manifest names every file of the bundle with its size and SHA-256, and ends in a digest of its own content,
so that a changed byte is found wherever it is. (That finds accidents, not forgers: who can write the files
can write the digest.) Schema 1 had one way of sampling (`spec`, `sampler`, `conditions`), schema 2 added
`packed` (weights that lie there entropy-coded), schema 3 lists programs; all three are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from niwaki_runtime.entries import FileEntry, GraphEntry, InputEntry, PackedEntry
from niwaki_runtime.errors import BundleError, CallError
from niwaki_runtime.programs import SAMPLING, Program
from niwaki_runtime.samplers.base import Sampler, sampler_from_json
from niwaki_runtime.specs import ConditionSpec, DataSpec, ValueSpec
from niwaki_runtime.unfinished import partial_file

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "SUFFIX",
    "FileEntry",
    "GraphEntry",
    "InputEntry",
    "Manifest",
    "PackedEntry",
    "hash_file",
    "inventory",
    "read_manifest",
    "safe_path",
    "write_manifest",
]

SCHEMA = 3
"""The newest manifest that this runtime reads and writes."""

MANIFEST = "manifest.json"
SUFFIX = ".niwaki"


@dataclass(frozen=True)
class Manifest:
    """All that a bundle says about itself.

    niwaki:     version that wrote it
    programs:   what it can do, by name; `sample` is always among them
    examples:   a file of a few inputs for programs that cannot be tried without (`examples.npz`), or empty
    files:      every file but the manifest, by relative path
    packed:     what is unpacked beside them when the bundle is loaded, by relative path
    parity:     how far engines were from torch, by graph: `batches`, `measure`, `engines`, plain JSON
    refused:    engines that cannot run it, with the reason
    measured:   figures taken on an engine (bytes, latencies, memory), plain JSON
    verdict:    what compression cost, plain JSON
    provenance: recipe, data fingerprint, seeds, signature: where it came from, plain JSON
    """

    name: str
    niwaki: str
    programs: Mapping[str, Program]
    graphs: Mapping[str, GraphEntry]
    examples: str = ""
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    packed: Mapping[str, PackedEntry] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> ValueSpec:
        """What one sample is."""
        return self.programs[SAMPLING].output

    @property
    def sampler(self) -> Sampler:
        """How samples come about."""
        return self.programs[SAMPLING].sampler

    @property
    def conditions(self) -> Mapping[str, ConditionSpec]:
        """What samples can be asked to be."""
        return self.programs[SAMPLING].inputs

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, its own digest included."""
        packed = {"packed": {k: asdict(p) for k, p in sorted(self.packed.items())}} if self.packed else {}
        record = {
            "schema": SCHEMA,
            "niwaki": self.niwaki,
            "name": self.name,
            "programs": {k: program.to_json() for k, program in self.programs.items()},
            **({"examples": self.examples} if self.examples else {}),
            "graphs": {k: asdict(g) for k, g in self.graphs.items()},
            "files": {k: asdict(f) for k, f in sorted(self.files.items())},
            **packed,
            **({"parity": dict(self.parity)} if self.parity else {}),
            **({"refused": dict(self.refused)} if self.refused else {}),
            "measured": dict(self.measured),
            "verdict": dict(self.verdict),
            "provenance": dict(self.provenance),
        }
        # Through JSON once, so that what is hashed is what a reader will see (lists for tuples, text for
        # integer keys).
        record = json.loads(json.dumps(record, default=_plain, allow_nan=False))
        return {**record, "sha256": _digest(record)}

    @classmethod
    def from_json(cls, record: Any) -> Manifest:
        """Raises BundleError for a newer schema, a changed or incomplete manifest, an unsafe path."""
        if not isinstance(record, dict) or not isinstance(record.get("schema"), int):
            raise BundleError(f"{MANIFEST} is not the manifest of a niwaki bundle: it has no schema number")
        if record["schema"] > SCHEMA:
            raise BundleError(
                f"the bundle has schema {record['schema']} and this runtime reads up to {SCHEMA}; "
                "install a newer niwaki-runtime"
            )
        said = ("programs",) if record["schema"] >= 3 else ("spec", "conditions", "sampler")
        for key in ("name", "niwaki", *said, "graphs", "files", "sha256"):
            if key not in record:
                raise BundleError(f"{MANIFEST} is incomplete: '{key}' is missing; export the bundle again")
        if record["sha256"] != _digest({k: v for k, v in record.items() if k != "sha256"}):
            raise BundleError(f"{MANIFEST} was changed after it was written; copy or export the bundle again")
        try:
            manifest = cls(
                name=str(record["name"]),
                niwaki=str(record["niwaki"]),
                programs=_programs(record),
                examples=str(record.get("examples", "")),
                graphs={k: GraphEntry.from_json(g) for k, g in record["graphs"].items()},
                files={k: FileEntry(str(f["sha256"]), int(f["bytes"])) for k, f in record["files"].items()},
                packed={
                    k: PackedEntry(str(p["sha256"]), int(p["bytes"]), str(p["file"]))
                    for k, p in record.get("packed", {}).items()
                },
                parity=dict(record.get("parity", {})),
                refused={str(k): str(v) for k, v in dict(record.get("refused", {})).items()},
                measured=record.get("measured", {}),
                verdict=record.get("verdict", {}),
                provenance=record.get("provenance", {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{MANIFEST} does not follow schema {record['schema']}: {error!r}") from error
        except CallError as error:
            raise BundleError(f"{MANIFEST} does not follow schema {record['schema']}: {error}") from error
        manifest._check()
        return manifest

    def _check(self) -> None:
        for name in self.files:
            safe_path(name)
        for name, packed in self.packed.items():
            safe_path(name)
            if name in self.files or packed.file not in self.files or packed.bytes < 0:
                raise BundleError(f"the manifest contradicts itself about the packed file {name!r}")
        for name, graph in self.graphs.items():
            if graph.file not in self.files:
                raise BundleError(f"the graph '{name}' needs {graph.file}, which the manifest does not list")
        if SAMPLING not in self.programs:
            raise BundleError(f"the manifest lists no program '{SAMPLING}'; export the bundle again")
        for title, program in self.programs.items():
            for name in program.sampler.conditions_used():
                if name not in program.inputs:
                    raise BundleError(
                        f"the program '{title}' is not given '{name}', which its sampler asks for"
                    )
            for name in program.sampler.graphs_used():
                if name not in self.graphs:
                    raise BundleError(f"the sampler calls the graph '{name}', which the bundle does not hold")
        if self.examples and self.examples not in self.files:
            raise BundleError(f"the manifest names {self.examples}, which it does not list")


def _programs(record: Mapping[str, Any]) -> dict[str, Program]:
    """What a bundle can do; those of the first edition (schema 1 and 2) sample and no more."""
    if "programs" in record:
        return {name: Program.from_json(program) for name, program in record["programs"].items()}
    data = DataSpec.from_json(record["spec"])
    conditions = {k: ConditionSpec.from_json(c) for k, c in record["conditions"].items()}
    if "class" in conditions and data.class_names:
        known = conditions["class"]
        conditions["class"] = ConditionSpec.label(known.size, data.class_names, _whole(known.null))
    return {SAMPLING: Program(sampler_from_json(record["sampler"]), conditions, data.x)}


def _whole(null: float | None) -> int | None:
    return None if null is None else int(null)


def _plain(value: Any) -> Any:
    """numpy scalars and arrays, and anything else that knows its own JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "to_json"):
        return value.to_json()
    raise TypeError(f"{type(value).__name__} cannot stand in a manifest")


def _digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON: independent of the order of keys and of spaces."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def safe_path(name: str) -> PurePosixPath:
    """`name` as a path inside the bundle. Raises BundleError where it could leave it."""
    path = PurePosixPath(name)
    inside = path.parts and str(path) == name and not path.is_absolute() and ".." not in path.parts
    if not inside or any(c in name for c in "\\:\0") or name == MANIFEST:
        raise BundleError(
            f"the bundle names the file {name!r}, which is not a plain path inside it; do not trust it"
        )
    return path


def hash_file(path: Path | str) -> FileEntry:
    """SHA-256 and length of one file, read once (about a gigabyte per second)."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(digest, file.tell())


def inventory(directory: Path | str) -> dict[str, FileEntry]:
    """Every file under `directory` but the manifest, by relative path."""
    directory = Path(directory)
    names = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
    return {name: hash_file(directory / name) for name in names if name != MANIFEST}


def write_manifest(directory: Path | str, manifest: Manifest) -> Manifest:
    """Hash all that lies in `directory` and write its manifest, whole or not at all; returns it with `files`.

    Raises BundleError where a graph's file is not there.
    """
    directory = Path(directory)
    manifest = replace(manifest, files=inventory(directory))
    manifest._check()
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False) + "\n"
    with partial_file(directory / MANIFEST) as file:
        file.write(text.encode())
    return manifest


def read_manifest(data: bytes) -> Manifest:
    """The manifest in `data`. Raises BundleError where it is not JSON or not what `from_json` accepts."""
    try:
        record = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(
            f"{MANIFEST} is cut short or not JSON ({error}); copy or export the bundle again"
        ) from error
    return Manifest.from_json(record)
