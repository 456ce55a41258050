"""Further losses: functions that a recipe names as `module:function`, or by the name of one that there is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from niwaki.core.contract import Batch, Context, Phase, Trainable
from niwaki.training.further_losses import further_losses
from niwaki.training.loss_config import LossConfig
from niwaki_runtime.errors import CallError, first_line, nearest

__all__ = ["UserLoss", "function_of", "load_losses"]


@dataclass(frozen=True)
class UserLoss:
    """A function (model, batch, ctx) → scalar, or scalars by name. `call` is how the recipe names it."""

    call: str
    function: Callable[[Trainable, Batch, Context], Tensor | Mapping[str, Tensor]]
    weight: float

    def terms(self, model: Trainable, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Its loss terms; a single scalar is named by the function."""
        value: Any = self.function(model, batch, ctx)
        if isinstance(value, Tensor):
            return {self.call.rpartition(":")[2].rpartition(".")[2]: value}
        if isinstance(value, Mapping) and all(isinstance(v, Tensor) for v in value.values()):
            return dict(value)
        raise CallError(
            f"the loss {self.call} must return a scalar tensor or a dict of them, not {type(value).__name__}"
        )


def load_losses(configs: Iterable[LossConfig], phases: Iterable[Phase]) -> dict[str, tuple[UserLoss, ...]]:
    """The functions by phase. Raises CallError for a module, a function or a phase that is not there."""
    names = [p.name for p in phases]
    losses: dict[str, tuple[UserLoss, ...]] = {}
    for config in configs:
        if config.phase is None and len(names) > 1:
            raise CallError(
                f"the loss {config.call} must say which 'phase' it belongs to; there are {', '.join(names)}"
            )
        phase = config.phase or names[0]
        if phase not in names:
            raise CallError(
                f"the loss {config.call} belongs to the phase '{phase}', which the model has not; "
                f"{nearest(phase, names)}"
            )
        loss = UserLoss(config.call, _function(config.call), config.weight)
        losses[phase] = (*losses.get(phase, ()), loss)
    return losses


def _function(call: str) -> Callable[..., Any]:
    if ":" in call:
        return function_of(call)
    known = further_losses()
    if call not in known:
        hint = nearest(call, [*known, "module:function"])
        raise CallError(f"there is no loss '{call}'; {hint}")
    return known[call]


def function_of(call: str, what: str = "the loss") -> Callable[..., Any]:
    """What a recipe names as `module:function`. Raises CallError where it cannot be had; `what` names it."""
    module_name, _, path = call.partition(":")
    value: Any = _module(module_name, f"{what} {call}")
    for part in path.split("."):
        if not hasattr(value, part):
            raise CallError(
                f"{what} {call} cannot be had: '{module_name}' has no '{part}'; "
                f"{nearest(part, (n for n in vars(value) if not n.startswith('_')))}"
            )
        value = getattr(value, part)
    if not callable(value):
        raise CallError(f"{what} {call} is not a function but {type(value).__name__}")
    return value


def _module(name: str, call: str) -> ModuleType:
    """Looked for where Python looks, and in the working directory, where recipes are run."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise CallError(
                f"{call} cannot be had: there is no module '{error.name}' in {here} or on PYTHONPATH"
            ) from None
        raise CallError(f"{call} cannot be had: importing it needs '{error.name}'") from error
    except Exception as error:
        raise CallError(f"{call} cannot be had: importing '{name}' failed: {first_line(error)}") from error
    finally:
        if added:
            sys.path.remove(here)
