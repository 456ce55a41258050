"""A recipe names the whole way of a model: data, model, training, evaluation, compression, export.

It is YAML, or a mapping in Python, checked by pydantic and assembled from each package's own config. Whatever
is wrong in it is one `CallError`: one sentence with the dotted key and the nearest right name.
"""

from __future__ import annotations

from niwaki.recipe.checks import check_data
from niwaki.recipe.overrides import (
    Override,
    Overrides,
    apply_overrides,
    parse_override,
    parse_overrides,
    value_at,
)
from niwaki.recipe.plan_file import checked_plan, read_plan
from niwaki.recipe.reading import dump_recipe, find_recipe, is_recipe, load_recipe, recipe_from
from niwaki.recipe.schema import ExportConfig, Recipe
from niwaki.recipe.strict_yaml import parse_yaml
from niwaki.recipe.tuning import RangeConfig, TuneConfig, parse_choice, parse_range

__all__ = [
    "ExportConfig",
    "Override",
    "Overrides",
    "RangeConfig",
    "Recipe",
    "TuneConfig",
    "apply_overrides",
    "check_data",
    "checked_plan",
    "dump_recipe",
    "find_recipe",
    "is_recipe",
    "load_recipe",
    "parse_choice",
    "parse_override",
    "parse_overrides",
    "parse_range",
    "parse_yaml",
    "read_plan",
    "recipe_from",
    "value_at",
]
