"""What a program gave, and how it becomes files and words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.array_files import npy_bytes, npz_bytes
from niwaki.core.contract import ConditionSpec, ValueSpec
from niwaki.core.store import write_bytes
from niwaki.modalities import modality_of
from niwaki.modalities.base import put
from niwaki.modalities.provenance import Provenance

__all__ = ["Samples"]


@dataclass(frozen=True)
class Samples:
    """What a program gave.

    x:         `(n, *spec.shape)` float32 in [spec.low, spec.high] (integers where results are tokens)
    condition: what was asked of each, one row per sample, by input name
    spec:      what one of them is
    start:     index of the first one in the stream of `seed`
    files:     what the model ships (`tokenizer.json`)
    asked:     what each input means, by its name
    source:    what files say of where they come from; None: nothing
    index:     which samples of the seed they are `(n,)`, where they do not follow one another from `start`
    screening: what a filter said of them, and of those that it withheld
    balance:   what they were balanced by, and how many candidates that took
    """

    x: np.ndarray
    condition: dict[str, np.ndarray]
    seed: int
    spec: ValueSpec
    start: int = 0
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    asked: Mapping[str, ConditionSpec] = field(default_factory=dict, repr=False)
    source: Provenance | None = field(default=None, repr=False)
    index: np.ndarray | None = field(default=None, repr=False)
    screening: Mapping[str, Any] | None = field(default=None, repr=False)
    balance: Mapping[str, Any] | None = field(default=None, repr=False)

    def further(self) -> dict[str, Any]:
        """What is to be said beside the samples, ready for JSON: `index`, `filter`, `balance`."""
        said = {"index": self.index, "filter": self.screening, "balance": self.balance}
        return {name: value for name, value in said.items() if value is not None}

    def write(self, path: str | Path) -> Path:
        """Arrays (`.npz`, `.npy`), or as the modality is written: a picture (`.png`), text (`.txt`), sound
        (`.wav`), a table (`.csv`), a clip (`.gif`, `.mp4`); without an ending, a folder with a file for each.
        Files say where they come from. Raises CallError for another ending."""
        path = Path(path)
        if not path.suffix:
            self._write_folder(path)
        elif path.suffix == ".npy":
            put(path, npy_bytes(self.x), self.source)
        elif path.suffix == ".npz":
            source: dict[str, Any] = {"seed": np.int64(self.seed), "start": np.int64(self.start)}
            named = {k: v for k, v in self.condition.items() if k != "x"}
            if self.source is not None:
                source |= {"provenance": np.array(self.source.text())}
            source |= {"spec": np.array(json.dumps(self.spec.to_json()))}
            if self.index is not None:
                named["index"] = self.index
            if self.screening is not None and self.screening["action"] == "mark":
                named["filter_score"] = np.asarray(self.screening["scores"])
            write_bytes(path, npz_bytes(x=self.x, **source, **named))
        else:
            modality_of(self.spec).write(path, self.x, self.spec, self.files, self.source)
        return path

    def _write_folder(self, folder: Path) -> None:
        """`00000.png` …: each sample as it is, not enlarged, named by its index."""
        modality = modality_of(self.spec)
        ending = next((e for e in (".wav", ".txt") if e in modality.writers(self.spec)), None)
        numbers = range(self.start, self.start + len(self.x)) if self.index is None else self.index.tolist()
        for i, one in zip(numbers, self.x, strict=True):
            own = None if self.source is None else replace(self.source, start=i, n=1)
            if ending is None:
                suffix, data = modality.file_of(one, self.spec)
                put(folder / f"{i:05d}{suffix}", data, own)
            else:
                modality.write(folder / f"{i:05d}{ending}", one[None], self.spec, self.files, own)

    def _repr_html_(self) -> str:
        from niwaki.workflow.notebook.views import samples_view

        labels = next((spec for spec in self.asked.items() if spec[1].is_label), None)
        rows = None if labels is None else self.condition.get(labels[0])
        names = () if labels is None else labels[1].value.names
        return samples_view(self.x, self.spec, rows, names, self.files, f", seed {self.seed}")

    def say(self, most: int = 3) -> list[str]:
        """The first few for a terminal; nothing where they cannot be read there."""
        said = [modality_of(self.spec).say(x, self.spec, self.files) for x in self.x[:most]]
        return [text for text in said if text]
