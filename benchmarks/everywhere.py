"""The same bundle on every engine and in every form that it can be exported to: bytes, time, memory, parity.

    python benchmarks/everywhere.py runs/digits-gan/digits-gan.niwaki
    python benchmarks/everywhere.py BUNDLE --library node_modules/onnxruntime-web --phone venv/bin/python

A sample at a time, on one thread; parity is the largest difference from onnxruntime's samples of 16 seeds.
Memory: of an engine in Python what loading and sampling takes at its peak above numpy, of the C file its
arena and its stack. `wasm` is the browser's runtime in node (`--library`: the folder of onnxruntime-web);
`executorch` runs in the Python that has it (`--phone`, default this one). What is not here is left out.
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
from niwaki_runtime.engines import available

N = 16
BROWSER = Path(__file__).parents[1] / "browser"
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
PHONE = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import niwaki
made = niwaki.export(sys.argv[1], target="executorch", out=sys.argv[2])
graphs = made["graphs"].values()
check = made["check"]
print("row", json.dumps({"bytes": made["bytes"], "ms": check["milliseconds"], "parity": check["max"],
    "delegated": sum(sum(g["delegated"].values()) for g in graphs),
    "operators": sum(sum(g["delegated"].values()) + sum(g["portable"].values()) for g in graphs)}))
"""


def rows(bundle: Path, library: Path | None, phone: str, place: Path) -> Iterator[dict[str, Any]]:
    """One for each way that is here."""
    reference = niwaki_runtime.load(bundle, engine="onnxruntime", precision="exact").sample(N, seed=0)
    for engine in available():
        found = measure_bundle(bundle, batches=(1,), engine=engine, threads=1, rounds=40)
        made = niwaki_runtime.load(bundle, engine=engine, precision="exact").sample(N, seed=0)
        difference = float(np.abs(made - reference).max())
        size = bundle.stat().st_size
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
            ["node", "--input-type=module", "-e", WASM],
            input=json.dumps(given), capture_output=True, text=True, check=True,
        )  # fmt: skip
        said = json.loads(done.stdout)
        made = np.array(said["samples"], np.float32).reshape(reference.shape)
        yield {
            "way": "wasm (node)",
            "bytes": size,
            "ms": said["ms"],
            "parity": float(np.abs(made - reference).max()),
        }
    done = subprocess.run(
        [phone, "-c", PHONE, str(bundle), str(place / "phone")], capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith("row "):
            yield {"way": "executorch", **json.loads(line[4:])}
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
    parser.add_argument("--phone", default=sys.executable, help="a Python that has executorch")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    print("| way | bytes | ms | memory | parity |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(args.bundle, args.library, args.phone, Path(folder)):
            found.append(row)
            memory = f"{row['memory']:,}" if row.get("memory") else "–"
            way = row["way"]
            if "operators" in row:
                way += f", {row['delegated']} of {row['operators']} operators by XNNPACK"
            figures = f"{row['bytes']:,} | {row['ms']:.3g} | {memory} | {row['parity']:.1e}"
            print(f"| {way} | {figures} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
