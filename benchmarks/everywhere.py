"""The same bundle on every engine and in every form that it can be exported to: bytes, time, memory, parity.

    python benchmarks/everywhere.py runs/digits-gan/digits-gan.niwaki
    python benchmarks/everywhere.py BUNDLE --library node_modules/onnxruntime-web --python venv/bin/python

A sample at a time, on one thread; parity is the largest difference from onnxruntime's samples of 16 seeds.
Memory: what loading and sampling takes at its peak above the runtime without the model, in a process of its
own; of the C file its arena and its stack. `wasm` is the browser's runtime in node (`--library`: folder of
onnxruntime-web), above node with nothing loaded. Targets that convert graph by graph run in the first Python
that has what they need (`--python`, repeatable; this one comes last). What is not here is left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import niwaki
import niwaki_runtime
from niwaki.core.contract import NiwakiError
from niwaki.deployment.measure import measure_bundle
from niwaki.deployment.targets import TARGETS
from niwaki.deployment.targets.per_graph import PerGraphTarget
from niwaki_runtime.engines import available

N = 16
BROWSER = Path(__file__).parents[1] / "browser"
MODULE = ("--input-type=module", "-e")
WASM = """
const { readFileSync, writeFileSync } = await import('node:fs');
const given = JSON.parse(readFileSync(0, 'utf-8'));
const { load } = await import(given.module);
const bundle = await load(new Uint8Array(readFileSync(given.bundle)), { library: given.library });
const made = await bundle.sample(given.n, { seed: 0 });
const took = [];
for (let i = 0; i < 60; i++) {
  const began = performance.now();
  await bundle.sample(1, { seed: i });
  took.push(performance.now() - began);
}
took.sort((a, b) => a - b);
writeFileSync(1, JSON.stringify({ ms: took[30], samples: Array.from(made.data, Number) }));
"""
PEAK = """
const status = (await import('node:fs')).readFileSync('/proc/self/status', 'utf-8');
process.stderr.write(String(1024 * Number(/VmHWM:\\s+(\\d+)/.exec(status)[1])));
"""
TARGET = """
import contextlib, json, sys, time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
import numpy as np
import niwaki_runtime
from niwaki.deployment.targets import TARGETS, with_defaults
name, bundle, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
form = TARGETS[name]()
if len(sys.argv) == 4:
    if not all(map(find_spec, form.needs)):
        sys.exit(3)
    with contextlib.redirect_stdout(sys.stderr):
        record = form.write(bundle, out, **with_defaults(form, {}))
    print(json.dumps({"bytes": record["bytes"], "check": record["check"]}))
    sys.exit()
import_module(form.runtime)
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak so far, of imports, is over
empty = peak()
loaded = form.open(out, bundle)
rows = loaded.example_inputs("sample", int(sys.argv[4]))
samples, took = loaded.sample(int(sys.argv[4]), seed=0, batch=1, condition=rows), []
memory = peak() - empty
first = {key: values[:1] for key, values in rows.items()}
for k in range(60):
    began = time.perf_counter()
    loaded.sample(1, seed=k, batch=1, condition=first)
    took.append(time.perf_counter() - began)
print(json.dumps({"ms": 1e3 * float(np.median(took)), "memory": memory, "samples": samples.ravel().tolist()}))
"""


def graph_targets() -> list[str]:
    """Names of the targets that convert graph by graph."""
    return [name for name in TARGETS.names() if issubclass(TARGETS[name], PerGraphTarget)]


def of_target(
    name: str, bundle: Path, reference: np.ndarray, pythons: list[str], place: Path
) -> dict[str, Any] | None:
    """Its row by the first Python that has it; None where no one has, or nothing can be run here."""
    for python in pythons:
        command = [python, "-c", TARGET, name, str(bundle), str(place / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 3:
            continue
        if done.returncode:
            print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        written = json.loads(done.stdout.splitlines()[-1])
        if not written["check"]["passed"]:
            print(f"{name}: {written['check']['why']}", file=sys.stderr)
            return None
        done = subprocess.run([*command, str(N)], capture_output=True, text=True, check=True)
        said = json.loads(done.stdout.splitlines()[-1])
        samples = np.array(said.pop("samples"), np.float32).reshape(reference.shape)
        parity = float(np.abs(samples - reference).max())
        return {"way": name, "bytes": written["bytes"], **said, "parity": parity}
    return None


def rows(bundle: Path, library: Path | None, pythons: list[str], place: Path) -> Iterator[dict[str, Any]]:
    """One for each way that is here."""
    reference = niwaki_runtime.load(bundle, engine="onnxruntime", precision="exact").sample(N, seed=0)
    size = bundle.stat().st_size
    for engine in available():
        found = measure_bundle(bundle, batches=(1,), engine=engine, threads=1, rounds=40)
        made = niwaki_runtime.load(bundle, engine=engine, precision="exact").sample(N, seed=0)
        difference = float(np.abs(made - reference).max())
        yield {
            "way": engine, "bytes": size, "ms": found.ms(1), "memory": found.memory_bytes,
            "parity": difference,
        }  # fmt: skip
    if library is not None and shutil.which("node"):
        given = {
            "module": (BROWSER / "src" / "index.js").as_uri(), "bundle": str(bundle), "n": N,
            "library": (library / "dist" / "ort.wasm.bundle.min.mjs").resolve().as_uri(),
        }  # fmt: skip
        done = subprocess.run(
            ["node", *MODULE, WASM + PEAK],
            input=json.dumps(given), capture_output=True, text=True, check=True,
        )  # fmt: skip
        said, full = json.loads(done.stdout), int(done.stderr.split()[-1])
        empty = subprocess.run(["node", *MODULE, PEAK], capture_output=True, text=True, check=True).stderr
        made = np.array(said["samples"], np.float32).reshape(reference.shape)
        yield {
            "way": "wasm (node)",
            "bytes": size,
            "ms": said["ms"],
            "memory": full - int(empty.split()[-1]),
            "parity": float(np.abs(made - reference).max()),
        }
    for name in graph_targets():
        row = of_target(name, bundle, reference, pythons, place)
        if row is not None:
            yield row
    try:
        c = niwaki.export(bundle, target="c", out=place / "c")
    except NiwakiError as error:
        print(f"c: {error}", file=sys.stderr)
        return
    check = c["check"]
    if check["passed"] is not None:
        memory = c["arena_bytes"] + (check["stack_bytes"] or 0)
        parity = check["engines"].get("onnxruntime", {}).get("max", check["worst"])
        yield {
            "way": "C", "bytes": c["const_bytes"], "ms": check["microseconds"] / 1e3, "memory": memory,
            "parity": parity,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--library", type=Path, help="folder of onnxruntime-web")
    parser.add_argument("--python", action="append", default=[], help="one that has converters; repeatable")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    print("| way | bytes | ms | memory | parity |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(args.bundle, args.library, [*args.python, sys.executable], Path(folder)):
            found.append(row)
            memory = f"{row['memory']:,}" if row.get("memory") else "–"
            figures = f"{row['bytes']:,} | {row['ms']:.3g} | {memory} | {row['parity']:.1e}"
            print(f"| {row['way']} | {figures} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
