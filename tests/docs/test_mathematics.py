"""The page of formulas: its numbers are those of the functions, and each module that it names is there."""

from __future__ import annotations

import doctest
import re

import pytest
from docs.doc_scripts import DOCS, script

PAGE = (DOCS / "mathematics.md").read_text(encoding="utf-8")
blocks = script("blocks")
mathematics = script("mathematics")


def test_the_numbers_of_the_page_are_those_of_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    code = [block.code for block in blocks.blocks(PAGE) if block.language == "python"]
    test = doctest.DocTestParser().get_doctest("\n".join(code), {}, "mathematics.md", None, 0)
    said: list[str] = []
    done = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert done.attempted > 40
    assert not done.failed, "".join(said)


def test_every_section_says_where_it_is_in_the_code() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.M)[1:]
    assert len(sections) == 14
    for section in sections:
        title = section.partition("\n")[0]
        links = re.findall(r"\]\((\.\./(?:src|runtime)/[^)]*)\)", section)
        assert links, title
        for link in links:
            assert (DOCS / link).resolve().exists(), link


def test_every_figure_is_on_the_page_and_drawn() -> None:
    shown = set(re.findall(r"\(img/math-(\w+)\.png\)", PAGE))
    assert shown == set(mathematics.FIGURES)
    assert {path.stem for path in (DOCS / "img").glob("math-*.png")} == {f"math-{name}" for name in shown}


@pytest.mark.parametrize(("share"), [0.25, 0.5, 0.75, 0.9])
def test_what_cutting_loses_follows_the_closed_form(share: float) -> None:
    assert mathematics.cut_share(share) == pytest.approx(mathematics.cut_share_closed(share), abs=1e-3)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.0), (20.0, 0.6931)])
def test_jensen_shannon_begins_at_nothing_and_ends_at_log_2(shift: float, expected: float) -> None:
    assert mathematics.jensen_shannon(shift) == pytest.approx(expected, abs=1e-3)
