"""What the pages hold: whole code, no placeholders, and every model once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from niwaki import models
from niwaki.core.contract import CallError, DataSpec
from niwaki.models import registry
from niwaki.models.registry import presets

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACEHOLDER = re.compile(r"@@|\b(?:TODO|FIXME|TBD|XXX)\b|lorem ipsum", re.IGNORECASE)
RUNS = re.compile(r"<!-- runs -->\n+```python\n(.*?)^```", re.M | re.S)
"""Code that stands by itself."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_no_page_holds_a_placeholder(page: Path) -> None:
    left = [line for line in page.read_text().splitlines() if PLACEHOLDER.search(line)]
    assert not left


def test_every_model_and_preset_has_one_row_and_no_heading_comes_twice() -> None:
    text = (ROOT / "docs" / "models.md").read_text()
    table = text[text.index("| name |") : text.index("\n\n", text.index("| name |"))]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.M)
    assert sorted(rows) == sorted({*models.built_in(), *presets()})
    titles = re.findall(r"^## (.*)$", text, re.M)
    assert len(set(titles)) == len(titles)
    named = set(
        re.findall(r"`([a-z]+-[a-z]+)`", "".join(row.rpartition(" | ")[2] for row in table.split("\n")))
    )
    assert named <= {path.stem for path in (ROOT / "recipes").glob("*.yaml")}


@pytest.mark.parametrize("page", [p for p in PAGES if RUNS.search(p.read_text())], ids=lambda p: p.name)
def test_code_that_stands_by_itself_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names()
    monkeypatch.setattr(registry._MODELS, "_known", dict(registry._MODELS._known))
    for code in RUNS.findall(page.read_text()):
        exec(compile(code, page.name, "exec"), {"__name__": "page"})


def test_the_model_of_the_contributors_page_makes_samples_in_range_and_refuses_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.names()
    monkeypatch.setattr(registry._MODELS, "_known", dict(registry._MODELS._known))
    (code,) = RUNS.findall((ROOT / "CONTRIBUTING.md").read_text())
    exec(compile(code, "CONTRIBUTING.md", "exec"), {"__name__": "page"})
    for spec in (
        DataSpec.of("image", (1, 8, 8)),
        DataSpec.of("vector", (3,), low=-torch.inf, high=torch.inf),
    ):
        x = models.build("tiny", {}, spec).sample(4, seed=0)
        assert tuple(x.shape) == (4, *spec.shape)
        assert spec.low <= float(x.min())
        assert float(x.max()) <= spec.high
    with pytest.raises(CallError, match="'tiny' makes amounts"):
        models.build("tiny", {}, DataSpec.of("text", (16,), levels=12))
