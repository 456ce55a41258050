"""What a notebook shows of what verbs return: the words of the tables, escaped; arrays stay arrays."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import niwaki
from niwaki.api.sample import Samples
from niwaki.core.contract import ConditionSpec, Real, Tokens, ValueSpec
from niwaki.core.store import jsonable, write_json
from niwaki.recipe import recipe_from
from niwaki.report.words import metric_words
from niwaki.workflow.notebook.answers import Comparison, Evaluation, Summary
from niwaki.workflow.run_directory import RunDirectory

BAD = "<script>alert('1')</script>"


class Checked(HTMLParser):
    """Every tag is closed, and there are none but those of a view."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.seen: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in (
            "div",
            "span",
            "b",
            "table",
            "tr",
            "th",
            "td",
            "img",
            "pre",
            "br",
            "audio",
            "details",
            "summary",
        ), tag
        self.seen.append(tag)
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(self.text)


def view(what: Any) -> Checked:
    return Checked(what._repr_html_())


def verdict(outcome: str) -> dict[str, Any]:
    return {
        "outcome": outcome, "before": 0.9, "after": 0.8, "delta": 0.1, "interval": [0.05, 0.15],
        "margin": 0.02, "text": f"Fidelity: {outcome} {BAD}", "judge": "samples",
    }  # fmt: skip


SECTION = {
    "judge": "likelihood", "title": f"Likelihood {BAD}", "notes": [BAD], "details": {},
    "figures": [
        {"name": "bits per dimension", "value": 2.5, "interval": [2.4, 2.6], "axis": "fidelity",
         "better": "lower", "reference": 3.0, "reference_name": "xz"},
    ],
}  # fmt: skip


def test_an_evaluation_is_a_dictionary_that_shows_its_metrics_and_figures() -> None:
    metric = {"value": 0.5, "interval": [0.4, 0.6], "signature": "frechet", "floor": 0.25}
    found = Evaluation(n=1000, trained={BAD: {"frechet": metric}}, sections=[SECTION], audit=[{"text": BAD}])
    assert json.loads(json.dumps(found)) == dict(found) == jsonable(found)
    words = view(found).words
    for text in (
        metric_words("frechet").title,
        "0.500",
        "0.400 … 0.600",
        "0.250",
        "lower",
        "2.50",
        "3.00 xz",
        BAD,
    ):
        assert text in words
    assert "1,000 samples against the test split" in words


@pytest.mark.parametrize("outcome", ["no loss", "loss", "inconclusive"])
def test_a_comparison_shows_its_verdicts_and_the_figures_of_both_sides(outcome: str) -> None:
    later = {**SECTION, "figures": [{**SECTION["figures"][0], "value": 2.75}]}  # type: ignore[index]
    found = Comparison(
        n=500,
        paired=True,
        verdict={"fidelity": verdict(outcome)},
        sections={"before": [SECTION], "after": [later]},
    )
    assert dict(found)["n"] == 500
    words = view(found).words
    for text in (
        "fidelity",
        outcome,
        "0.900",
        "0.800",
        "0.100",
        "0.050 … 0.150",
        "0.0200",
        "2.50",
        "2.75",
        BAD,
    ):
        assert text in words
    undecided = {"outcome": "inconclusive", "judge": "samples", "text": "nothing could be tested"}
    bare = Comparison(
        n=5, paired=False, verdict={"fidelity": undecided}, sections={"before": [], "after": []}
    )
    assert "nothing could be tested" in view(bare).words
    assert "compared as two sets" in view(bare).words


TEXT = ValueSpec("text", (4,), "T", Tokens(9))
SPECS = {
    "image": (ValueSpec("image", (1, 4, 4), "CHW", Real(-1.0, 1.0)), "img"),
    "text": (TEXT, "pre"),
    "series": (ValueSpec("series", (1, 16), "CT", Real(-1.0, 1.0)), "img"),
    "audio": (ValueSpec("audio", (1, 64), "CT", Real(-1.0, 1.0), rate=100), "audio"),
    "video": (ValueSpec("video", (2, 1, 4, 4), "TCHW", Real(-1.0, 1.0)), "img"),
    "vector": (ValueSpec("vector", (3,), "C", Real(-1.0, 1.0)), "pre"),
}


@pytest.mark.parametrize("kind", SPECS)
def test_samples_are_shown_as_their_modality_shows_them_and_stay_arrays(kind: str) -> None:
    spec, tag = SPECS[kind]
    x = np.zeros((6, *spec.shape), np.int64 if spec.is_tokens else np.float32)
    asked = {"class": ConditionSpec(ValueSpec("label", (), "", Tokens(3), names=("ant", BAD, "cow")))}
    made = Samples(x, {"class": np.arange(6) % 3}, 7, spec, asked=asked)
    page = view(made)
    assert made.x is x
    assert "6 samples" in page.words
    assert "seed 7" in page.words
    assert tag in page.seen
    assert "ant" in page.words
    assert BAD in page.words
    assert "pre" in view(Samples(np.zeros((2, 4), np.int64), {}, 0, TEXT)).seen


def recipe() -> niwaki.Recipe:
    return recipe_from(
        {"name": "seen", "data": {"source": "digits"}, "model": {"name": "dcgan"}, "train": {}}
    )


def test_a_recipe_is_shown_as_yaml() -> None:
    words = view(recipe()).words
    assert "seen: dcgan on digits" in words
    assert "name: seen" in words
    assert "source: digits" in words


def test_a_run_shows_what_is_there_of_it(tmp_path: Path) -> None:
    run = RunDirectory.create(recipe(), tmp_path / "seen")
    assert "seen" in view(run).words, "before anything is written"
    with run.hold(), run.working("train", {}) as state:
        state["result"] = "weights"
    assert "train" in view(run).words
    write_json(run.path / "failure.json", {"version": 2, "stage": "evaluate", "error": BAD})
    words = view(Summary(run=run.path)).words
    assert f"The stage 'evaluate' failed: {BAD}" in words


def test_a_finished_run_shows_its_gains_its_verdicts_and_its_samples(tmp_path: Path) -> None:
    run = RunDirectory.create(recipe(), tmp_path / "seen")
    with run.hold():
        pass
    measured = {
        side: {"bytes": size, "engine": "openvino", "latency": {"1": {"median_ms": size / 1000}}}
        for side, size in (("before", 8000), ("after", 1000))
    }
    write_json(run.path / "export.json", {"version": 2, "bundle": "seen.niwaki", "measured": measured})
    axes = {"fidelity": verdict("no loss")}
    write_json(
        run.path / "verdict.json", {"version": 2, "verdict": axes, "verdicts": {"samples": {"axes": axes}}}
    )
    write_json(run.path / "evaluation.json", {"version": 2, "n": 4, "trained": {}})
    spec = {"columns": {"x": SPECS["image"][0].to_json()}}
    write_json(run.path / "data.json", {"version": 2, "spec": spec})
    (run.path / "evidence").mkdir()
    np.savez(run.path / "evidence" / "samples.npz", samples=np.zeros((4, 1, 4, 4), np.float32))
    run.report.write_text("page")
    page = view(run)
    for text in (
        "Size on disk",
        "8.00 kB",
        "1.00 kB",
        "8.00× smaller",
        "after: bundle, openvino",
        BAD,
        str(run.report),
    ):
        assert text in page.words
    assert page.seen.count("img") == 4
