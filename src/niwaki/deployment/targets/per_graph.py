"""A target that converts each graph by itself: its file, how it was checked, and the record of both."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from niwaki.core.contract import CallError, NiwakiError, nearest
from niwaki.core.store import atomic_directory, read_json, write_bytes, write_json
from niwaki.deployment.static_graph.agreement import coarsest_step
from niwaki.deployment.static_graph.converted import Converted, ConvertedGraph, Execute
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.static_graph.reading import read_network
from niwaki.deployment.static_graph.samples import compare_samples
from niwaki.deployment.targets.target import Target
from niwaki.deployment.torch_graph import OPERATORS
from niwaki_runtime import Bundle
from niwaki_runtime.bundle import open_files
from niwaki_runtime.manifest import GraphEntry, Manifest

__all__ = ["PerGraphTarget"]


class PerGraphTarget(Target):
    """`out` is a directory: what `convert` makes of each graph that the program calls, and export.json.

    needs:   packages that must be here, as they are imported; install: how they come, default the extra
    runtime: the module that runs the files here
    program: of the bundle
    n, seed: the results that are compared with the bundle's
    """

    needs: ClassVar[tuple[str, ...]]
    install: ClassVar[str] = ""
    runtime: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {"program": "sample", "n": 32, "seed": 0}

    @abstractmethod
    def convert(self, network: Network, options: Mapping[str, Any]) -> Converted:
        """The graph for one sample. Raises NiwakiError, which names the graph, where it cannot be carried."""

    @abstractmethod
    def load(self, files: Mapping[str, bytes], graph: Mapping[str, Any]) -> Execute | None:
        """What `convert` gave, run in this process; None where this machine cannot.

        graph: as the record describes it
        """

    def open(self, out: Path, bundle: Path) -> Bundle:
        """A bundle whose graphs are run from the files that `write` left in `out`: with `batch=1`, for they
        take one sample at a time.

        Raises NiwakiError where this machine cannot run them.
        """

        def opened(directory: Path, manifest: Manifest) -> Bundle:
            graphs: dict[str, Any] = {}
            for name, graph in read_json(out / "export.json")["graphs"].items():
                execute = self.load({file: (out / file).read_bytes() for file in graph["files"]}, graph)
                if execute is None:
                    raise NiwakiError(self._nowhere())
                graphs[name] = _runner(execute, graph, manifest.graphs[name])
            return Bundle(bundle, manifest, graphs, self.name)

        found: Bundle = open_files(bundle, opened)
        return found

    def _nowhere(self) -> str:
        return f"files of {self.name} cannot be run on this machine"

    def write(self, bundle: Path, out: Path, **options: Any) -> dict[str, Any]:
        """`out`, `bytes`, `graphs` (of each its file, bytes, inputs, outputs and what the target says of it),
        `check`, as export.json has them.

        Raises CallError for a program that the bundle does not have, NiwakiError as `Target.write` says and
        where a package is not installed.
        """
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            how = self.install or f"pip install 'niwaki[{self.name}]'"
            raise NiwakiError(f"the target '{self.name}' needs {' and '.join(missing)}; {how}")
        program, n = options["program"], options["n"]
        if n < 1:
            raise CallError(f"at least one result must be compared, not {n}")

        def written(directory: Path, manifest: Manifest) -> dict[str, Any]:
            if program not in manifest.programs:
                raise CallError(f"{bundle} has no program '{program}'; {nearest(program, manifest.programs)}")
            networks = self._networks(directory, manifest, program)
            step = max(map(coarsest_step, networks.values()), default=0.0)
            graphs = {name: self.convert(network, options) for name, network in networks.items()}
            step = max([step, *(one.step for one in graphs.values())])
            records = {name: _record(networks[name], one) for name, one in graphs.items()}
            record = {
                "target": self.name,
                "model": manifest.name,
                "program": program,
                "sampler": manifest.programs[program].sampler.to_json(),
                "graphs": records,
                "bytes": sum(one.bytes for one in graphs.values()),
                "check": self._check(bundle, manifest, records, graphs, options, step),
                "verdict": dict(manifest.verdict),
            }
            with atomic_directory(out) as place:
                for one in graphs.values():
                    for file, data in one.files.items():
                        (place / file).parent.mkdir(parents=True, exist_ok=True)
                        write_bytes(place / file, data)
                write_json(place / "export.json", record)
            return {"out": out, **record}

        found: dict[str, Any] = open_files(bundle, written)
        return found

    def _networks(self, directory: Path, manifest: Manifest, program: str) -> dict[str, Network]:
        entries = {name: manifest.graphs[name] for name in manifest.programs[program].sampler.graphs_used()}
        return {
            name: read_network(
                directory / entry.file, name, list(entry.input_names), list(entry.output_names),
                known=OPERATORS, form=self.name,
            )
            for name, entry in sorted(entries.items())
        }  # fmt: skip

    def _check(
        self,
        bundle: Path,
        manifest: Manifest,
        records: Mapping[str, Mapping[str, Any]],
        graphs: Mapping[str, Converted],
        options: Mapping[str, Any],
        step: float,
    ) -> dict[str, Any]:
        runners = {}
        for name, one in graphs.items():
            execute = self.load(one.files, records[name])
            if execute is None:
                return {"passed": None, "why": self._nowhere()}
            runners[name] = _runner(execute, records[name], manifest.graphs[name])
        return compare_samples(
            bundle, manifest, options["program"], runners, self.name, n=options["n"], seed=options["seed"],
            step=step,
        )  # fmt: skip

    def lines(self, written: Mapping[str, Any]) -> list[str]:
        check = written["check"]
        said = [self.line(name, graph) for name, graph in written["graphs"].items()]
        compared = (
            f"{check['n']} samples as the bundle's to {check['max']:.2g}, "
            f"{check['milliseconds']:.3g} ms for one here"
            if check["passed"]
            else f"nothing was compared with the bundle: {check['why']}"
        )
        return [f"{written['out']}  {written['bytes']} bytes", *said, compared]

    def line(self, name: str, graph: Mapping[str, Any]) -> str:
        """What a terminal shows of a graph."""
        few, of = graph["weights_on_integers"]
        integers = f", weights of {few} of {of} layers on integers" if of else ""
        return f"{name}: {graph['bytes']} bytes{integers}"


def _runner(execute: Execute, graph: Mapping[str, Any], entry: GraphEntry) -> ConvertedGraph:
    return ConvertedGraph(execute, graph["inputs"], graph["outputs"], entry.state)


def _record(network: Network, converted: Converted) -> dict[str, Any]:
    arrays = network.arrays
    return {
        "file": converted.file,
        "files": list(converted.files),
        "bytes": converted.bytes,
        "inputs": {i: [arrays[i].dtype, *arrays[i].shape] for i in network.inputs},
        "outputs": {o: [arrays[o].dtype, *arrays[o].shape] for o in network.outputs},
        **converted.record,
    }
