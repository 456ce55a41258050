"""Peak memory: a fresh process that only loads and samples, above the same one with nothing loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from niwaki.core.contract import NiwakiError

__all__ = ["bundle_memory", "model_memory", "peak_above_empty"]

# VmHWM belongs to the process image; ru_maxrss would start at what the parent had when it forked.
_PEAK = """
def peak():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource, sys
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
"""

_BUNDLE = """
import importlib, json, sys
import numpy, niwaki_runtime, niwaki_runtime.engines
path, engine, precision, threads, n = json.loads(sys.argv[1])
importlib.import_module(engine)
empty = peak()
bundle = niwaki_runtime.load(path, engine=engine, precision=precision, threads=threads)
bundle.sample(n, seed=0, batch=n, condition=bundle.example_inputs("sample", n))
print(json.dumps([empty, peak()]))
"""

_MODEL = """
import json, sys
import torch, niwaki.models
path, threads, n, bundle = json.loads(sys.argv[1])
torch.set_num_threads(threads)
inputs = {}
if bundle:
    from pathlib import Path
    from niwaki_runtime.bundle import inspect
    from niwaki_runtime.examples import example_rows
    manifest = inspect(bundle)
    inputs = example_rows(Path(bundle), manifest, manifest.conditions, n)
empty = peak()
niwaki.models.load_model(path).sample(n, seed=0, batch=n, condition=inputs)
print(json.dumps([empty, peak()]))
"""


def peak_above_empty(
    program: Sequence[str],
    arguments: Sequence[object],
    repeats: int = 3,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Median over fresh processes of the peak above the empty one, in bytes.

    program:   what follows `python`: it gets `arguments` as JSON, and prints `[empty, peak]`
    Raises NiwakiError where it fails.
    """
    found = []
    for _ in range(repeats):
        command = [sys.executable, *program, json.dumps(list(arguments))]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["it was killed"]
            raise NiwakiError(f"the process whose memory was to be measured failed: {last[0]}")
        empty, full = json.loads(done.stdout.strip().splitlines()[-1])
        found.append(full - empty)
    return int(median(found))


def bundle_memory(
    path: Path | str,
    *,
    engine: str = "openvino",
    precision: str = "fast",
    threads: int = 2,
    n: int = 16,
    repeats: int = 3,
) -> int:
    """Bytes that loading a bundle and making `n` samples takes at its peak, above numpy and the engine."""
    return peak_above_empty(["-c", _PEAK + _BUNDLE], [str(path), engine, precision, threads, n], repeats)


def model_memory(
    directory: Path | str, *, threads: int = 2, n: int = 16, repeats: int = 3, bundle: Path | str = ""
) -> int:
    """The same for a saved torch model (`save_model`), above torch alone.

    bundle: of the same model, whose examples are what samples are asked for; needed where inputs have no
            default
    """
    return peak_above_empty(["-c", _PEAK + _MODEL], [str(directory), threads, n, str(bundle)], repeats)
