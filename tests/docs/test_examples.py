"""What the documentation says runs: examples of public modules, commands and recipes of the README."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
import typer
from docs.doc_scripts import script

from niwaki.cli.main import app
from niwaki.models import registry
from niwaki.recipe import find_recipe, load_recipe

ROOT = Path(__file__).parents[2]
blocks = script("blocks")
SOURCES = {"niwaki": ROOT / "src", "niwaki_runtime": ROOT / "runtime" / "src"}


def modules_with_examples() -> list[str]:
    return [
        ".".join(path.relative_to(home).with_suffix("").parts).removesuffix(".__init__")
        for name, home in SOURCES.items()
        for path in sorted((home / name).rglob("*.py"))
        if any(">>> " in line and "+SKIP" not in line for line in path.read_text().splitlines())
    ]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_docstrings_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PRESETS", registry.presets())  # what examples enter leaves with them
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testmod(module, optionflags=flags)
    assert tried
    assert not failed


def commands(path: Path) -> list[str]:
    """`niwaki …` lines in the code blocks of a page; what stands behind a gap is a remark."""
    shown = [block for block in blocks.blocks(path.read_text()) if block.language in ("", "sh", "bash")]
    lines = [line.strip() for block in shown for line in block.code.replace("\\\n", " ").splitlines()]
    return [
        part.strip()
        for line in lines
        if line.startswith("niwaki ")
        for part in re.split(r"\s{3,}", line)
        if part.strip().startswith("niwaki ")
    ]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name
)
def test_commands_of_the_pages_are_verbs_with_these_options(page: Path) -> None:
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for command in commands(page):
        _, verb, *rest = command.split()
        assert verb in verbs, command
        known = {name for option in verbs[verb].params for name in option.opts}
        for word in rest:
            option = word.strip("[]").partition("=")[0]
            if option.startswith("-") and len(option) > 1 and not option.lstrip("-").isdigit():
                assert option in known, f"{command}: {option}"


def test_every_recipe_that_the_pages_run_is_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for command in commands(page):
            _, verb, *rest = command.split()
            if verb in ("run", "train") and rest and re.fullmatch(r"[a-z]+-[a-z]+|recipes/\S+", rest[0]):
                find_recipe(ROOT / rest[0] if "/" in rest[0] else rest[0])


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_recipes_are_valid_and_say_what_they_are(path: Path) -> None:
    assert path.read_text().startswith("# ")
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    head = "".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    if not recipe.data.model_dump().get("path"):  # of data that one brings, the run itself says it
        assert re.search(r"takes about [\d.]+ (s|min|h) on two cores", head)


def test_make_targets_of_the_readme_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    asked = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert asked <= targets
