"""Every registered model's bundle makes the same samples in the browser runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_cases import Case, cases, step
from runtime.browser.node import BROWSER, needs_library
from runtime.browser.test_samples import compare

from niwaki.data.inputs import example_inputs, make_inputs
from niwaki.deployment import export_graphs, package
from niwaki.deployment.targets.browser import sampler_kinds
from niwaki_runtime import load

pytestmark = needs_library

FIRST = list({case.name: case for case in reversed(list(cases()))}.values())
"""One of every model: through its recipe, where it has one."""
KINDS = {path.stem for path in (BROWSER / "src" / "samplers").glob("*.js")}


def kinds(case: Case) -> frozenset[str]:
    try:
        return frozenset(sampler_kinds(case.model().program("sample").sampler))
    except Exception:
        return frozenset([case.name])  # its tests meet the fault; collecting the others does not


OF_A_KIND = {kinds(case): case for case in FIRST}.values()


def test_every_model_has_a_sampler_here() -> None:
    assert set().union(*(kinds(case) for case in FIRST)) <= KINDS


@pytest.mark.parametrize(
    "case", [c if c in OF_A_KIND else pytest.param(c, marks=pytest.mark.slow) for c in FIRST], ids=str
)
def test_the_same_samples(case: Case, tmp_path: Path) -> None:
    model = case.model()
    model.shipped = ()
    step(model, case.batch())
    model.eval()
    path = package(
        model, export_graphs(model, tmp_path / "graphs"), tmp_path / "small.niwaki",
        examples=example_inputs(model, case.rows),
    )  # fmt: skip
    runner = load(path, engine="onnxruntime", precision="exact")
    given = make_inputs(runner, "sample", 3, examples=runner.example_inputs("sample", 3))
    inputs = {name: np.asarray(value).tolist() for name, value in given.items()}
    calls: list[tuple[str, int, dict[str, Any]]] = [("sample", 3, {"seed": 7, "inputs": inputs})]
    if not inputs:
        calls = [("sample", 3, {"seed": 7}), ("sample", 2, {"seed": 1, "start": 5, "batch": 1})]
    compare(path, *calls, within=1e-4)
