"""A `dvc.yaml` of runs: `dvc repro` carries them out again where a recipe or its data changed."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from niwaki.core.store import write_text
from niwaki.report.record import read_run
from niwaki.workflow.runs.listing import Line

__all__ = ["write_pipeline"]


def write_pipeline(lines: Sequence[Line], out: Path) -> Path:
    """One stage per run, with paths relative to the file. Data that lie in files of their own are
    dependencies; model and bundle are outputs, and are kept while a run works, for it goes on where it
    stopped; the records of evaluation and verdict are metrics.

    Form: https://dvc.org/doc/user-guide/project-structure/dvcyaml-files
    Raises NiwakiError where a recipe is broken.
    """
    stages: dict[str, Any] = {}
    for line in lines:
        stages[_name(line.path.resolve().name, stages)] = _stage(line, out.parent)
    write_text(out, yaml.safe_dump({"stages": stages}, sort_keys=False, allow_unicode=True))
    return out


def _stage(line: Line, base: Path) -> dict[str, Any]:
    recipe = read_run(line.path).recipe
    run = _relative(line.path, base)
    bundle = f"{run}/{line.name}.niwaki"
    return {
        "cmd": f"niwaki run {shlex.quote(run)}",
        "deps": [f"{run}/recipe.yaml", *sorted(_files(recipe.get("data") or {}, base))],
        "outs": [{f"{run}/model": {"persist": True}}, {bundle: {"persist": True}}],
        "metrics": [{f"{run}/{name}.json": {"cache": False}} for name in ("evaluation", "verdict")],
    }


def _files(config: Any, base: Path) -> set[str]:
    """Values of the data's settings that are files or folders here."""
    if isinstance(config, dict):
        return {name for value in config.values() for name in _files(value, base)}
    if isinstance(config, list | tuple):
        return {name for value in config for name in _files(value, base)}
    if isinstance(config, str) and ("/" in config or "." in config) and Path(config).exists():
        return {_relative(Path(config), base)}
    return set()


def _relative(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path, base)).as_posix()


def _name(name: str, known: dict[str, Any]) -> str:
    """Stages of DVC are named by letters, digits, `-` and `_`."""
    made = first = re.sub(r"[^\w-]", "-", name)
    k = 2
    while made in known:
        made, k = f"{first}-{k}", k + 1
    return made
