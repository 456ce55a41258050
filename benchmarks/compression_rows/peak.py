"""Run in a fresh process: `python -m compression_rows.peak '[artefact, threads, n]'` prints two peaks."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np  # noqa: F401  (part of what every process has)

from niwaki_runtime import engines
from niwaki_runtime.bundle import Bundle, inspect, load


def peak() -> int:
    """VmHWM belongs to the process image; ru_maxrss would start at what the parent had when it forked."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell VmHWM")


def main() -> None:
    artefact, threads, n = json.loads(sys.argv[1])
    if artefact["kind"] == "torch":
        import torch

        import niwaki.models

        torch.set_num_threads(threads)
        empty = peak()
        niwaki.models.load_model(artefact["path"]).sample(n, seed=0, batch=n)
    else:
        importlib.import_module(artefact["engine"])
        empty = peak()
        if artefact["kind"] == "bundle":
            bundle = load(artefact["path"], engine=artefact["engine"], threads=threads)
        else:  # as `artefact.opened`, which would bring torch along
            manifest = inspect(artefact["sampling"])
            graphs = {
                name: engines.open_graph(
                    artefact["engine"],
                    Path(artefact["path"]) / file,
                    threads=threads,
                    inputs=manifest.graphs[name].input_names,
                    outputs=manifest.graphs[name].output_names,
                    state=manifest.graphs[name].state,
                )
                for name, file in artefact["files"].items()
            }
            bundle = Bundle(Path(artefact["path"]), manifest, graphs, artefact["engine"])
        bundle.sample(n, seed=0, batch=n)
    print(json.dumps([empty, peak()]))


if __name__ == "__main__":
    main()
