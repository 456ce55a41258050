"""Functions by name whose keyword arguments are settings of a recipe: learning-rate schedules, averages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from niwaki.core.sentences import sentence
from niwaki_runtime.errors import CallError, nearest

__all__ = ["filled_in"]


def filled_in(
    what: str, functions: Mapping[str, Callable[..., float]], asked: str | Mapping[str, Any]
) -> Callable[[int, int], float]:
    """The function that a recipe names, `cosine` or `{name: cosine, floor: 0.1}`, its settings filled in.

    what: the word for it in errors
    Raises CallError for an unknown name or a setting that does not fit the annotation of its argument.
    """
    settings = {"name": asked} if isinstance(asked, str) else dict(asked)
    name = str(settings.pop("name", None))
    if name not in functions:
        raise CallError(f"there is no {what} '{name}'; {nearest(name, functions)}")
    function = functions[name]
    fields: dict[str, Any] = {
        key: (parameter.annotation, parameter.default)
        for key, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for key in settings:
        if key not in fields:
            raise CallError(f"the {what} '{name}' has no setting '{key}'; {nearest(key, fields)}")
    model = create_model(name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)
    try:
        checked = model.model_validate(settings)
    except ValidationError as error:
        raise CallError(sentence(error, model, f"the {what} '{name}'")) from None
    return partial(function, **dict(checked))
