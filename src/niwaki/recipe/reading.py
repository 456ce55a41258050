"""From a file, a name or plain values to a checked recipe, and back to YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from niwaki.compression import CompressConfig
from niwaki.core.contract import CallError, nearest
from niwaki.core.paths import expanded
from niwaki.core.sentences import sentence
from niwaki.recipe.overrides import Override, Overrides, apply_overrides, parse_overrides
from niwaki.recipe.plain import plain
from niwaki.recipe.schema import Recipe
from niwaki.recipe.strict_yaml import parse_yaml

__all__ = ["dump_recipe", "find_recipe", "is_recipe", "load_recipe", "recipe_from"]


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


def is_recipe(what: Any) -> bool:
    """Whether it is a recipe that is in memory: checked, or a mapping of its sections."""
    return isinstance(what, Recipe | Mapping)


def load_recipe(what: str | Path | Mapping[str, Any] | Recipe, overrides: Overrides = ()) -> Recipe:
    """The checked recipe of a file, a run directory, a name or a mapping of its sections, with overrides set.

    overrides: `["train.steps=700"]`, or a mapping (`parse_overrides`)
    A mapping holds what YAML would, and may hold typed configs (`niwaki.TrainConfig`); its `name` is that of
    the model where it has none.
    Raises CallError in one sentence for a missing file, broken YAML, an unknown key, a wrong type or an
    impossible combination.
    """
    changes = parse_overrides(overrides)
    if isinstance(what, Recipe):
        if not changes:
            return what
        values, name = plain(what), what.name
    elif isinstance(what, Mapping):
        values = plain(what)
        model = values.get("model")
        called = model.get("name") if isinstance(model, dict) else None
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(called or "model")).lstrip("._-")
    elif isinstance(what, str | Path):
        values, name = _read(what)
    else:
        raise CallError(
            f"a recipe is a file, a name, a mapping of sections or a Recipe, not {type(what).__name__}"
        )
    values = apply_overrides(_with_the_usual_plan(values, changes), changes)
    data = values.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        data["path"] = str(
            expanded(data["path"]).absolute()
        )  # the run directory outlives the place of the call
    evaluate = values.get("evaluate")
    if isinstance(evaluate, dict) and isinstance(evaluate.get("features"), list):
        evaluate["features"] = [_absolute_run(given) for given in evaluate["features"]]
    if values.get("name") is None:
        values["name"] = name
    return recipe_from(values)


def _read(path: str | Path) -> tuple[dict[str, Any], str]:
    """The plain values of a file, and the name that it gives."""
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
    return values, file.stem


def _with_the_usual_plan(values: dict[str, Any], changes: Sequence[Override]) -> dict[str, Any]:
    """The same; where single steps are to be changed of a plan that is not written out, it is."""
    plan = values.get("compress")
    if not isinstance(plan, dict) or "steps" in plan:
        return values
    if not any(_changes_steps(change) for change in changes):
        return values
    steps = [step.model_dump(mode="json") for step in CompressConfig().steps]
    return {**values, "compress": {**plan, "steps": steps}}


def _changes_steps(change: Override) -> bool:
    deeper = len(change.path) > 2 or (change.within and isinstance(change.value, Mapping))
    return change.path[:2] == ("compress", "steps") and deeper


def _absolute_run(given: Any) -> Any:
    """Features named by the path of a run; a plain name stays one."""
    if isinstance(given, str) and "/" in given:
        return str(expanded(given).absolute())
    return given


def recipe_from(values: Mapping[str, Any]) -> Recipe:
    """A recipe from the values of its sections, plain or typed. Raises CallError in one sentence."""
    try:
        return Recipe.model_validate(plain(values))
    except ValidationError as error:
        raise CallError(sentence(error, Recipe)) from None


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every default written out; `load_recipe` of it gives the same recipe."""
    return recipe.to_yaml()
