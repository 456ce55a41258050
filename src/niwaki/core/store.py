"""Files that are whole or not there: every write goes to a temporary name and is renamed into place.

Tensors are safetensors, everything else is JSON. No pickle is written or read.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from niwaki_runtime.errors import NiwakiError
from niwaki_runtime.unfinished import partial_directory, partial_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "append_jsonl",
    "atomic_directory",
    "copy_file",
    "hash_bytes",
    "hash_directory",
    "hash_file",
    "hash_json",
    "hash_tensors",
    "hash_unchanged",
    "jsonable",
    "keep_tensors",
    "kept_json",
    "read_json",
    "read_jsonl",
    "read_tensors",
    "replace_directory",
    "write_bytes",
    "write_json",
    "write_tensors",
    "write_text",
]


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` so that a reader sees the old file or the new one, never a part.

    Raises NiwakiError where the disk is full or the place cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path) as file:
            file.write(data)
    except OSError as error:
        raise NiwakiError(
            f"{path} could not be written: {error.strerror or error}; what was there is unchanged"
        ) from error


def write_text(path: Path | str, text: str) -> None:
    """UTF-8. Bytes of a file's name that are none become escapes, which JSON and YAML read back."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path | str, value: Any) -> None:
    """Indented JSON; numbers that JSON does not know (NaN, ±∞) become null."""
    write_text(path, json.dumps(jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def jsonable(value: Any) -> Any:
    """`value` with tuples, numpy scalars and arrays, paths and non-finite numbers as JSON knows them."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(v) for v in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "to_json"):
        return jsonable(value.to_json())
    if hasattr(value, "model_dump"):
        return jsonable(value.model_dump(mode="json"))
    if hasattr(value, "tolist"):  # numpy scalars and arrays, tensors
        return jsonable(value.tolist())
    return str(value)


def read_json(path: Path | str) -> Any:
    """Raises NiwakiError with one sentence where the file is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NiwakiError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise NiwakiError(f"{path} is not readable JSON: {error}") from error


def kept_json(
    path: Path | None,
    make: Callable[[], Any],
    whole: Callable[[Any], bool] = lambda found: isinstance(found, dict),
) -> Any:
    """What a cache keeps at `path`, or what `make` gives, kept there from now on; None keeps nothing.

    whole: whether what was read is what was kept; a damaged or foreign file is made again
    """
    if path is not None and os.path.exists(path):
        try:
            found = read_json(path)
        except NiwakiError:
            found = None
        if found is not None and whole(found):
            return found
    made = make()
    if path is not None:
        with suppress(NiwakiError):  # what cannot be kept is made again
            write_json(path, made)
    return made


def append_jsonl(path: Path | str, *records: Mapping[str, Any]) -> None:
    """Add lines to a log. A line cut short by a kill is skipped by `read_jsonl`."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(jsonable(r), allow_nan=False) + "\n" for r in records)


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The whole lines of a log; an empty list where there is none."""
    records = []
    if Path(path).exists():
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return records


def write_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """A safetensors file; tensors that share memory are written once each, views become contiguous copies."""
    from safetensors.torch import save  # here, so that what only writes JSON and pictures needs no torch

    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_bytes(path, save(plain, metadata=dict(metadata or {})))


def keep_tensors(path: Path | str, tensors: Mapping[str, Tensor]) -> None:
    """`write_tensors` into a cache: what cannot be kept there is made again."""
    with suppress(NiwakiError):
        write_tensors(path, tensors)


def read_tensors(path: Path | str, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Raises NiwakiError where the file is missing, cut short or not safetensors."""
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise NiwakiError(f"{path} does not exist") from None
    except (OSError, SafetensorError) as error:
        raise NiwakiError(f"{path} is not a whole safetensors file: {error}") from error


@contextmanager
def atomic_directory(path: Path | str) -> Iterator[Path]:
    """A temporary directory that becomes `path` when the block ends well and vanishes when it does not."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_directory(path.parent, f".{path.name}.") as temporary:
            yield temporary
            replace_directory(temporary, path)
    except OSError as error:
        raise NiwakiError(f"{path} could not be written: {error.strerror or error}") from error


def replace_directory(made: Path, path: Path) -> None:
    """Put the directory `made` in the place of `path`. Where the system can, they change places at once, so
    that at no moment there is neither; what was there then has the name of `made`."""
    if not path.exists() or not _exchange(made, path):
        if path.exists():
            os.replace(path, made.with_name(made.name + ".old"))
        os.replace(made, path)
        shutil.rmtree(made.with_name(made.name + ".old"), ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Let two paths change places at once, where the system can (`renameat2` of Linux)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def copy_file(source: Path | str, path: Path | str) -> None:
    """Copy a file whole or not at all. Raises NiwakiError where `path` cannot be written."""
    path = Path(path)
    with open(source, "rb") as data:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial_file(path) as file:
                shutil.copyfileobj(data, file, 1 << 20)
        except OSError as error:
            raise NiwakiError(
                f"{path} could not be written: {error.strerror or error}; what was there is unchanged"
            ) from error


def hash_bytes(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_directory(path: Path) -> str:
    """SHA-256 over the names and contents of all files under `path` (or of the file that it is)."""
    if path.is_file():
        return hash_file(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    listed = "\n".join(f"{p.relative_to(path)} {hash_file(p)}" for p in files)
    return hash_bytes(listed.encode("utf-8", "surrogateescape"))


def hash_unchanged(path: Path) -> str:
    """`hash_directory`, worked out once for as long as no file under `path` changes its size or its time."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    states = [(str(p), found.st_ino, found.st_size, found.st_mtime_ns) for p in files if (found := p.stat())]
    return _hash_in_state(path, tuple(states))


@lru_cache(maxsize=64)
def _hash_in_state(path: Path, states: tuple[tuple[str, int, int, int], ...]) -> str:
    return hash_directory(path)


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`: equal for equal content, whatever the order of keys."""
    return hash_bytes(json.dumps(jsonable(value), sort_keys=True, separators=(",", ":")).encode())


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{t.dtype}:{tuple(t.shape)};".encode())
        digest.update(t.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
