"""What fell and what rose: changes beyond both intervals, in both directions, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from report.found import change, fitness

from niwaki.core.store import read_json
from niwaki.report import write_report
from niwaki.report.moved import Moved, moved_figures, moved_metrics, moved_of, moved_texts
from niwaki.report.record import read_run


def result(value: float, spread: float = 0.01) -> dict[str, Any]:
    return {"value": value, "interval": [value - spread, value + spread], "signature": "s"}


def tree(**values: float) -> dict[str, Any]:
    return {"classifier": {name: result(value) for name, value in values.items()}}


@pytest.mark.parametrize(
    ("metric", "before", "after", "found"),
    [
        ("clipped_coverage", 0.735, 0.661, ("fell", False)),
        ("coverage", 0.9, 0.95, ("rose", True)),
        ("frechet", 1.8, 2.4, ("rose", False)),
        ("frechet", 2.4, 1.8, ("fell", True)),
        ("precision", 0.9, 0.85, ("fell", False)),
        ("ms_ssim", 0.3, 0.4, ("rose", False)),
        ("precision", 0.9, 0.885, None),  # the intervals meet
        ("rarity", 1.0, 2.0, None),  # no way is better
    ],
)
def test_only_what_lies_beyond_both_intervals_is_named(
    metric: str, before: float, after: float, found: tuple[str, bool] | None
) -> None:
    moved = moved_metrics(tree(**{metric: before}), tree(**{metric: after}))
    assert [(" rose" in m.text, m.better) for m in moved] == (
        [] if found is None else [(found[0] == "rose", found[1])]
    )


def test_both_directions_are_told() -> None:
    found = moved_metrics(tree(coverage=0.735, precision=0.8), tree(coverage=0.661, precision=0.9))
    assert moved_texts(found) == {
        "worse": "Coverage in ‘classifier’ fell: 0.735 → 0.661",
        "better": "Precision in ‘classifier’ rose: 0.800 → 0.900",
    }
    assert moved_texts([]) == {}


def test_what_is_not_to_be_trusted_or_of_a_single_class_is_left_out() -> None:
    before, after = tree(coverage=0.7), tree(coverage=0.6)
    assert moved_metrics(before, after, lambda extractor, metric: metric != "coverage") == []
    by_class = [{"coverage_per_class": {"3": result(v)}} for v in (0.7, 0.6)]
    assert moved_metrics(*by_class) == []


def test_a_value_without_an_interval_is_not_said_to_have_moved() -> None:
    before, after = tree(coverage=0.7), tree(coverage=0.6)
    after["classifier"]["coverage"]["interval"] = [None, None]
    assert moved_metrics(before, after) == []
    del before["classifier"]["coverage"]["interval"]
    assert moved_metrics(before, after) == []


def test_figures_of_judges_are_compared_as_metrics_are() -> None:
    def section(judge: str, value: float) -> dict[str, Any]:
        figure = {"name": "CRPS", "value": value, "interval": [value - 0.1, value + 0.1], "better": "lower"}
        return {"judge": judge, "figures": [figure]}

    (found,) = moved_figures([section("forecast", 1.0)], [section("forecast", 2.0)])
    assert found == Moved("CRPS", "", 1.0, 2.0, more_is_better=False)
    assert not found.better
    assert moved_figures([section("samples", 1.0)], [section("samples", 2.0)]) == []


def test_many_are_counted() -> None:
    many = [Moved(f"m{i}", "", 1.0, 2.0, more_is_better=True) for i in range(9)]
    assert moved_texts(many)["better"].endswith("m5 rose: 1.00 → 2.00; and 3 more")


def test_the_page_names_them(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    assert "No other figure moved beyond its 95 % interval." in write_report(run).read_text()
    bundle = read_json(run / "evaluation.json")["bundle"]
    bundle["classifier"]["recall"] = {**bundle["classifier"]["recall"], **result(0.7)}
    bundle["random"]["density"] = {**bundle["random"]["density"], **result(1.4)}
    change(run, bundle=bundle)
    page = write_report(run).read_text()
    assert "Worse beyond the 95 % intervals.</b> Recall in ‘classifier’ fell: 0.902 → 0.700." in page
    assert "Better beyond the 95 % intervals.</b> Density in ‘random’ rose: 1.02 → 1.40." in page
    change(run, fitness={"random": fitness(density=["blur"])})
    assert [m.title for m in moved_of(read_run(run))] == ["Recall"]
