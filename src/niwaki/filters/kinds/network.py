"""A filter that `niwaki filter` has trained: one file with a network as ONNX and a record of its rates.

A zip of `filter.json` and `graph.onnx`; reading it executes no code, and the graph is checked by SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.filters.base import Filter, FilterPlace, register_filter
from niwaki_runtime.engines import open_graph
from niwaki_runtime.errors import CallError, NiwakiError
from niwaki_runtime.specs import ValueSpec

__all__ = ["GRAPH", "RECORD", "SCHEMA", "NetworkFilter", "read_filter"]

RECORD, GRAPH, SCHEMA = "filter.json", "graph.onnx", 1
_BATCH = 64
_LARGEST = 1 << 30  # bytes of a file in it


@register_filter("network")
class NetworkFilter(Filter):
    """record: what `filter.json` says: the samples' `spec`, threshold, rates, sizes, what it was made from"""

    def __init__(self, record: Mapping[str, Any], graph: bytes, place: FilterPlace) -> None:
        self.record = dict(record)
        self.name = str(record["name"])
        self.threshold = float(record["threshold"]["value"] if place.threshold is None else place.threshold)
        self.spec = ValueSpec.from_json(record["spec"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / GRAPH
            path.write_bytes(graph)
            self._graph = open_graph(place.engine, path, precision="exact", threads=1)

    @classmethod
    def holds(cls, path: Path) -> bool:
        return path.is_file() and zipfile.is_zipfile(path)

    @classmethod
    def open(cls, place: FilterPlace) -> NetworkFilter:
        if place.labels:
            raise CallError(f"{place.path} knows good and bad alone; leave label= out")
        return cls(*read_filter(place.path), place)

    def check(self, spec: ValueSpec) -> None:
        if not _alike(self.spec, spec):
            raise CallError(f"the filter '{self.name}' is for {_words(self.spec)}, not for {_words(spec)}")

    def score(self, x: np.ndarray, spec: ValueSpec) -> np.ndarray:
        self.check(spec)
        x = np.asarray(x, self._graph.inputs[0].dtype)
        if not len(x):
            return np.zeros(0)
        # Batches of one size: a score does not depend on who else is asked about.
        rows = []
        for at in range(0, len(x), _BATCH):
            part = x[at : at + _BATCH]
            full = np.concatenate([part, np.repeat(part[-1:], _BATCH - len(part), 0)])
            rows.append(
                np.asarray(self._graph(np.ascontiguousarray(full)), np.float64).reshape(-1)[: len(part)]
            )
        return np.concatenate(rows)

    def to_json(self) -> dict[str, Any]:
        about = {k: self.record[k] for k in ("area", "rates", "roc", "learnt", "features", "data", "seed")}
        return {**super().to_json(), "calibration": self.record["threshold"], **about}


def read_filter(path: Path) -> tuple[dict[str, Any], bytes]:
    """Record and graph of a filter's file. Raises NiwakiError where it is broken or was changed."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if set(sizes) != {RECORD, GRAPH} or max(sizes.values()) > _LARGEST:
                raise NiwakiError(f"{path} holds no filter; make one by `niwaki filter`")
            record = json.loads(archive.read(RECORD))
            graph = archive.read(GRAPH)
    except (OSError, zipfile.BadZipFile, ValueError, EOFError) as error:
        raise NiwakiError(f"the filter {path} cannot be read ({error}); copy or make it again") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise NiwakiError(
            f"the filter {path} has another schema than {SCHEMA}; make it again by `niwaki filter`"
        )
    if hashlib.sha256(graph).hexdigest() != record.get("graph_sha256"):
        raise NiwakiError(f"the network in the filter {path} is not the one it was made with; copy it again")
    return record, graph


def _words(spec: ValueSpec) -> str:
    return f"{spec.modality} samples of shape {tuple(spec.shape)} in {spec.low:g} … {spec.high:g}"


def _alike(a: ValueSpec, b: ValueSpec) -> bool:
    """Shape, axes and range: how finely levels are stored does not matter to a network."""
    return (tuple(a.shape), a.axes, a.is_tokens) == (tuple(b.shape), b.axes, b.is_tokens) and (
        a.low,
        a.high,
    ) == (
        b.low,
        b.high,
    )
