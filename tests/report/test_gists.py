"""What stands on the folded parts: their most important figure, and nothing where there is none."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from report.found import change, fitness, found_modes, keep_copies, mode

from niwaki.report import write_report
from niwaki.report.gists import gists
from niwaki.report.record import read_run
from niwaki.report.write import context


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def found(run: Path) -> dict[str, str]:
    record = read_run(run)
    return gists(record, context(record))


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("verdicts", "fidelity: a small loss, inside the margin · diversity: inconclusive"),
        ("sheet", "60 made"),
        ("pairs", "12 pairs from the same seed"),
        ("metrics", "Fréchet distance: 1.84 → 1.93, real 1.42 · 14 figures"),
        ("plane", "both axes at once, seen by classifier and random"),
        ("cost", "4 ways of sampling measured · prune → finetune → quantize"),
        ("training", "2\u202f000 steps and 2\u202f316\u202f033 parameters"),
        ("versions", "niwaki 0.1.0 · torch 2.13.0 · openvino 2025.3 · 15 signatures"),
        ("layers", ""),
        ("modes", ""),
        ("copies", "close to a training sample: 1.2 % (0.40 … 2.00 %)"),
    ],
)
def test_a_folded_part_shows_its_figure(finished: Path, part: str, line: str) -> None:
    assert re.sub(r"\d+ signatures", "15 signatures", found(finished)[part]) == line


def test_findings_come_to_the_surface(run: Path) -> None:
    change(
        run,
        modes={"bundle": found_modes(mode("class", "7", lost=True))},
        fitness={"random": fitness(fit=False), "classifier": fitness()},
    )
    keep_copies(run, passed=False)
    lines = found(run)
    assert lines["findings"].startswith("to look at: ")
    assert "lost modes" in lines["findings"]
    assert lines["modes"].startswith("1: ")
    assert lines["copies"].startswith("held back · close to a training sample: 1.2 %")
    assert lines["judges"] == "random: unfit, classifier: fit"
    assert 'class="gist">held back' in write_report(run).read_text()


def test_every_part_of_the_page_has_a_line(run: Path) -> None:
    text = write_report(run).read_text()
    assert text.count('<details class="part">') == text.count('<span class="gist">')
    assert '<span class="gist"></span>' not in text
