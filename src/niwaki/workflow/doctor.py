"""Doctor: what is installed, what the hardware offers, what is odd about the data, and whether a training
would learn."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from niwaki.data import Dataset
from niwaki.data import load as load_data
from niwaki.recipe import Overrides, Recipe, check_data, load_recipe
from niwaki.training.checks import CHECKS, Looked, Subject
from niwaki.workflow.reporter import Quiet, Reporter, counter
from niwaki.workflow.run_directory import versions
from niwaki.workflow.stages.train import fresh_model
from niwaki_runtime.engines import available
from niwaki_runtime.processor import processor_flags

__all__ = ["doctor"]


def doctor(
    what: str | Path | Recipe | Mapping[str, Any] | None = None,
    overrides: Overrides = (),
    *,
    checks: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """`versions`, `hardware`, `engines`, `findings`; where a recipe or a run is given, `data` and `checks`.

    checks: looks at the training before it (`niwaki.training.checks`), by name; None makes the usual ones, ()
            none
    Raises CallError for a check that there is not.
    """
    reporter = reporter or Quiet()
    reporter.stage("machine", "")
    hardware = _hardware()
    engines = {name: _engine(name) for name in available()}
    found: dict[str, Any] = {
        "versions": versions(),
        "hardware": hardware,
        "engines": engines,
        "findings": [*_machine_findings(hardware, engines)],
    }
    if what is not None:
        recipe = load_recipe(what, overrides)
        reporter.stage("data", recipe.data.source)
        dataset = load_data(recipe.data, counter(reporter))
        check_data(recipe, dataset.spec)
        audit = dataset.audit.to_json()
        found["data"] = {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "figures": {
                "shape": list(dataset.spec.shape),
                "samples": {name: len(split) for name, split in dataset.splits.items()},
                "classes": dataset.spec.classes,
                "values": f"{dataset.spec.low:g} … {dataset.spec.high:g}, {dataset.spec.levels} levels",
            },
            "audit": audit,
        }
        found["findings"] += audit["findings"]
        found["checks"] = {}
        for name, looked in _looked(recipe, dataset, checks, reporter):
            found["checks"][name] = looked.figures
            found["findings"] += [finding.to_json() for finding in looked.findings]
    return found


def _looked(
    recipe: Recipe, dataset: Dataset, asked: Sequence[str] | None, reporter: Reporter
) -> Iterator[tuple[str, Looked]]:
    """What each check says of the recipe's training, where it has one."""
    kinds = {name: CHECKS[name] for name in (CHECKS.names() if asked is None else asked)}
    if recipe.train is None:
        return

    def make() -> Any:
        torch.manual_seed(recipe.seed)
        return fresh_model(recipe, dataset)

    for name, kind in kinds.items():
        if asked is None and not kind.usual:
            continue
        reporter.stage(kind.title, recipe.model["name"])
        with torch.random.fork_rng():
            subject = Subject(make, dataset.train, recipe.train, recipe.seed, counter(reporter))
            yield name, kind().look(subject)


def _hardware() -> dict[str, Any]:
    """What decides speed here."""
    capabilities = _cpu_capabilities()
    cuda = torch.cuda.is_available()
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "avx2": "avx2" in capabilities,
        "avx512": "avx512f" in capabilities,
        "vnni": bool({"avx512_vnni", "avx_vnni"} & capabilities),
        "bf16": bool({"avx512_bf16", "amx_bf16", "bf16"} & capabilities)
        or (cuda and torch.cuda.is_bf16_supported()),
        "amx": bool({"amx_tile", "amx_bf16", "amx_int8"} & capabilities),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else False,
        "mps": torch.backends.mps.is_available(),
        "torch_threads": torch.get_num_threads(),
    }


def _cpu_capabilities() -> set[str]:
    """Flags of the processor in the kernel's words; where there are none to read, what torch knows."""
    flags = processor_flags()
    if flags is not None:
        return flags
    known = {"DEFAULT": set(), "AVX2": {"avx2"}, "AVX512": {"avx2", "avx512f"}}
    return set(known.get(torch.backends.cpu.get_cpu_capability(), set()))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _engine(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "installed"


def _machine_findings(hardware: dict[str, Any], engines: dict[str, str]) -> list[dict[str, Any]]:
    def finding(level: str, text: str) -> dict[str, Any]:
        return {"level": level, "kind": "machine", "text": text, "items": []}

    found = []
    if not engines:
        found.append(
            finding("error", "no inference engine is installed; `pip install niwaki-runtime[openvino]`")
        )
    if not hardware["cuda"] and not hardware["mps"]:
        found.append(finding("note", "no GPU: training runs on the CPU"))
    if not hardware["bf16"]:
        found.append(finding("note", "no bfloat16 arithmetic: training runs in float32"))
    if not hardware["vnni"] and not hardware["amx"] and not hardware["cuda"]:
        text = "no int8 instructions: quantization saves bytes here, not time (openvino multiplies floats)"
        found.append(finding("note", text))
    if hardware["memory_gb"] < 2:
        found.append(finding("warning", f"only {hardware['memory_gb']} GB of memory; choose small batches"))
    return found
