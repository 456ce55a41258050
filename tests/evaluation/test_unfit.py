"""Where no extractor that looked is fit, verdicts, tables and summaries say so in words."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from evaluation.vectors import Identity, vector_dataset
from rich.console import Console

from niwaki.cli.unfit import draw_unfit
from niwaki.evaluation.extractor_checks.unfit import unfit_alone, unfit_words
from niwaki.evaluation.judges import Evidence, Tools
from niwaki.evaluation.judges.samples import Samples

CENTRES = 8 * np.random.default_rng(0).normal(size=(8, 4))
UNFIT = {"fit": False, "text": "'x' is unfit: it fails on blur (log realism turns back)."}
FIT: dict[str, Any] = {"fit": True, "text": "'y' is fit."}
UNTRIED: dict[str, Any] = {"fit": None, "text": "too few samples", "ladders": []}


class Other(Identity):
    name = "other"
    fingerprint = "2" * 64


@pytest.fixture(scope="module")
def dataset() -> Any:
    return vector_dataset(np.random.default_rng(1), CENTRES, (300, 200, 300))


@pytest.mark.parametrize(
    ("fitness", "names", "found"),
    [
        ({"random": UNFIT}, ["random"], ("random",)),
        ({"random": UNFIT, "mae": UNFIT}, ["random", "mae"], ("random", "mae")),
        ({"random": UNFIT, "simclr": FIT}, ["random", "simclr"], ()),
        ({"random": UNFIT, "simclr": FIT}, ["random"], ("random",)),
        ({"random": UNTRIED}, ["random"], ()),
        ({"random": UNFIT, "simclr": UNTRIED}, ["random", "simclr"], ()),
        ({}, ["random"], ()),
        ({}, [], ()),
    ],
)
def test_only_where_all_of_them_failed(
    fitness: dict[str, Any], names: list[str], found: tuple[str, ...]
) -> None:
    assert unfit_alone(names, fitness) == found
    assert bool(unfit_words({name: fitness.get(name, {}) for name in names})) == bool(found)


@pytest.mark.parametrize("name", ["random", "classifier", "mae", "simclr"])
def test_the_sentence_names_them_and_says_what_to_do(name: str) -> None:
    words = unfit_words({name: UNFIT})
    assert f"unfit for these data ('{name}')" in words
    assert UNFIT["text"] in words
    assert ("evaluate.features=[simclr]" in words) == (name != "simclr")
    assert "dinov2:FOLDER" in words
    console = Console(file=io.StringIO(), width=1000)
    draw_unfit(console, {"fitness": {name: UNFIT}})
    assert words in console.file.getvalue()  # type: ignore[attr-defined]
    draw_unfit(console, {"fitness": {name: FIT}})
    assert console.file.getvalue().count("unfit   ") == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fitness", "hint"),
    [
        ({"identity": UNFIT, "other": UNFIT}, ["identity", "other"]),
        ({"identity": UNFIT, "other": FIT}, []),
        ({"identity": FIT, "other": FIT}, []),
        ({"identity": UNFIT, "other": UNTRIED}, []),
        ({"identity": UNTRIED, "other": UNTRIED}, []),
    ],
)
def test_the_verdict_says_that_it_is_a_hint(dataset: Any, fitness: dict[str, Any], hint: list[str]) -> None:
    judge = Samples(Tools(lambda: [Identity(), Other()], fitness={dataset.fingerprint: fitness}))
    rng = np.random.default_rng(2)
    x = (CENTRES[rng.integers(0, 8, 400)] + rng.normal(size=(400, 4))).astype(np.float32)
    before, after = (Evidence("samples", "test", 400, 0, {"samples": made}) for made in (x, 0.9 * x))
    margins = judge.margins(before, dataset, 400)
    for verdict in judge.compare(before, after, margins, dataset).axes.values():
        assert verdict.to_json()["unfit"] == hint
        assert ("A hint only: it was taken in features that are unfit" in verdict.text) == bool(hint)
    for verdict in judge.compare(before, before, margins, dataset).axes.values():
        assert verdict.unfit == (), "equal samples are equal whoever looks"
        assert "hint" not in verdict.text
