"""The fidelity–diversity plane: who stands where, by which metrics, and when there is none."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from report.found import change, fitness

from niwaki.report import figures, write_report
from niwaki.report.figures import Mark
from niwaki.report.judgement import best_measure
from niwaki.report.plane import planes
from niwaki.report.record import RunRecord, read_run


def value(v: float, floor: float | None = 0.9, width: float | None = 0.02) -> dict[str, Any]:
    interval = None if width is None else [v - width, v + width]
    return {"value": v, "interval": interval, "floor": floor, "signature": "s"}


def record(fits: dict[str, Any] | None = None, **sides: Any) -> RunRecord:
    return RunRecord(path=Path("run"), run={}, evaluation={"fitness": fits or {}, **sides})


def model(precision: float, coverage: float, **others: Any) -> dict[str, Any]:
    return {"classifier": {"precision": value(precision), "coverage": value(coverage), **others}}


def test_every_model_stands_there_with_what_is_ideal() -> None:
    found = planes(record(trained=model(0.85, 0.95), bundle=model(0.95, 0.7)))
    (plane,) = found["planes"]
    assert plane["chart"].legend == ("trained model", "bundle")
    assert plane["ideal"] is True
    said = plane["words"]
    assert "precision 0.850 (0.830 … 0.870) and coverage 0.950 (0.930 … 0.970)" in said[0]
    assert said[0].endswith("; below real samples in fidelity, not discernibly in diversity.")
    assert said[1].endswith("; below real samples in diversity, not discernibly in fidelity.")
    assert said[2] == "Real training samples in its place: precision 0.900 and coverage 0.900."
    assert found["left_out"] == []


def test_who_is_below_on_both_axes_and_on_none() -> None:
    (plane,) = planes(record(trained=model(0.5, 0.5), bundle=model(0.95, 0.89)))["planes"]
    assert plane["words"][0].endswith("; below real samples in fidelity and diversity.")
    assert plane["words"][1].endswith("; not discernibly below real samples on either axis.")


def test_further_bundles_get_a_mark_of_their_own() -> None:
    four = {f"bundle at {bits} bits": model(0.9, 0.1 * bits) for bits in (4, 6)}
    (plane,) = planes(record(trained=model(0.9, 0.9), bundle=model(0.9, 0.8), **four))["planes"]
    assert [m["name"] for m in plane["marks"]] == ["trained model", "bundle", *four]
    assert len({(m["colour"], m["shape"]) for m in plane["marks"]}) == 4


def test_a_metric_that_is_not_to_be_trusted_makes_no_axis() -> None:
    tree = model(0.8, 0.9, density=value(1.1), recall=value(0.7))
    told = planes(record({"classifier": fitness(precision=["blur"], coverage=["copies"])}, trained=tree))
    assert told["planes"][0]["words"][0].startswith(
        "Trained model: density 1.10 (1.08 … 1.12) and recall 0.700"
    )
    none = {"classifier": fitness(precision=["blur"], density=["blur"])}
    told = planes(record(none, trained=tree))
    assert told == {
        "planes": [],
        "left_out": ["'classifier' has no plane: no metric of fidelity is to be trusted in it"],
    }


def test_an_unfit_extractor_has_no_plane() -> None:
    told = planes(record({"classifier": fitness(fit=False)}, trained=model(0.8, 0.9)))
    assert told == {"planes": [], "left_out": ["'classifier' has no plane: it is unfit"]}
    untried = {"classifier": fitness(fit=None)}
    assert len(planes(record(untried, trained=model(0.8, 0.9)))["planes"]) == 1


def test_both_models_are_measured_alike() -> None:
    """A metric that only one of them has cannot compare them."""
    tree = {"classifier": {"density": value(1.0), "coverage": value(0.9)}}
    trained = model(0.8, 0.9, density=value(1.1))
    (plane,) = planes(record(trained=trained, bundle=tree))["planes"]
    assert all("density" in sentence for sentence in plane["words"])


def test_without_intervals_and_without_a_mark_to_reach() -> None:
    tree = {"classifier": {"precision": value(0.8, None, None), "coverage": value(0.9, None, None)}}
    (plane,) = planes(record(trained=tree))["planes"]
    assert plane["words"] == ["Trained model: precision 0.800 and coverage 0.900."]
    assert plane["ideal"] is False


@pytest.mark.parametrize("tree", [{}, {"trained": {}}, {"trained": {"classifier": {"frechet": value(1.0)}}}])
def test_nothing_to_draw(tree: dict[str, Any]) -> None:
    assert planes(record(**tree)) == {}


def test_a_share_is_drawn_no_further_than_it_goes() -> None:
    low, high = figures._ends([(0.9, 0.85, 0.99)], 0.97, 1.0)
    assert low < 0.85
    assert 0.99 < high < 1.01
    low, high = figures._ends([(0.9, 0.85, 0.99)], 0.97, math.inf)
    assert high == pytest.approx(0.99 + 0.14 * 0.14)
    assert figures._ends([(0.5,)], None, 1.0)[0] < 0.5 < figures._ends([(0.5,)], None, 1.0)[1]


def test_the_crosses_are_as_long_as_the_intervals() -> None:
    """In the SVG: the arms of a mark end where its interval ends, on the scale that both marks set."""
    marks = [Mark("a", 0.2, 0.2, (0.1, 0.3), (0.2, 0.2)), Mark("b", 0.8, 0.8, (0.6, 1.0), (0.8, 0.8))]
    svg = figures.plane("t", ("x", "y"), marks, None).svg
    arms = re.findall(r'<path d="M ([\d.]+) ([\d.]+) \nL ([\d.]+) ([\d.]+) \n"[^>]*stroke-width: 1.6', svg)
    lengths = [abs(float(x2) - float(x1)) for x1, y1, x2, y2 in arms if y1 == y2 and x1 != x2]
    assert len(lengths) == 2
    assert lengths[1] / lengths[0] == pytest.approx(2.0, rel=1e-3)
    assert "#0" not in svg, "every colour is the page's"


def test_the_headline_prefers_what_is_to_be_trusted(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for fits, metric, where in (
        ({}, "precision", "classifier"),
        ({"classifier": fitness(precision=["blur"])}, "precision", "random"),
        ({"classifier": fitness(fit=False), "random": fitness(precision=["blur"])}, "density", "random"),
        ({"classifier": fitness(fit=False), "random": fitness(fit=False)}, "precision", "classifier"),
    ):
        change(run, fitness=fits)
        found = best_measure(read_run(run), "trained", "fidelity")
        assert found is not None
        assert (found.metric, found.where) == (metric, where)


def test_the_page_shows_the_plane(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    change(run, fitness={"random": fitness(fit=False)})
    page = write_report(run).read_text()
    assert page.count('class="card chart plane"') == 1
    assert "'random' has no plane: it is unfit" in page.replace("&#39;", "'")
