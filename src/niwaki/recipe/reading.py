"""From a file, a name or plain values to a checked recipe, and back to YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from niwaki.compression import CompressConfig
from niwaki.core.contract import CallError, nearest
from niwaki.core.paths import expanded
from niwaki.core.store import jsonable
from niwaki.recipe.overrides import apply_overrides
from niwaki.recipe.schema import Recipe
from niwaki.recipe.sentences import sentence
from niwaki.recipe.strict_yaml import parse_yaml

__all__ = ["dump_recipe", "find_recipe", "load_recipe", "recipe_from"]


def _shelves() -> list[Path]:
    """Where a bare name is looked for: `recipes/` here, then the repository's own, or those in the wheel."""
    package = Path(__file__).resolve().parents[1]
    own = package / "recipes" if (package / "recipes").is_dir() else package.parents[1] / "recipes"
    here = Path("recipes")
    return [here] if here.resolve() == own else [here, own]


def find_recipe(given: str | Path) -> Path:
    """The file of a recipe: a path, a directory that holds `recipe.yaml` (a run), or a name such as
    `digits-gan`.

    Raises CallError with the nearest recipe where there is none.
    """
    path = Path(given)
    if path.is_file():
        return path
    if (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    if path.is_dir():
        raise CallError(f"{path} is a directory without a recipe.yaml, so it is neither a recipe nor a run")
    if path.suffix in (".yaml", ".yml") and len(path.parts) > 1:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = f"; {nearest(path.name, siblings)}" if siblings else ""
        raise CallError(f"there is no recipe {path}{hint}")
    known: dict[str, Path] = {}
    for shelf in _shelves():
        for file in sorted(shelf.glob("*.yaml")):
            known.setdefault(file.stem, file)
    name = path.stem if path.suffix in (".yaml", ".yml") else path.name
    if len(path.parts) == 1 and name in known:
        return known[name]
    raise CallError(
        f"there is no recipe '{given}'; {nearest(name, known) if known else 'give the path of a .yaml file'}"
    )


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The checked recipe of a file, a run directory or a name, with `section.key=value` overrides set.

    Raises CallError in one sentence for a missing file, broken YAML, an unknown key, a wrong type or an
    impossible combination.
    """
    file = find_recipe(path)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CallError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise CallError(f"{file} is not a readable recipe: {error}") from None
    values = parse_yaml(text, str(file))
    if not isinstance(values, dict):
        raise CallError(f"{file} must hold sections such as 'data:', 'model:' and 'train:'")
    overrides = tuple(overrides)
    values = apply_overrides(_with_the_usual_plan(values, overrides), overrides)
    data = values.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        data["path"] = str(
            expanded(data["path"]).absolute()
        )  # the run directory outlives the place of the call
    evaluate = values.get("evaluate")
    if isinstance(evaluate, dict) and isinstance(evaluate.get("features"), list):
        evaluate["features"] = [_absolute_run(given) for given in evaluate["features"]]
    if values.get("name") is None:
        values["name"] = file.stem
    return recipe_from(values)


def _with_the_usual_plan(values: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """The same; where single steps are to be changed of a plan that is not written out, it is."""
    plan = values.get("compress")
    if not isinstance(plan, dict) or "steps" in plan:
        return values
    if not any(text.startswith("compress.steps.") for text in overrides):
        return values
    steps = [step.model_dump(mode="json") for step in CompressConfig().steps]
    return {**values, "compress": {**plan, "steps": steps}}


def _absolute_run(given: Any) -> Any:
    """Features named by the path of a run; a plain name stays one."""
    if isinstance(given, str) and "/" in given:
        return str(expanded(given).absolute())
    return given


def recipe_from(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values. Raises CallError in one sentence."""
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise CallError(sentence(error, Recipe)) from None


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every default written out; `load_recipe` of it gives the same recipe."""
    return yaml.safe_dump(jsonable(recipe), sort_keys=False, allow_unicode=True, width=100)
