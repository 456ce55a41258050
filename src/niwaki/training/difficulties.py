"""What makes a sample hard, by name: numbers that order a split, low first."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import torch

from niwaki.data import Split
from niwaki_runtime.errors import CallError, nearest

__all__ = ["difficulty", "difficulty_names", "difficulty_of"]

Difficulty = Callable[[Split], np.ndarray]
_KNOWN: dict[str, Difficulty] = {}
BLOCK = 1024


def difficulty(name: str) -> Callable[[Difficulty], Difficulty]:
    """Decorator: `curriculum.by: name` asks this function, `(split) → (n,)`."""

    def enter(function: Difficulty) -> Difficulty:
        _KNOWN[name] = function
        return function

    return enter


def difficulty_names() -> list[str]:
    return sorted(_KNOWN)


def difficulty_of(split: Split, by: str) -> np.ndarray:
    """`(n,)` float64, low is easy. Raises CallError for a name that is none, a column or a function that is
    not there, and numbers that do not order the split."""
    kind, _, name = by.partition(":")
    if by in _KNOWN:
        found = _KNOWN[by](split)
    elif kind == "column":
        if name not in split.columns:
            raise CallError(
                f"curriculum.by: the data have no column '{name}'; {nearest(name, split.columns)}"
            )
        found = split.columns[name].data.double().reshape(len(split), -1).mean(1).cpu().numpy()
    elif name:
        found = _called(kind, name)(split)
    else:
        names = [*difficulty_names(), "column:NAME", "module:function"]
        raise CallError(f"curriculum.by: there is no '{by}'; {nearest(by, names)}")
    found = np.asarray(found, dtype=np.float64)
    if found.shape != (len(split),) or not np.isfinite(found).all():
        raise CallError(f"curriculum.by: '{by}' must give one finite number for each of {len(split)} samples")
    return found


def _called(module: str, name: str) -> Difficulty:
    try:
        function: Difficulty = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CallError(f"curriculum.by: '{module}:{name}' cannot be imported: {error}") from None
    return function


def _rows(split: Split) -> list[torch.Tensor]:
    """The samples as seen, flattened, in blocks."""
    return [
        split.values(torch.arange(at, min(at + BLOCK, len(split)))).double().flatten(1).cpu()
        for at in range(0, len(split), BLOCK)
    ]


@difficulty("length")
def length(split: Split) -> np.ndarray:
    """Values before the run of equal ones at the end: a padded text's or series' own length."""
    found = []
    for rows in _rows(split):
        differs = rows != rows[:, -1:]
        last = differs.shape[1] - differs.flip(1).to(torch.int8).argmax(1)
        found.append(torch.where(differs.any(1), last, 0))
    return torch.cat(found).numpy()


@difficulty("detail")
def detail(split: Split) -> np.ndarray:
    """Mean |difference| between neighbours along the last axis, which smooth samples have little of."""
    found = []
    for at in range(0, len(split), BLOCK):
        x = split.values(torch.arange(at, min(at + BLOCK, len(split)))).double()
        found.append(x.diff(dim=-1).abs().flatten(1).mean(1).cpu())
    return torch.cat(found).numpy()


@difficulty("novelty")
def novelty(split: Split) -> np.ndarray:
    """Distance from the mean of its class, or of all samples where there are no classes."""
    rows = torch.cat(_rows(split))
    y = torch.zeros(len(rows), dtype=torch.long) if split.y is None else split.y.cpu().long()
    found = torch.zeros(len(rows), dtype=torch.float64)
    for label in y.unique():
        mine = y == label
        found[mine] = (rows[mine] - rows[mine].mean(0)).norm(dim=1)
    return found.numpy()
