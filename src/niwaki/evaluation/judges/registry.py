"""Which judges there are, and which of them apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from niwaki.core.contract import CallError, Runner, nearest
from niwaki.core.registry import Registry
from niwaki.data import Dataset
from niwaki.evaluation.judges.base import Judge, Tools

__all__ = ["judge_named", "judge_names", "judges_for", "register_judge"]

Kind = TypeVar("Kind", bound=type[Any])

_JUDGES: Registry[Judge] = Registry("judge", ("niwaki.evaluation.judges",))


def register_judge(name: str) -> Callable[[Kind], Kind]:
    """Class decorator: the judge is known as `name`."""
    return _JUDGES.register(name)


def judge_names() -> list[str]:
    """All judges, in the order in which they speak."""
    return sorted(_JUDGES.names(), key=lambda name: (_JUDGES[name].rank, name))


def judge_named(name: str, tools: Tools) -> Judge:
    """The judge of that name. Raises CallError with the nearest where there is none."""
    return _JUDGES[name](tools)


def judges_for(
    runner: Runner, dataset: Dataset, tools: Tools, names: tuple[str, ...] | None = None
) -> list[Judge]:
    """Every judge that applies, or those of `names`, in the order in which they speak.

    Raises CallError for an unknown name, one that does not apply, and where none applies.
    """
    for name in names or ():
        if name not in judge_names():
            raise CallError(f"there is no judge '{name}'; {nearest(name, judge_names())}")
        if not _JUDGES[name].applies(runner, dataset):
            raise CallError(f"the judge '{name}' has nothing to judge of this model on '{dataset.name}'")
    wanted = [name for name in judge_names() if names is None or name in names]
    found = [_JUDGES[name](tools) for name in wanted if _JUDGES[name].applies(runner, dataset)]
    if not found:
        raise CallError(f"no judge can say anything of this model on the data '{dataset.name}'")
    return found
