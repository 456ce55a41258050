"""The heat map of layers: what a cell says, in figures, colour and words; and what was said beforehand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from niwaki.core.store import read_json, write_json
from niwaki.report import write_report
from niwaki.report.record import read_run
from niwaki.report.sensitivity import heat, off_path


def entry(
    layer: str, technique: str, strength: float, fidelity: float, diversity: float, **more: Any
) -> dict:
    axes = {"fidelity": fidelity, "diversity": diversity}
    found = {a: {"value": v, "interval": [v - 0.2, v + 0.2]} for a, v in axes.items()}
    return {
        "layer": layer, "technique": technique, "strength": strength, **found, "n": 400, "confirmed": False,
        "parameters": 0, "macs": 0, "bytes": 0, "together": [], "reason": "", **more,
    }  # fmt: skip


ENTRIES = [
    entry("g.start", "prune", 0.75, 29.0, 0.3, confirmed=True, n=1500),
    entry("g.start", "weights", 4, 0.4, 1.3),
    entry("g.start", "weights", 8, -0.04, 0.0),
    entry("g.last", "weights", 4, 0.2, -1.5),
    entry("g.last", "weights", 8, 0.0, 0.1),
    {**entry("g.last", "prune", 0.75, 0, 0), "fidelity": None, "diversity": None, "reason": "too narrow"},
]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    made = Path(shutil.copytree(finished, tmp_path / "run"))
    write_json(
        made / "sensitivity.json", {"layers": ["g.start", "g.last"], "entries": ENTRIES, "margins": {}}
    )
    return made


def test_cells_stand_by_layer_and_strength(run: Path) -> None:
    found = heat(read_run(run))
    assert found is not None
    assert found.groups == (("channels cut", 1), ("weight bits", 2))
    assert found.columns == ("75%", "8", "4")
    assert found.starts == (1,)
    fidelity, diversity = found.panels
    assert [[c.text for c in row.cells] for row in fidelity.rows] == [["29", "0", "0.4"], ["·", "0", "0.2"]]
    assert [[c.text for c in row.cells] for row in diversity.rows] == [
        ["0.3", "0", "1.3"],
        ["·", "0.1", "−1.5"],
    ]
    assert [row.short for row in fidelity.rows] == ["start", "last"]


def test_colour_tells_loss_from_gain_by_the_logarithm_and_ends_at_thirty_margins(run: Path) -> None:
    found = heat(read_run(run))
    assert found is not None
    fidelity, diversity = found.panels
    worst, none, little = fidelity.rows[0].cells
    gain = diversity.rows[1].cells[2]
    assert worst.style == "--tone: var(--bad); --much: 99%"  # log 30 / log 31
    assert worst.tone == "strong again"
    assert none.tone == "vague"  # its interval holds 0
    assert little.tone == ""
    assert gain.style == "--tone: var(--good); --much: 27%"  # log 2.5 / log 31


def test_words_say_what_the_colours_show(run: Path) -> None:
    found = heat(read_run(run))
    assert found is not None
    text = " ".join(found.sentences)
    assert "Fidelity suffers most in start: cutting 75 % of the channels costs 29 margins." in text
    assert "Diversity suffers most in start: 4-bit weights cost 1.3 margins (not measured again)." in text
    assert "weights of 8 / 4 bits surely cost more than a margin in 0 / 1 of 2 layers" in text
    assert (found.pairs, found.more) == (400, 1500)


def test_what_may_be_chance_is_not_said_to_cost_a_margin(run: Path) -> None:
    record = read_json(run / "sensitivity.json")
    for one in record["entries"]:
        one["diversity"] = one["diversity"] and {"value": 5.0, "interval": [0.9, 9.0]}
    write_json(run / "sensitivity.json", record)
    found = heat(read_run(run))
    assert found is not None
    text = " ".join(found.sentences)
    assert "No single layer surely costs a margin of diversity" in text
    assert "weights of 8 / 4 bits surely cost more than a margin in 0 / 0 of 2 layers" in text


def test_the_page_has_both_panels_and_the_warnings(run: Path) -> None:
    compression = read_json(run / "compression.json")
    warning = {
        "graph": "generator", "operator": "ConvTranspose", "module": "g.start",
        "shape": [8, 4, 2, 2], "share": 0.4, "reason": "it has a zero point",
    }  # fmt: skip
    write_json(run / "compression.json", {**compression, "warnings": [warning]})
    (warned,) = off_path(read_run(run))
    assert (warned.what, warned.share) == ("ConvTranspose g.start 8×4×2×2", "40% of the arithmetic")
    page = write_report(run).read_text()
    assert 'id="layers"' in page
    assert len(re.findall(r'class="heat"', page)) == 2
    assert "it has a zero point." in page


def test_a_run_without_it_has_no_such_section(finished: Path) -> None:
    record = read_run(finished)
    assert heat(record) is None
    assert off_path(record) == []
