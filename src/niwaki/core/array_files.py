"""Arrays in files, `.npy` and `.npz`: of any origin, opened in one place, and made in one."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from niwaki_runtime.errors import CallError, NiwakiError, first_line

__all__ = ["npy_bytes", "npz_bytes", "read_array_file"]


def read_array_file(
    path: Path | str,
    *,
    wanted: Callable[[Collection[str]], Collection[str]] = lambda names: names,
    single: str = "x",
    called: str = "",
) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` by name; that of an `.npy` under `single`.

    wanted: names that the file has → those to read; what it raises is passed on
    called: how messages name the file; its path otherwise
    Raises CallError in one sentence for a file that is missing or damaged, holds Python objects, or promises
    more than the memory of this machine. Nothing in it is executed.
    """
    path, named = Path(path), called or str(path)
    if not path.exists():
        raise CallError(f"{named} does not exist")
    try:
        _check_size(path, named)
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {single: found}
        with found:
            return {name: found[name] for name in wanted(found.files)}
    except NiwakiError:
        raise
    except Exception as error:  # zlib.error, TokenError, OverflowError …: damaged bytes reach many parsers
        if "pickle" in str(error):  # numpy also takes any unknown file for a pickle
            raise CallError(
                f"{named} holds Python objects or is no npy or npz file; save uint8 or float arrays"
            ) from None
        raise CallError(f"{named} is not a whole npy or npz file: {first_line(error)}") from error


def npy_bytes(x: np.ndarray) -> bytes:
    """The array as an `.npy` file. Raises ValueError for Python objects, which need pickle."""
    file = io.BytesIO()
    np.save(file, x, allow_pickle=False)
    return file.getvalue()


def npz_bytes(**arrays: np.ndarray) -> bytes:
    """The arrays as a compressed `.npz` file. Raises ValueError for Python objects, which need pickle."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _check_size(path: Path, named: str) -> None:
    """A few hundred bytes can promise terabytes: by deflate, or by an array's header."""
    promised, room = path.stat().st_size, _memory()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = [(archive.open(one), one.file_size) for one in archive.infolist()]
            promised = sum(max(size, _of_header(file)) for file, size in members)
    else:
        with path.open("rb") as file:
            promised = max(promised, _of_header(file))
    if promised > room:
        much, there = (f"{size / 1e9:.3g} GB" for size in (promised, room))
        raise CallError(f"{named} promises {much} of arrays, and this machine has {there} of memory")


def _of_header(file: Any) -> int:
    """Bytes of the array whose header stands at the beginning of a file; 0 where none does."""
    if file.read(6) != b"\x93NUMPY":
        return 0
    version = tuple(file.read(2))
    reader = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
    shape, _, dtype = reader(file)
    count = 1
    for side in shape:
        count *= int(side)
    return count * int(dtype.itemsize)


def _memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)
