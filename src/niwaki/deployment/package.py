"""The bundle: manifest, graphs and card, in one directory or one file, equal bytes for equal content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, GenerativeModel, Graph, NiwakiError, nearest
from niwaki.core.store import atomic_directory, jsonable, write_bytes, write_text
from niwaki.core.version import __version__
from niwaki.deployment.card import card
from niwaki.deployment.check import Checked, check_engines
from niwaki.deployment.counting import count_quantized
from niwaki.deployment.onnx_file import read_onnx, write_graphs
from niwaki.deployment.packing import write_packed
from niwaki_runtime.archive import pack as zip_bundle
from niwaki_runtime.examples import FILE as EXAMPLES
from niwaki_runtime.examples import examples_to_bytes
from niwaki_runtime.manifest import GraphEntry, InputEntry, Manifest, write_manifest
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.samplers import Sampler
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["bundle_bytes", "package"]


def package(
    model: GenerativeModel,
    graphs: Mapping[str, Path],
    out: Path | str,
    *,
    name: str | None = None,
    sampler: Sampler | None = None,
    examples: Mapping[str, np.ndarray] | None = None,
    measured: Mapping[str, Any] | None = None,
    verdict: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    archive: bool = True,
    pack: bool = False,
) -> Path:
    """Write the bundle `out` from the exported (and perhaps quantized) ONNX files of `model`.

    graphs:     by name, as `export_graphs` returns them; weights that several share are stored once
    name:       what the bundle is called; None is the model's registered name
    sampler:    how it samples by default; None is the model's own way
    examples:   a few rows of inputs that programs cannot be tried without, by input name
    measured:   figures for the manifest and the card (`Measurement.to_json()` and the like)
    verdict:    what compression cost
    provenance: recipe, data fingerprint, seeds
    archive:    one zip file, or a directory
    pack:       weights entropy-coded, to be unpacked when the bundle is loaded: sparse, clustered and low-bit
                ones become much smaller
    What was at `out` is replaced only when the new bundle is whole. Raises CallError for a graph that the
    model does not have and NiwakiError where one that the sampler calls is missing, a file cannot be
    written or packing would save nothing.
    """
    out = Path(out)
    declared = model.graphs()
    programs = model.shipped_programs()
    if sampler is not None:
        programs[SAMPLING] = replace(programs[SAMPLING], sampler=sampler)
    for graph in graphs:
        if graph not in declared:
            raise CallError(f"the model has no graph '{graph}'; {nearest(graph, declared)}")
    for name_of, program in programs.items():
        for graph in program.sampler.graphs_used():
            if graph not in graphs:
                raise NiwakiError(
                    f"the program '{name_of}' calls the graph '{graph}', which was not exported"
                )
    protos = {graph: read_onnx(path) for graph, path in graphs.items()}
    checked, refused = _checks(graphs, declared)
    manifest = Manifest(
        name=str(name or getattr(model, "name", type(model).__name__.lower())),
        niwaki=__version__,
        programs=programs,
        graphs={g: _entry(g, declared[g], count_quantized(proto)) for g, proto in protos.items()},
        examples=EXAMPLES if examples else "",
        parity={graph: found.to_json() for graph, found in checked.items()},
        refused=refused,
        measured=jsonable(measured or {}),
        verdict=jsonable(verdict or {}),
        provenance=jsonable(provenance or {}),
    )

    def fill(directory: Path) -> None:
        packed = write_packed(protos, directory) if pack else {}
        if not pack:
            write_graphs(protos, directory)
        write_text(directory / "card.md", card(manifest))
        for file, text in model.files.items():
            write_text(directory / file, text)
        if examples:
            write_bytes(directory / EXAMPLES, examples_to_bytes(examples))
        write_manifest(directory, replace(manifest, packed=packed))

    try:
        if not archive:
            with atomic_directory(out) as directory:
                fill(directory)
            return out
        if out.is_dir():
            raise CallError(f"{out} is a directory; remove it, or package with archive=False")
        with scratch_directory() as temporary:
            fill(temporary)
            return zip_bundle(temporary, out)
    except OSError as error:
        raise NiwakiError(f"{out} could not be written: {error.strerror or error}") from error


def _checks(
    graphs: Mapping[str, Path], declared: Mapping[str, Graph]
) -> tuple[dict[str, Checked], dict[str, str]]:
    """What is known of each graph's check, and engines that cannot run one of them, with the reason. Files
    that were not made by `export_graphs` (quantized ones) are tried here, in every installed engine."""
    known: Mapping[str, Checked] = getattr(graphs, "checked", None) or {}
    untried = () if hasattr(graphs, "checked") else graphs
    found = {**known, **{graph: check_engines(graph, declared[graph], graphs[graph]) for graph in untried}}
    refused = {
        engine: f"in the graph '{graph}', {reason}"
        for graph, check in found.items()
        for engine, reason in check.refused.items()
    }
    return found, refused


def bundle_bytes(path: Path | str) -> int:
    """What a bundle takes on disk: the zip, or all files of the directory."""
    path = Path(path)
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    if not path.is_file():
        raise NiwakiError(f"{path} does not exist")
    return path.stat().st_size


def _entry(name: str, graph: Graph, counts: Mapping[str, int]) -> GraphEntry:
    return GraphEntry(
        file=f"{name}.onnx",
        role=graph.role,
        inputs=tuple(InputEntry(p.name, tuple(p.shape), p.dtype, p.batch_axis) for p in graph.inputs),
        outputs=tuple(graph.outputs),
        state=graph.state,
        quantized=dict(counts),
    )
