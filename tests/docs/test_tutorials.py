"""The tutorials, carried out as they stand; what each says is there afterwards, is there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from docs.doc_scripts import DOCS, script

import niwaki_runtime

blocks = script("blocks")
PAGES = sorted((DOCS / "tutorials").glob("*.md"))
FILES = re.compile(r"^- ((?:`[^`]+`(?:, )?)+): ", re.M)


def promised(page: str) -> list[str]:
    """The files under "What there is now"."""
    end = page.partition("\n## What there is now\n")[2]
    return [name for line in FILES.findall(end) for name in re.findall(r"`([^`]+)`", line)]


def first(folder: Path) -> None:
    bundle = folder / "runs/first/digits-gan.niwaki"
    whole = folder / "runs/first/model/model.safetensors"
    assert bundle.stat().st_size * 10 < whole.stat().st_size
    assert niwaki_runtime.load(bundle).sample(16, seed=0, condition=3).shape == (16, 1, 8, 8)


def pictures(folder: Path) -> None:
    assert len(list((folder / "pictures").rglob("*.png"))) == 1260
    assert niwaki_runtime.load(folder / "runs/shapes/folder-gan.niwaki").sample(2).shape == (2, 3, 16, 16)


def series(folder: Path) -> None:
    (section,) = json.loads((folder / "runs/load/evaluation.json").read_text())["sections"]
    crps, *_, coverage = section["figures"]
    assert 2 * crps["value"] < crps["reference"]
    assert 0.7 < coverage["value"] < 0.9
    assert len((folder / "forecast.csv").read_text().splitlines()) == 1 + 24


def text(folder: Path) -> None:
    calls = (folder / "calls.txt").read_text()
    assert len(re.findall(r"(?:int|str|list)\.[a-z]{3,8}\(\)", calls)) == 3
    assert (folder / "truth.nwk").stat().st_size < (folder / "notes/truth.txt").stat().st_size


def small(folder: Path) -> None:
    verdict = json.loads((folder / "runs/base/verdict.json").read_text())["verdict"]
    assert verdict["fidelity"]["outcome"] == "loss"  # of the careless plan, which came last


def search(folder: Path) -> None:
    record = json.loads((folder / "runs/base/search/search.json").read_text())
    assert record["candidates"]
    assert record["chosen"] or record["refusal"]["text"]


def elsewhere(folder: Path) -> None:
    assert niwaki_runtime.load(folder / "small/small.niwaki").sample(4, seed=0).shape == (4, 1, 8, 8)


def own(folder: Path) -> None:
    record = json.loads((folder / "runs/moments/verdict.json").read_text())
    assert record["verdicts"]["ink"]["axes"]["fidelity"]["outcome"] in ("no loss", "loss", "inconclusive")
    bundle = niwaki_runtime.load(folder / "runs/moments/moments.niwaki")
    assert bundle.sample(4, seed=0, condition=3).shape == (4, 1, 8, 8)


FACTS: dict[str, Callable[[Path], None]] = {
    "01-first-model": first,
    "02-your-pictures": pictures,
    "03-your-series": series,
    "04-your-text": text,
    "06-make-it-small": small,
    "07-search-to-a-budget": search,
    "08-a-model-from-elsewhere": elsewhere,
    "10-your-own-model-and-metric": own,
}
"""What a page says beyond its own asserts."""


def test_there_are_ten_and_each_says_what_it_leaves() -> None:
    assert [page.stem[:2] for page in PAGES] == [f"{k:02}" for k in range(1, 11)]
    for page in PAGES:
        said = page.read_text(encoding="utf-8")
        assert promised(said), page.name
        assert blocks.blocks(said)
    assert FACTS.keys() <= {page.stem for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_python_is_whole(page: Path) -> None:
    for block in blocks.blocks(page.read_text(encoding="utf-8")):
        if block.language == "python":
            compile(block.code, page.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_of_the_pages_are_there_and_small(page: Path) -> None:
    for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).resolve().stat().st_size < 100_000, link


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_runs(page: Path, tmp_path: Path) -> None:
    done = blocks.run(page, tmp_path)
    assert done.returncode == 0, done.stdout
    missing = [
        name
        for name in promised(page.read_text(encoding="utf-8"))
        if not (tmp_path / name).is_file() or not (tmp_path / name).stat().st_size
    ]
    assert not missing
    FACTS.get(page.stem, lambda folder: None)(tmp_path)


def test_blocks_run_in_order_in_one_folder_and_the_first_error_ends_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# seven.py\nN = 7\n```\n\n```python\nimport seven\n\nn = seven.N\n```\n\n"
        "```sh\necho 8000 > port.txt\n```\n\n```python\nopen('n.txt', 'w').write(str(n))\n```\n\n"
        "```\nnot run\n```\n\n```sh\nfalse\ntouch never.txt\n```\n"
    )
    done = blocks.run(page, tmp_path / "folder")
    assert done.returncode != 0
    assert "non-zero exit status" in done.stdout
    assert (tmp_path / "folder/n.txt").read_text() == "7"
    assert (tmp_path / "folder/port.txt").read_text().strip() != "8000"  # a free one
    assert not (tmp_path / "folder/never.txt").exists()
