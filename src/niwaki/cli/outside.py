"""What the verbs share about models that niwaki did not train."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from niwaki.recipe import Override

__all__ = [
    "OUTSIDE",
    "WEIGHTS",
    "Loras",
    "Weights",
    "beside_parameters",
    "opened",
    "refuse_for_runs",
    "with_loras",
]

OUTSIDE = (
    "package.module:function, which makes it, or the folder of a diffusers pipeline or of a causal language "
    "model of transformers"
)

WEIGHTS = (
    "the weights for what package.module:function makes, by name; 'random' goes on with those that it draws."
)

Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="SAFETENSORS[:SCALE]",
        help="LoRA or DoRA weights merged into a run's model or a diffusers pipeline; again for several.",
    ),
]
Weights = Annotated[Path | None, typer.Option(metavar="SAFETENSORS", help=WEIGHTS[0].upper() + WEIGHTS[1:])]


def opened(
    what: str,
    overrides: Sequence[str],
    weights: Path | None,
    loras: Sequence[str] | None = None,
    *,
    device: str = "cpu",
) -> tuple[Any, list[Any]]:
    """A model of no run, loaded with its `model.*` overrides and LoRA weights, and the other overrides; a run
    or a model directory whose adapters are asked for; runs, model directories and bundles are handed on as
    they are."""
    from niwaki.workflow.subjects.external import is_external, load_external, split

    if not is_external(what):
        refuse_for_runs(what, weights=weights)
        return (_adapted(what, loras, device) if loras else what), list(overrides)
    from niwaki.training.hardware import choose_device

    overrides = with_loras(what, overrides, loras)
    options, rest = split(overrides)
    return load_external(what, weights=weights, options=options).to(choose_device(device)), rest


def _adapted(what: str, loras: Sequence[str], device: str) -> Any:
    """The model of a run or a directory with adapters merged. Raises CallError for a bundle, whose weights
    are those of its graphs."""
    from niwaki.core.contract import GenerativeModel
    from niwaki.core.lora_files import Lora
    from niwaki.nn.low_rank import merge_adapter
    from niwaki.training.hardware import choose_device
    from niwaki.workflow.load import load
    from niwaki_runtime.errors import CallError

    given = [Lora.of(one) for one in loras]
    model = load(what)
    if not isinstance(model, GenerativeModel):
        raise CallError(f"--lora is for a model, and {what} is a bundle; export the model with its adapters")
    for one in given:
        merge_adapter(model, one.path, one.scale)
    return model.to(choose_device(device))


def with_loras(what: str, overrides: Sequence[str], loras: Sequence[str] | None) -> Sequence[str]:
    """The overrides with LoRA weights among them. Raises CallError where these are for a model that has no
    place for them."""
    from niwaki.workflow.subjects.external import is_external

    if not loras:
        return overrides
    if not is_external(what):
        refuse_for_runs(what, lora=loras)
    return [*overrides, f"model.lora={json.dumps(list(loras))}"]


def refuse_for_runs(what: str, **given: Any) -> None:
    """Raises CallError for an option that only a model of no run takes."""
    from niwaki_runtime.errors import CallError

    for name, value in given.items():
        if value is not None:
            raise CallError(
                f"--{name} is for package.module:function or a pipeline's folder, and {what} is neither"
            )


def beside_parameters(given: Sequence[Override], function: Callable[..., Any]) -> dict[str, Any]:
    """What is set by `key=value` and handed on to a function, by name. Raises CallError for what the function
    takes itself, and the command says by an option of its own."""
    from niwaki_runtime.errors import CallError

    options = {".".join(change.path): change.value for change in given}
    for name in options:
        if name in inspect.signature(function).parameters:
            dashes = "-" if len(name) == 1 else "--"
            raise CallError(
                f"'{name}' is not set by '{name}=': if at all, by {dashes}{name} (--help lists them)"
            )
    return options
