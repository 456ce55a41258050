"""How gradients fared, as the report shows it: layers fold into groups, sums of squares stay."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from niwaki.report import trust
from niwaki.report.health import folded, health_rows
from niwaki.report.record import RunRecord


def layer(name: str, gradient: float, update: float, zero: int = 0, stage: str = "main") -> dict[str, Any]:
    return {
        "stage": stage, "layer": name, "count": 3, "gradient": gradient, "update": update,
        "last": [2 * gradient, update / 2], "zero": zero, "tiny": 0, "huge": 0, "fast": 0,
    }  # fmt: skip


def record(**training: Any) -> RunRecord:
    return RunRecord(path=Path("run"), run={"name": "run"}, training=training)


def test_layers_fold_by_the_beginnings_of_their_names() -> None:
    names = [f"net.{i}.conv" for i in range(20)] + [f"net.{i}.norm" for i in range(20)] + ["head"]
    rows = [layer(name, 1.0, 1e-3) for name in names]
    assert len(folded(rows, 60)) == 41
    assert {name: len(of) for name, of in folded(rows, 24).items()}["net.7"] == 2
    assert {name: len(of) for name, of in folded(rows, 1).items()} == {"net": 40, "head": 1}


def test_a_row_is_the_norm_of_its_layers_together_and_their_median_update() -> None:
    found = [layer("a.0", 3.0, 1e-3), layer("a.1", 4.0, 5e-3), layer("a.2", 0.0, 2e-3, zero=4)]
    (row,) = health_rows(record(health=[{**of, "layer": "a"} for of in found]))
    assert (row["layers"], row["gradient"], row["last"]) == ("3", "5.00", "10.0")
    assert (row["update"], row["last_update"]) == ("0.00200", "0.00100")
    assert row["dead"] == "1 without gradient"
    assert math.hypot(3.0, 4.0) == 5.0
    two = health_rows(record(health=[layer("a", 1.0, 1e-3), layer("a", 1.0, 1e-3, stage="prior")]))
    assert [row["name"] for row in two] == ["main: a", "prior: a"]
    assert health_rows(record()) == []


def test_the_findings_say_what_the_gradients_show() -> None:
    def said(**training: Any) -> tuple[str, str]:
        (found,) = trust.findings(record(**training))
        return found["tone"], found["text"]

    layers = [layer("a", 1.0, 1e-3)] * 2
    assert said(health=layers) == ("good", "Gradients were well in all of 2 layers.")
    look = {"step": 5, "stage": "main", "spread": 1.0}
    assert said(health=layers, looks=[look])[1].startswith(
        "No sign of collapse in 1 looks at the training. Gr"
    )
    failing = {
        "step": 9,
        "stage": "main",
        "failure": "dead",
        "text": "no gradient reaches 'a'",
        "lasting": True,
    }
    shown = {"step": 9, "stage": "main", "kind": "gradients", "dead": ["a"]}
    assert said(health=layers, looks=[shown], told=[failing]) == (
        "bad", "From step 9 on, no gradient reaches 'a'."
    )  # fmt: skip
    assert trust.findings(record()) == []
