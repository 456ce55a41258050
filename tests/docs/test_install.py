"""The page of installing: its tables are those of the packages."""

from __future__ import annotations

import re
import tomllib

import pytest
from docs.doc_scripts import DOCS, ROOT

PAGE = (DOCS / "install.md").read_text(encoding="utf-8")


def package_of(requirement: str) -> str:
    return re.split(r"[<>=\[]", requirement)[0]


@pytest.mark.parametrize(
    ("project", "head"),
    [
        ("pyproject.toml", "| extra of `niwaki` |"),
        ("runtime/pyproject.toml", "| extra of `niwaki-runtime` |"),
    ],
)
def test_every_extra_has_a_row_with_what_it_brings(project: str, head: str) -> None:
    extras = tomllib.loads((ROOT / project).read_text())["project"]["optional-dependencies"]
    table = PAGE[PAGE.index(head) :].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([a-z]+)` \| ([^|]*) \|", table, re.M))
    assert rows.keys() == extras.keys()
    for name, packages in extras.items():
        if name not in ("dev", "codec"):
            assert rows[name].split(", ") == [package_of(one) for one in packages]


def test_the_pins_of_the_page_are_those_of_the_makefile() -> None:
    pins = set(re.findall(r"torch==[\d.]+", PAGE))
    assert pins == set(re.findall(r"torch==[\d.]+", (ROOT / "Makefile").read_text()))
