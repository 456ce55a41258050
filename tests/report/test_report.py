"""The page: self-contained, complete, honest about what was not measured, and safe to open."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report.found import fitness

import niwaki.report.write
from niwaki.core.contract import NiwakiError
from niwaki.core.store import read_json, write_json
from niwaki.report import write_report
from niwaki.report.cost import bars
from niwaki.report.judgement import class_coverage, quality, verdicts
from niwaki.report.record import measures, read_run

FILES = ("recipe.yaml", "metrics.jsonl", "evaluation.json", "compression.json", "samples.npz")
SECTIONS = [
    "result", "samples", "verdicts", "sheet", "pairs", "damage", "plane", "metrics", "copies", "classes",
    "cost", "training", "data", "versions",
]  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["defs"], ["script"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", "".join(self.words))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def page(run: Path) -> Page:
    return Page(write_report(run))


def sections(page: Page) -> list[str | None]:
    return [a["id"] for tag, a in page.tags if tag == "section"]


def change(path: Path, **values: Any) -> None:
    write_json(path, {**read_json(path), **values})


def test_nothing_is_loaded_and_only_the_own_script_runs(page: Page, run: Path) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not [a for a in attributes if a.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:image/png;base64,", "#")), address
    text = (run / "report.html").read_text()
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert page.open == []  # every tag is closed
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert [a for tag, a in page.tags if tag == "script"] == [{}]
    script = text[text.index("<script>") + 8 : text.index("</script>")]
    here = Path(niwaki.report.write.__file__).parent
    own = "".join((here / name).read_text(encoding="utf-8") for name in ("slider.js", "page.js"))
    assert script == own, "the files of the package, whole"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    assert allowed["default-src"] == "'none'"
    assert allowed["script-src"] == f"'sha256-{digest}'"
    assert not re.search(r"fetch|XMLHttp|WebSocket|import|eval|innerHTML|https?:|localStorage|cookie", script)


def test_the_headline_states_what_was_measured(page: Page, run: Path) -> None:
    for text in (
        "9.27 MB",
        "462 kB",
        "20.1× smaller",
        "1.42 ms",
        "0.094 ms",
        "15.1× faster",
        "34.0 MB",
        "6.24× less",
    ):
        assert text in page.text
    assert "Fréchet distance, lower is better; real samples in its place: 1.42" in page.text
    assert "The bundle is 20.1× smaller and 15.1× faster than the trained model." in page.text
    assert "Of fidelity it lost less than 0.16 (margin 0.40): a small loss, inside the margin." in page.text
    assert "Whether it lost diversity is undecided; about 740 samples would tell." in page.text
    assert "Its Fréchet distance to real samples is 1.93; as many real ones have 1.42." in page.text
    tested = "coverage fell by 0.0240 (95 % interval of the loss 0.0010 … 0.0580), margin 0.0500"
    assert page.text.count(tested) == 1
    row = "<td>0.810</td><td>0.786</td>"
    assert row in (run / "report.html").read_text(), "the headline shows what was tested"


def test_every_section_is_there(page: Page) -> None:
    assert sections(page) == SECTIONS
    assert "not measured" in page.text.lower()  # torch.compile's memory was not
    assert "No samples" not in page.text


def test_all_but_the_summary_is_folded(page: Page) -> None:
    parts = [a for tag, a in page.tags if a.get("class") == "part"]
    assert len(parts) == len(SECTIONS) - 2
    assert not any("open" in a for a in parts)
    assert [tag for tag, _ in page.tags].count("summary") >= len(parts)


def test_writing_again_gives_the_same_bytes(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert [p.name for p in run.iterdir() if p.name.startswith(".")] == []  # no rests


@pytest.mark.parametrize("missing", [*[(f,) for f in FILES], FILES])
def test_a_part_that_is_missing_is_said_to_be(run: Path, missing: tuple[str, ...]) -> None:
    for name in missing:
        (run / name).unlink()
    page = Page(write_report(run))
    assert page.open == []
    if "evaluation.json" in missing:
        assert "the run has not evaluated its model" in page.text
        assert "the run has not judged a bundle" in page.text
    if "compression.json" in missing:
        assert "the run has not exported and timed a bundle" in page.text
        assert "× smaller" not in page.text
    if "samples.npz" in missing:
        assert "No samples are kept" in page.text
    if "metrics.jsonl" in missing:
        assert "No training log" in page.text


def test_a_run_that_has_only_begun(run: Path) -> None:
    for name in FILES:
        (run / name).unlink()
    write_json(run / "run.json", {"format": 1, "legs": {}})
    assert "This run has not recorded its data" in Page(write_report(run)).text


@pytest.mark.parametrize("name", ["run.json", "evaluation.json", "samples.npz", "recipe.yaml"])
def test_a_broken_file_is_named(run: Path, name: str) -> None:
    (run / name).write_bytes(b"{ broken: [")
    with pytest.raises(NiwakiError, match=name):
        write_report(run)
    assert not (run / "report.html").exists()


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(NiwakiError, match="is not a run directory"):
        write_report(tmp_path)


def test_a_broken_bundle_is_shown_as_such(run: Path) -> None:
    (run / "digits-gan.niwaki").write_bytes(b"no bundle")
    assert "digits-gan.niwaki" in Page(write_report(run)).text


def test_names_from_outside_cannot_become_markup(run: Path) -> None:
    evil = "<script>alert(1)</script>"
    info = read_json(run / "run.json")
    info["name"] = evil
    finding = {"level": "error", "kind": "unreadable", "text": f"1 file {evil}", "items": [f"{evil}.png"]}
    info["data"]["audit"]["findings"] = [finding]
    info["data"]["spec"]["class_names"] = [evil] * 10
    write_json(run / "run.json", info)
    (run / "recipe.yaml").write_text(f"name: '{evil}'\n")
    page = Page(write_report(run))
    assert [tag for tag, _ in page.tags].count("script") == 1, "the own one"
    assert html.escape(evil) in (run / "report.html").read_text()
    assert f"{evil}.png" in page.text


def test_bars_are_as_long_as_what_they_measure(run: Path) -> None:
    groups = dict(bars(read_run(run)))
    sizes = groups["Size on disk"]
    assert [b.share for b in sizes] == pytest.approx([9.27 / 9.31, 9.27 / 9.31, 1.0, 0.462 / 9.31])
    assert groups["Time for one sample"][0].spread == "half of 30 runs: 1.36 ms … 1.52 ms"
    assert groups["Peak memory"][1].share == 0


def test_verdicts_are_drawn_to_scale(run: Path) -> None:
    for axis, raw in ((v, read_run(run).comparison[v.axis]) for v in verdicts(read_run(run).comparison)):
        per_unit = (axis.margin - axis.zero) / raw["margin"]
        assert axis.point - axis.zero == pytest.approx(raw["delta"] * per_unit, abs=0.05)
        assert axis.low - axis.zero == pytest.approx(raw["interval"][0] * per_unit, abs=0.05)
        assert axis.high - axis.zero == pytest.approx(raw["interval"][1] * per_unit, abs=0.05)
        assert (axis.high < axis.margin) == (axis.outcome == "no loss")
        assert min(axis.low, axis.zero) > 0
        assert max(axis.high, axis.margin) < 100


def test_a_verdict_without_figures_is_told_in_words(run: Path) -> None:
    comparison = {
        "fidelity": {"outcome": "loss", "text": "Too much.", "delta": None, "interval": None, "margin": None}
    }
    change(run / "evaluation.json", comparison=comparison)
    (found,) = verdicts(read_run(run).comparison)
    assert not found.drawn
    page = Page(write_report(run))
    assert "It lost fidelity." in page.text
    assert "Too much." in page.text


def test_every_metric_is_listed_and_none_of_the_classes(run: Path) -> None:
    record = read_run(run)
    rows = quality(record)
    found = measures(record.evaluation["trained"])
    assert len(rows) == len(found) == 14
    assert [r["axis"] for r in rows] == sorted(
        (r["axis"] for r in rows), key=("both", "fidelity", "diversity", "memory").index
    )
    assert {len(r["values"]) for r in rows} == {2}


def test_metrics_that_are_not_to_be_trusted_are_grey(run: Path) -> None:
    """A metric whose ladder failed in features that are fit as a whole, and all of those that are not."""
    change(run / "evaluation.json", fitness={"random": fitness(density=["blur"], vendi=["modes"])})
    grey = [(r["title"], r["where"]) for r in quality(read_run(run)) if r["grey"]]
    assert grey == [("Density", "random")]
    text = write_report(run).read_text()
    assert text.count('<tr class="again unfit">') == 1
    assert "because they did not follow known damage: Density (on blur)." in text, "only what is shown"
    change(run / "evaluation.json", fitness={"random": fitness(fit=False), "classifier": fitness()})
    assert {r["where"] for r in quality(read_run(run)) if r["grey"]} == {"random"}
    assert "which is unfit." in write_report(run).read_text()
    change(run / "evaluation.json", fitness={})
    assert not any(r["grey"] for r in quality(read_run(run)))
    assert "Grey, and not" not in write_report(run).read_text()


@pytest.mark.parametrize("paired", [True, False, None])
def test_samples_that_share_no_noise_are_no_pairs(run: Path, paired: bool | None) -> None:
    comparison = read_json(run / "evaluation.json")["comparison"]
    if paired is not None:
        for axis in ("fidelity", "diversity"):
            comparison[axis]["paired"] = paired
    change(run / "evaluation.json", comparison=comparison)
    told = [title for axis in verdicts(read_run(run).comparison) for title, _ in axis.figures]
    page = Page(write_report(run)).text
    about = page[page.index("Was anything lost?") : page.index("Fidelity asks whether")]
    if paired is False:
        assert "samples of the smaller side" in told
        assert "samples needed on each side to decide" in told
        assert not any("pairs" in title for title in told)
        assert "paired" not in about
        assert "share no noise" in about
    else:
        assert "pairs of samples" in told
        assert "pairs needed to decide" in told
        assert "a paired test" in about


def test_coverage_of_classes_in_all_shapes(run: Path) -> None:
    share = [0.5 + c / 20 for c in range(10)]
    for shape in (
        {"coverage_per_class": share},
        {"classifier": {"coverage_per_class": {str(c): v for c, v in enumerate(share)}}},
        {"coverage": {"per_class": {str(c): {"value": v} for c, v in enumerate(share)}}},
    ):
        change(run / "evaluation.json", trained=shape, bundle=shape)
        found = class_coverage(read_run(run))
        assert [c["name"] for c in found] == list("0123456789")
        assert [c["before"] for c in found] == [c["after"] for c in found] == share


def test_vectors_are_drawn_as_points(run: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(run / "samples.npz", before=rng.normal(size=(50, 2)), after=rng.normal(size=(50, 2)))
    info = read_json(run / "run.json")
    info["data"]["spec"] = {"modality": "vector", "shape": [2], "low": -4, "high": 4}
    write_json(run / "run.json", info)
    page = Page(write_report(run))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "first two coordinates" in page.text


def test_numbers_that_json_does_not_know(run: Path) -> None:
    """The store writes null for NaN; the page says that it was not measured."""
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["trained"]["classifier"]["frechet"]["value"] = None
    write_json(run / "evaluation.json", evaluation)
    assert "not measured" in Page(write_report(run)).text


def test_a_run_of_forecasts_has_no_empty_parts_about_samples(run: Path) -> None:
    section = {"judge": "forecast", "title": "Forecasts", "figures": [], "details": {}, "notes": []}
    picture = {"label": "", "kind": "plot", "data": "data:image/png;base64,", "also": ""}
    section["details"] = {"legend": "Black: what came.", "exhibits": [{"caption": "one", "media": [picture]}]}
    (run / "samples.npz").unlink()
    write_json(run / "evaluation.json", {"sections": [section]})
    page = Page(write_report(run))
    assert "Black: what came." in page.text
    assert "No samples are kept" not in page.text
    assert "has not evaluated its model" not in page.text
    found = sections(page)
    assert found[:4] == ["result", "samples", "verdicts", "judge-1"]
    assert not {"sheet", "pairs", "damage", "metrics"} & set(found)


def test_texts_side_by_side_have_the_whole_width(run: Path) -> None:
    section: dict[str, Any] = {"judge": "predictions", "title": "Predictions", "figures": [], "notes": []}
    kinds = {"text": "exhibit wide", "plot": "exhibit"}
    section["details"] = {
        "exhibits": [
            {
                "caption": kind,
                "media": [{"label": "", "kind": kind, "data": "data:image/png;base64,", "also": ""}],
            }
            for kind in kinds
        ]
    }
    write_json(run / "evaluation.json", {"sections": [section]})
    page = Page(write_report(run))
    found = [
        a["class"] for tag, a in page.tags if tag == "figure" and str(a.get("class")).startswith("exhibit")
    ]
    assert found == list(kinds.values())
