"""Lines that are on the disk before anybody is answered."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.core.store import jsonable
from niwaki_runtime.errors import NiwakiError

__all__ = ["DurableLog"]


class DurableLog:
    """A file of JSON lines that only grows, for many threads of one process.

    A line that a kill cut short is followed by a new one, and skipped by `read_jsonl`.
    """

    def __init__(self, path: Path) -> None:
        """Raises NiwakiError where the file cannot be written."""
        self.path, self._lock = path, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")
        except OSError as error:
            raise NiwakiError(f"{path} cannot be written: {error.strerror or error}") from None

    def add(self, *records: Mapping[str, Any], sync: bool = True) -> None:
        """Append lines.

        sync: return only when the disk has them; without it they reach the disk with the next synced line or
              when the system writes them, and survive the end of the process, but not that of the machine
        Raises NiwakiError where the disk is full.
        """
        data = "".join(json.dumps(jsonable(r), ensure_ascii=False, allow_nan=False) + "\n" for r in records)
        left = memoryview(data.encode("utf-8", "backslashreplace"))
        try:
            with self._lock:
                while left:
                    left = left[os.write(self._file, left) :]
                if sync:
                    os.fsync(self._file)
        except OSError as error:
            raise NiwakiError(f"{self.path} could not be written: {error.strerror or error}") from None

    def close(self) -> None:
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1
