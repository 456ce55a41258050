"""One watched stream on disk: what has come, what was found, and the samples that a retraining would take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.array_files import npz_bytes, read_array_file
from niwaki.core.errors import CallError
from niwaki.core.store import read_json, write_bytes, write_json
from niwaki.evaluation.drift.channel import Stream
from niwaki.evaluation.drift.watch import Reading, Watch

__all__ = ["StreamState"]

_KEPT = 5000
"""Latest samples that are kept, for a retraining."""
_FORM = 1


@dataclass
class StreamState:
    """`<stream>.npz` and `<stream>.json` in the folder of the watch; the first is written first.

    waiting: samples `(n, *shape)` that fill no block yet; samples: the latest that have been looked at
    taken:   what was read, by file
    history: the readings after every block
    drawn:   samples that were drawn of a model
    """

    folder: Path
    stream: Stream
    digest: str
    watch: Watch
    block: int
    waiting: np.ndarray
    samples: np.ndarray
    taken: dict[str, str] = field(default_factory=dict)
    history: list[list[dict[str, Any]]] = field(default_factory=list)
    drawn: int = 0

    @property
    def record(self) -> Path:
        return self.folder / f"{self.stream}.json"

    @classmethod
    def open(cls, folder: Path, watch: Watch, digest: str, block: int, shape: tuple[int, ...]) -> StreamState:
        """Where an earlier call left it, or new.

        Raises CallError where that one had another reference, margin, level or size of blocks.
        """
        none = np.zeros((0, *shape), np.float32)
        made = cls(folder, watch.stream, digest, watch, block, none, none)
        if not made.record.exists():
            return made
        known, arrays = read_json(made.record), read_array_file(folder / f"{watch.stream}.npz")
        now = made._settings()
        if known.get("settings") != now:
            differ = [key for key, value in now.items() if known.get("settings", {}).get(key) != value]
            raise CallError(
                f"{folder} watches with another {' and '.join(differ)}; go on with the same, or begin anew "
                "with --fresh"
            )
        count = int(arrays["blocks"])
        made.waiting, made.samples = arrays["waiting"], arrays["samples"]
        made.taken, made.drawn = dict(known["taken"]), int(known["drawn"])
        made.history = list(known["history"])[:count]
        watch.restore({k[2:]: v for k, v in arrays.items() if k.startswith("w.")})
        return made

    def _settings(self) -> dict[str, Any]:
        watch = self.watch
        return {
            "form": _FORM, "reference": self.digest, "margin": watch.margin, "level": watch.level,
            "block": self.block, "seed": watch.seed,
        }  # fmt: skip

    def add(self, x: np.ndarray, features: Any) -> list[list[Reading]]:
        """Samples that have come; readings of every block that they fill. features: samples → features"""
        self.waiting = np.concatenate([self.waiting, np.asarray(x, np.float32)])
        said = []
        while len(self.waiting) >= self.block:
            block, self.waiting = self.waiting[: self.block], self.waiting[self.block :]
            readings = self.watch.add(features(block))
            self.samples = np.concatenate([self.samples, block])[-_KEPT:]
            self.history.append([reading.to_json() for reading in readings])
            said.append(readings)
        return said

    def save(self) -> None:
        arrays = {f"w.{name}": value for name, value in self.watch.state().items()}
        count = np.int64(len(self.history))
        arrays |= {"waiting": self.waiting, "samples": self.samples, "blocks": np.asarray(count)}
        write_bytes(self.folder / f"{self.stream}.npz", npz_bytes(**arrays))
        write_json(
            self.record,
            {
                "stream": self.stream,
                "settings": self._settings(),
                "taken": self.taken,
                "drawn": self.drawn,
                "waiting": len(self.waiting),
                "history": self.history,
            },
        )

    def since(self, block: int) -> np.ndarray:
        """Samples of all blocks from one on, as far as they are kept."""
        n = (len(self.history) - block) * self.block
        return self.samples[-n:] if n else self.samples[:0]
