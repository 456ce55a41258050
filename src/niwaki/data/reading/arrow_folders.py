"""Data sets of Hugging Face's `datasets` as `save_to_disk` leaves them: a folder of Arrow files with a
description. Read with pyarrow; the package `datasets` is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError
from niwaki.core.errors import first_line
from niwaki.core.store import read_json

__all__ = ["ArrowSplit", "read_arrow_folder"]

_SET, _DICT, _INFO = "state.json", "dataset_dict.json", "dataset_info.json"


@dataclass(frozen=True)
class ArrowSplit:
    """One data set of a folder.

    name:     of its split; empty where the folder holds a single data set
    columns:  by name, one value of Python for each row
    features: what `datasets` says of every column (`{"_type": "Image"}`)
    """

    name: str
    columns: Mapping[str, list[Any]]
    features: Mapping[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def images(self) -> list[str]:
        """Columns that hold pictures, by their description or their content."""
        typed = [k for k, f in self.features.items() if isinstance(f, dict) and f.get("_type") == "Image"]
        held = [k for k, v in self.columns.items() if v and isinstance(v[0], dict) and {"bytes"} <= set(v[0])]
        return [name for name in dict.fromkeys((*typed, *held)) if name in self.columns]

    def labels(self) -> dict[str, tuple[str, ...]]:
        """Names of the labels of columns that are `ClassLabel`s."""
        return {
            k: tuple(map(str, f.get("names") or ()))
            for k, f in self.features.items()
            if isinstance(f, dict) and f.get("_type") == "ClassLabel"
        }


def read_arrow_folder(root: Path, path: str) -> list[ArrowSplit]:
    """The data sets of a folder: one, or one for each split.

    path: the folder, as messages name it
    Raises CallError for a folder that `save_to_disk` did not write, a broken file, and without pyarrow.
    """
    if (root / _DICT).is_file():
        names = read_json(root / _DICT).get("splits") or []
        return [_read(root / name, f"{path}/{name}", name) for name in names]
    if (root / _SET).is_file():
        return [_read(root, path, "")]
    raise CallError(f"'{path}' is no data set that `save_to_disk` wrote: it holds neither {_SET} nor {_DICT}")


def _read(root: Path, path: str, name: str) -> ArrowSplit:
    try:
        import pyarrow
        from pyarrow import ipc
    except ImportError as error:
        raise CallError(
            "data sets of Hugging Face are read with the package 'pyarrow', which is not installed: "
            "pip install 'niwaki[series]'"
        ) from error
    state = read_json(root / _SET)
    if state.get("_indices_data_files"):
        raise CallError(
            f"'{path}' is a selection of rows; save it with `data.flatten_indices().save_to_disk(…)`"
        )
    columns: dict[str, list[Any]] = {}
    for file in [entry["filename"] for entry in state.get("_data_files") or ()]:
        try:
            with pyarrow.memory_map(str(root / file)) as source:
                table = ipc.open_stream(source).read_all()
        except (OSError, pyarrow.ArrowException) as error:
            raise CallError(f"'{path}/{file}' cannot be read: {first_line(error)}") from None
        for title in table.column_names:
            columns.setdefault(title, []).extend(table.column(title).to_pylist())
    info = root / _INFO
    features = read_json(info).get("features") if info.is_file() else None
    return ArrowSplit(name, columns, features or {})
