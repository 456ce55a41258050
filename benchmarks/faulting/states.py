"""What lies in a directory: whether it is whole, and what of it must be the same after a fault."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["broken", "different", "state_of"]

TIMES = frozenset({
    "seconds", "finished", "training_seconds", "samples_per_second", "latency", "measured", "created",
    "bytes", "sha256", "written", "signature",
})  # fmt: skip
"""Keys of what a clock says, and of what follows from it: never the same twice."""


def state_of(root: Path) -> dict[str, str]:
    """Hash of every file below `root`, by relative path, without what a clock says in it."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() or path.is_symlink():
            found[path.relative_to(root).as_posix()] = _content(path)
        elif not any(path.iterdir()):
            found[path.relative_to(root).as_posix() + "/"] = ""
    return found


def different(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """What is missing, too much, or other than wanted, in words."""
    said = [f"{name} is missing" for name in wanted if name not in found]
    said += [f"{name} is left over" for name in found if name not in wanted]
    return said + [f"{n} differs" for n, content in found.items() if wanted.get(n, content) != content]


def _content(path: Path) -> str:
    if path.name == ".lock":
        return ""
    try:
        data = path.read_bytes()
        if path.suffix == ".json":
            return _hash(_timeless(path, json.loads(data)))
        if path.name == "journal.log":
            return _hash(_journal(data))
        if path.suffix == ".jsonl":
            return _hash([_timeless(path, json.loads(line)) for line in data.splitlines()])
        if path.suffix == ".niwaki":
            return _hash(_members(path, data))
        if path.suffix == ".html":
            return str(data.rstrip().endswith(b"</html>"))  # it shows times all over
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return f"broken: {error}"
    return hashlib.sha256(data).hexdigest()


def _journal(data: bytes) -> list[Any]:
    """What a study's journal comes to: of lines about the same the last one holds, whoever wrote it."""
    found: dict[str, Any] = {}
    for number, line in enumerate(data.splitlines()):
        entry = json.loads(line)
        kept = {k: v for k, v in entry.items() if k != "worker_id" and not k.startswith("datetime")}
        begins = "study_id" in kept and "trial_id" not in kept
        if "seconds" in kept.get("user_attr", {}):
            continue
        about = [kept.get(k) for k in ("op_code", "trial_id", "param_name", "step")]
        names = [sorted(kept[k]) for k in ("user_attr", "system_attr") if isinstance(kept.get(k), dict)]
        found[json.dumps([*about, names, number if begins else None])] = kept
    return sorted(json.dumps(kept, sort_keys=True) for kept in found.values())


def _timeless(path: Path, record: Any) -> Any:
    if path.parent.name == "stages":  # what they were made from holds times, and is hashed
        return {key: record.get(key) for key in ("status", "outputs")}
    return _without_times(record)


def _without_times(record: Any) -> Any:
    if isinstance(record, dict):
        return {k: _without_times(v) for k, v in record.items() if k not in TIMES}
    return [_without_times(v) for v in record] if isinstance(record, list) else record


def _members(path: Path, data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found: dict[str, Any] = {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if name not in ("manifest.json", "card.md")
        }
        manifest = _without_times(json.loads(archive.read("manifest.json")))
    manifest.pop("files", None)
    return {**found, "manifest": manifest}


def _hash(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def broken(root: Path) -> list[str]:
    """Files below `root` that are not whole, though they do not say that they are unfinished."""
    from niwaki_runtime.unfinished import is_unfinished

    said = []
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if path.is_file() and not any(is_unfinished(Path(part)) for part in inside.parts):
            try:
                _read(path)
            except Exception as error:  # whatever a reader makes of half a file
                said.append(f"{inside} is half written ({type(error).__name__}: {error})")
    return said


def _read(path: Path) -> None:
    import numpy as np
    import yaml
    from PIL import Image
    from safetensors import safe_open

    data = path.read_bytes()
    if path.suffix == ".json":
        json.loads(data)
    elif path.suffix == ".jsonl":
        for line in data.splitlines()[:-1]:  # the last one may be cut: whoever reads it passes over it
            json.loads(line)
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                arrays[name]
    elif path.suffix == ".npy":
        np.load(path, allow_pickle=False)
    elif path.suffix == ".safetensors":
        with safe_open(str(path), framework="np") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_tensor(name)
    elif path.suffix == ".niwaki":
        from niwaki_runtime import inspect

        inspect(path)
    elif path.suffix == ".onnx":
        import onnx

        if not onnx.load(str(path), load_external_data=False).graph.node:
            raise ValueError("the graph is empty")
    elif path.suffix in (".png", ".gif"):
        with Image.open(path) as picture:
            picture.load()
    elif path.suffix == ".html" and not data.rstrip().endswith(b"</html>"):
        raise ValueError("the page has no end")
    elif path.suffix == ".yaml" and not isinstance(yaml.safe_load(data), dict):
        raise ValueError("the recipe holds nothing")
