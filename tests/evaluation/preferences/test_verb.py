"""`niwaki preferences`: the mathematics through the verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from niwaki.cli.main import app
from niwaki_runtime.errors import CallError, NiwakiError

STRENGTH = {"good": 0.8, "middle": 0.0, "bad": -0.8}


def written(path: Path, n: int, *, raters: int = 10, left: float = 0.0, seed: int = 0) -> Path:
    """Answers of people with the same taste, who prefer the left side by `left`; the last one answers by
    chance, planted questions too."""
    rng = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = [{"kind": "study", "models": dict.fromkeys(STRENGTH, "")}]
    for rater in range(raters):
        careless = rater == raters - 1
        before: list[dict[str, Any]] = []
        for k in range(n // raters):
            a, b = rng.permutation(list(STRENGTH))[:2]
            gap = 0.0 if careless else STRENGTH[a] - STRENGTH[b] + left
            winner = "left" if rng.random() < 1 / (1 + np.exp(-gap)) else "right"
            line = {
                "kind": "answer", "rater": f"r{rater}", "k": k, "question": f"q{rater}/{k}", "left": str(a),
                "right": str(b), "winner": winner, "ms": 1000 * (rater + 1), "check": "",
            }  # fmt: skip
            if k % 10 == 8:
                line |= {"check": "identical", "right": str(a), "winner": winner if careless else "tie"}
            elif k % 10 == 9:
                old = before[0]
                same = {"left": "right", "right": "left"}[old["winner"]]
                line |= {
                    "check": "repeat", "question": old["question"], "left": old["right"],
                    "right": old["left"], "winner": winner if careless else same,
                }  # fmt: skip
            before.append(line)
            lines.append(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def said(*words: str) -> dict[str, Any]:
    ran = CliRunner().invoke(app, ["preferences", *words, "--json"], catch_exceptions=False)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_strengths_ranks_and_the_chance_table_come_back(tmp_path: Path) -> None:
    found = said(str(written(tmp_path / "a.jsonl", 3000)), "--picture", str(tmp_path / "p.png"))
    assert [one["model"] for one in found["models"]] == ["good", "middle", "bad"]
    assert [one["ranks"] for one in found["models"]] == [[1, 1], [2, 2], [3, 3]]
    assert (found["leader"], found["answers_left"]) == ("good", 0)
    middle, low, high = found["chances"]["good"]["bad"]
    assert low < 1 / (1 + np.exp(-1.6)) < high + 0.05
    assert found["chances"]["bad"]["good"] == pytest.approx([1 - middle, 1 - high, 1 - low])
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_careless_raters_are_seen_and_left_out_on_demand(tmp_path: Path) -> None:
    file = str(written(tmp_path / "a.jsonl", 1000))
    raters = {one["rater"]: one for one in said(file)["raters"]}
    assert raters["r0"]["identical"] == raters["r0"]["repeated"] == [10, 10]
    assert raters["r0"]["share"] == 1.0
    assert raters["r0"]["seconds"] == 1.0
    assert raters["r9"]["identical"] == [0, 10]
    found = said(file, "--reliable", "0.8")
    assert found["left_out"] == ["r9"]
    assert found["answers"] == 720


def test_a_preferred_side_is_found_by_the_exact_test(tmp_path: Path) -> None:
    bias = said(str(written(tmp_path / "b.jsonl", 1000, left=0.7)))["position"]
    left = round(bias["left"] * bias["n"])
    assert bias["p_value"] == pytest.approx(binomtest(left, bias["n"]).pvalue)
    assert bias["p_value"] < 1e-3
    assert bias["interval"][0] > 0.5
    words = CliRunner().invoke(app, ["preferences", str(tmp_path / "b.jsonl")]).stdout
    assert "raters prefer a side" in words


def test_the_answers_that_are_left_are_those_of_a_plan(tmp_path: Path) -> None:
    """Two models without ties: what is left and what is there add up to the plan of a test of a share."""
    lines = [{"kind": "answer", "rater": f"r{k}", "k": 0, "question": f"q{k}", "left": "a", "right": "b",
              "winner": "left" if k < 55 else "right"} for k in range(100)]  # fmt: skip
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = said(str(tmp_path / "c.jsonl"), "--plan", "0.55")
    assert found["leader"] is None
    assert found["answers_left"] + 100 == pytest.approx(found["planned"]["answers"], rel=0.03)


def test_a_plan_alone_needs_no_answers() -> None:
    assert said("--plan", "0.6") == {
        "planned": {"answers": 194, "chance": 0.6, "level": 0.05, "power": 0.8, "ties": 0.0, "per_rater": 1,
                    "within_rater": 0.0}
    }  # fmt: skip
    assert said("--plan", "0.6", "--ties", "0.5", "--per-rater", "11", "--within-rater", "0.1")["planned"][
        "answers"
    ] == pytest.approx(194 * 2 * 2, abs=4)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"kind": "nothing"}\n', CallError),
        ('{"kind": "answer", "k": 0}\n', CallError),
        ('{"kind": "answer", "rater": "r", "k": 0, "question": "q", "left": "a", "right": "b"}\n',
         CallError),
        ("", CallError),
        (None, NiwakiError),
    ],
)  # fmt: skip
def test_what_is_no_file_of_answers_is_refused(tmp_path: Path, text: str | None, kind: type) -> None:
    if text is not None:
        (tmp_path / "a.jsonl").write_text(text)
    ran = CliRunner().invoke(app, ["preferences", str(tmp_path / "a.jsonl")])
    assert isinstance(ran.exception, kind)
    assert isinstance(CliRunner().invoke(app, ["preferences"]).exception, CallError)
