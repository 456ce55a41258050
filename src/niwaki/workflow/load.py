"""Whatever lies at a path, ready to run programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError, Runner
from niwaki.workflow.subjects.subject import open_subject

__all__ = ["load"]


def load(
    path: str | Path,
    *,
    engine: str = "auto",
    precision: str = "fast",
    weights: str | Path | None = None,
    **options: Any,
) -> Runner:
    """A run's trained model, a saved model, a diffusers pipeline's folder, what a factory
    (`package.module:function`) makes, or a bundle on an engine; each has `programs()`, `run` and `sample`.

    weights: a safetensors file with a factory's weights; "random" for those that it draws by chance
    engine, precision, options: of a bundle (`niwaki_runtime.load`)
    Raises CallError where `path` is none of these, NiwakiError where it is broken or not trained yet.
    """
    given = {"precision": precision, **options} if engine != "auto" or precision != "fast" or options else {}
    runner = open_subject(path, engine=engine, device="cpu", weights=weights, **given).runner
    if runner is None:
        raise CallError(f"{path} holds samples, not a model; give a run, a model directory or a bundle")
    return runner
