"""Models that niwaki did not train, named on the command line: `package.module:factory` with weights, or the
folder of a diffusers pipeline or of a causal language model of transformers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from niwaki.adapters import adapt, adapt_language_model, adapt_pipeline
from niwaki.adapters.diffusers.folder import is_pipeline
from niwaki.adapters.language.files import is_language_model
from niwaki.adapters.module import call_factory
from niwaki.adapters.random_weights import random_weights
from niwaki.core.contract import CallError, DataSpec, GenerativeModel, NiwakiError, nearest
from niwaki.core.hub_folder import PICKLES
from niwaki.core.store import read_tensors
from niwaki.models.io import fill
from niwaki.recipe import Override, Overrides, parse_overrides

__all__ = ["RANDOM", "is_external", "is_factory", "load_external", "option_of", "split"]

RANDOM = "random"
"""In the place of a file with weights: what the factory draws by chance is meant."""


def is_factory(what: Any) -> bool:
    """`package.module:function`, where nothing of that name lies on disk."""
    given = str(what)
    return bool(re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*", given)) and not Path(given).exists()


def is_external(what: Any) -> bool:
    """A factory, or the folder of a pipeline or of a language model."""
    return is_factory(what) or (
        isinstance(what, str | Path) and (is_pipeline(what) or is_language_model(what))
    )


def load_external(
    what: str | Path,
    *,
    weights: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    spec: DataSpec | None = None,
    named: str = "weights",
) -> GenerativeModel:
    """The model that a factory makes, or that lies in the folder of a pipeline or of a language model.

    weights: a safetensors file with the factory's weights by name; None keeps those that it made, which must
             be trained ones; `RANDOM` keeps them whatever they are
    options: keywords of `adapt` (of `adapt_pipeline` and `adapt_language_model` for their folders): `latent`,
             `classes`, `steps`, `length` …
    spec:    of the data that its samples answer to
    named:   how the verb calls `weights`, in sentences
    Raises CallError for pickled weights, unknown keywords and weights that were forgotten, NiwakiError for a
    factory that is not there or does not work, and for weights that do not fit, naming the first.
    """
    options = dict(options or {})
    if not is_factory(what):
        if weights is not None:
            raise CallError(f"{what} has its weights inside; {option_of(named)} is for a factory")
        if is_language_model(what):
            _known(options, adapt_language_model, "a language model")
            return _adapted(adapt_language_model, options, what)
        _known(options, adapt_pipeline, "a pipeline")
        return _adapted(adapt_pipeline, options, what, spec=spec)
    arguments = dict(options.pop("arguments", None) or {})
    made = call_factory(str(what), arguments)
    if not isinstance(made, nn.Module):
        raise CallError(f"the factory '{what}' returned {type(made).__name__}, not an nn.Module")
    if weights is not None and str(weights) != RANDOM:
        _fill(made, Path(weights))
    if isinstance(made, GenerativeModel):
        if options:
            raise CallError(
                f"the factory '{what}' makes a whole model, which 'model.{next(iter(options))}' cannot change"
            )
        if weights is None:
            _refuse_random(what, arguments, made, named)
        return made.eval()
    _known(options, adapt, "a module")
    if "latent" not in options:
        options["latent"] = _latent(made, what)
    if weights is None:
        _refuse_random(what, arguments, made, named)
    given = None if {"shape", "modality"} & options.keys() else spec
    return _adapted(adapt, options, made, factory=str(what), arguments=arguments, spec=given)


def _refuse_random(what: str | Path, arguments: Mapping[str, Any], made: nn.Module, named: str) -> None:
    """Raises CallError where chance has drawn the weights: nobody means to judge or to ship those unasked."""
    drawn = random_weights(lambda: call_factory(str(what), arguments), made)
    if not drawn:
        return
    more = len(drawn) - 1
    which = f"'{drawn[0]}'" + (f" and {more} more" if more else "")
    raise CallError(
        f"'{what}' makes weights that are drawn by chance ({which}): name the file of the trained ones "
        f"as {named} ({option_of(named)} FILE), or go on with random ones ({option_of(named)} {RANDOM})"
    )


def option_of(named: str) -> str:
    """The option of a keyword: `before_weights` → `--before-weights`."""
    return f"--{named.replace('_', '-')}"


def _adapted(function: Any, options: Mapping[str, Any], *given: Any, **named: Any) -> GenerativeModel:
    """Raises CallError for a value of `options` that is not of its kind."""
    try:
        model: GenerativeModel = function(*given, **named, **options)
    except NiwakiError:
        raise
    except (TypeError, ValueError) as error:
        values = ", ".join(f"model.{name}={value}" for name, value in options.items())
        first = str(error).strip().splitlines()[-1].strip()
        raise CallError(f"one of {values} is not of its kind: {first}") from error
    return model


def split(overrides: Overrides) -> tuple[dict[str, Any], list[Override]]:
    """(`model.*` as keywords of `adapt`, the other overrides)."""
    options: dict[str, Any] = {}
    rest: list[Override] = []
    for change in parse_overrides(overrides):
        path, value = change.path, change.value
        if change.section != "model":
            rest.append(change)
        elif len(path) == 2:
            options[path[1]] = tuple(value) if isinstance(value, list) else value
        elif path[1:-1] == ("arguments",):
            options.setdefault("arguments", {})[path[2]] = value
        else:
            raise CallError(
                f"'{change}' is no setting of an adapted model; write model.latent=…, model.classes=…"
            )
    return options, rest


def _known(options: Mapping[str, Any], function: Any, what: str) -> None:
    names = set(inspect.signature(function).parameters) - {"module", "source", "spec", "factory"}
    for name in options:
        if name not in names:
            raise CallError(f"{what} has no setting 'model.{name}'; {nearest(name, names)}")


def _fill(module: nn.Module, path: Path) -> None:
    if path.suffix.lower() in PICKLES:
        raise CallError(
            f"{path} is a pickle, which can run any code when it is read; if you trust it, convert it: "
            'python -c "import torch, safetensors.torch as s; '
            f"s.save_file(torch.load('{path}', weights_only=True), '{path.with_suffix('.safetensors')}')\""
        )
    if not path.exists():
        raise CallError(f"{path} does not exist")
    fill(module, read_tensors(path), path)


def _latent(module: nn.Module, what: str | Path) -> tuple[int, ...]:
    """The shape of the noise, read off the first layer. Raises CallError where that does not tell."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            return (layer.in_features,)
        if isinstance(layer, nn.modules.conv._ConvNd):
            return (layer.in_channels, *[1] * len(layer.kernel_size))
        if isinstance(layer, nn.Embedding):
            break  # classes are read before the noise: how the two meet is the module's own affair
    raise CallError(f"say what shape the noise of '{what}' has: model.latent=100 or model.latent=[100,1,1]")
