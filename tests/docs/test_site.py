"""The pages as a site: every page has its place, every picture its gallery, every verb its reference."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docs.doc_scripts import DOCS, ROOT, script

import niwaki
from niwaki import models
from niwaki.models.registry import presets
from niwaki.recipe import load_recipe


def pages(nav) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    values = nav.values() if isinstance(nav, dict) else nav
    return {page for value in values for page in pages(value)}


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert pages(config["nav"]) == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def test_the_gallery_shows_every_picture_of_a_run():
    shown = set(re.findall(r"\(img/(run-[\w-]+\.png)\)", (DOCS / "gallery.md").read_text()))
    assert shown == {path.name for path in (DOCS / "img").glob("run-*.png")}


def test_the_gallery_shows_or_names_every_model_and_preset():
    text = (DOCS / "gallery.md").read_text()
    shown, _, missing = text.partition("\n## Every model\n")[2].partition("\n### Without a picture here\n")
    lines = re.findall(r"^\| `([\w-]+)` \| (.*)$", shown, re.M)
    rows = {name: re.findall(r"\(#([\w-]+)\)", row) for name, row in lines}
    without = set(re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\| (`[^|]*) \|", missing, re.M))))
    assert not rows.keys() & without
    assert rows.keys() | without == {*models.built_in(), *presets()}
    recipes = {path.stem: load_recipe(path).model["name"] for path in (ROOT / "recipes").glob("*.yaml")}
    for name, runs in rows.items():
        assert {recipes[run] for run in runs} == {name}
        assert all((DOCS / "img" / f"run-{run}.png").is_file() for run in runs)
    pictured = {path.stem.removeprefix("run-") for path in (DOCS / "img").glob("run-*.png")}
    assert not without & {recipes[run] for run in pictured & recipes.keys()}


def test_the_reference_lists_every_function_of_the_package():
    listed = re.findall(r"heading: niwaki\.(\w+)", (DOCS / "api.md").read_text())
    functions = [name for name in niwaki.__all__ if inspect.isfunction(getattr(niwaki, name))]
    assert sorted(set(functions) - set(listed)) in ([], ["load_recipe"])


def test_fields_of_docstrings_become_a_list():
    pytest.importorskip("griffe")
    module = script("docstring_lists")
    text = "Does it.\n\nwhat: a run,\n      or a model\nn, seed: numbers\nReturns a thing.\nRaises it.\n"
    lines = [line for line in module.as_markdown(text).splitlines() if line]
    assert lines[1:3] == ["- **what**: a run, or a model", "- **n, seed**: numbers"]
    assert module.as_markdown(text).endswith("\n\nReturns a thing.\n\nRaises it.")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    missing = set(re.findall(r"but the target '?(\S*?)'? is not found", done.stderr))
    missing |= set(re.findall(r"a link '(\S+)', but the target is not found", done.stderr))
    for name in missing:  # a file of the repository: the site lies beside them
        assert (DOCS / name.partition("#")[0]).resolve().exists(), name
    assert (tmp_path / "site" / "api.html").stat().st_size > 50_000
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"<script[^>]*src=\"?https?:", home)
    assert 'src="iframe-worker.js"' in home
    _finds(tmp_path / "site" / "index.html", "coverage")


def _finds(page: Path, word: str) -> None:
    """The search of a page that was opened from its folder, if there is a browser here."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        return
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.goto(f"{page.as_uri()}?q={word}")
        answer = tab.locator(".md-search-result__meta")
        playwright.expect(answer).to_have_text(re.compile(r"\d+ matching documents"), timeout=60_000)
        browser.close()
