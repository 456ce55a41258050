"""Findings and judges: what the page says of lost modes, shifts, memory and unfit extractors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niwaki.report import trust
from niwaki.report.record import RunRecord


def record(evaluation: dict[str, Any]) -> RunRecord:
    return RunRecord(path=Path("run"), run={"name": "run"}, evaluation=evaluation)


def curve(values: list[float], *, passed: bool = True, decides: bool = True) -> dict[str, Any]:
    return {"values": values, "judged": True, "decides": decides, "passed": passed}


LADDER = {
    "name": "blur",
    "unit": "σ",
    "strengths": [0.0, 0.1, 0.2],
    "metrics": {
        "precision": curve([0.9, 0.95, 0.2], passed=False, decides=False),
        "log_realism": curve([0.4, 0.3, 0.1]),
        "rarity": {**curve([1.0, 1.0, 1.0]), "judged": False},
    },
}


def test_an_unfit_extractor_is_named_and_its_failed_metrics_are_marked() -> None:
    found = record(
        {
            "fitness": {
                "random": {"fit": False, "text": "unfit", "ladders": [LADDER]},
                "classifier": {"fit": True, "text": "fit", "ladders": []},
                "mae": {"fit": None, "text": "too few", "ladders": []},
            }
        }
    )
    assert trust.unfit(found) == {"random"}
    shown = trust.judges(found)
    assert [(j["name"], j["outcome"], j["tone"]) for j in shown] == [
        ("random", "unfit", "bad"),
        ("classifier", "fit", "good"),
        ("mae", "not tried", "open"),
    ]
    (chart,) = shown[0]["charts"]
    assert chart.legend == (
        "Log realism",
        "Precision ✗",
    )  # what decides first; what is not judged is not drawn
    assert "<svg" in chart.svg


def test_findings_name_lost_modes_and_shifts_of_what_ships() -> None:
    clusters = {
        "clusters": [{"index": i, "name": f"cluster {i} (all {i})"} for i in range(8)],
        "dropped": [3, 5, 6, 7, 1, 2],
    }
    shift = {"attribute": "font", "name": "Serif", "shift": -0.031, "clear": True}
    found = trust.findings(
        record(
            {
                "clusters": {"trained": {**clusters, "dropped": []}, "bundle": clusters},
                "bias": {
                    "trained": {"shifts": [shift, {**shift, "clear": False}], "distances": {"font": {}}}
                },
                "gate": {"bundle": {"passed": False, "text": "Held back: 2 samples are copies."}},
                "comparison": {"common": {"text": "Nothing in common.", "found": []}},
            }
        )
    )
    said = {f["title"]: (f["tone"], f["text"], f["of"]) for f in found}
    assert said["Lost modes"][0] == "bad"
    assert "cluster 3 (all 3)" in said["Lost modes"][1]
    assert said["Lost modes"][1].endswith("and 1 more.")
    assert said["Lost modes"][2] == "bundle"
    assert said["Shifts"] == ("open", "Against real samples: font Serif −3.1 points.", "trained model")
    assert said["Release"] == ("bad", "Held back: 2 samples are copies.", "bundle")
    assert said["Most changed"][0] == "good"


def test_what_was_left_out_is_not_shown() -> None:
    assert trust.findings(record({"gate": {"trained": {"left_out": "too few"}}})) == []
    assert trust.judges(record({})) == []
    assert trust.unfit(record({})) == set()


def test_what_the_watch_for_collapse_told_stands_among_the_findings() -> None:
    def found(**training: Any) -> list[dict[str, str]]:
        return trust.findings(RunRecord(path=Path("run"), run={"name": "run"}, training=training))

    looks = [{"step": k, "stage": "main"} for k in (5, 10)]
    few = {
        "step": 10,
        "stage": "main",
        "failure": "few_classes",
        "text": "the generator reaches 3 of 10 classes",
    }
    assert found() == []
    (fine,) = found(looks=looks)
    assert (fine["title"], fine["tone"]) == ("Training", "good")
    assert fine["text"] == "No sign of collapse in 2 looks at the training."
    (bad,) = found(looks=looks, told=[{**few, "lasting": True}])
    assert (bad["tone"], bad["text"]) == ("bad", "From step 10 on, the generator reaches 3 of 10 classes.")
    (over,) = found(looks=looks, told=[{**few, "lasting": False}])
    assert over["tone"] == "open"
    assert over["text"].endswith("; at the end no longer.")
