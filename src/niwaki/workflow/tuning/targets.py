"""What a study goes by: figures of judges on the validation split, or the held-out loss."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from niwaki.core.contract import CallError, NiwakiError, nearest
from niwaki.evaluation.judges import Figure
from niwaki.evaluation.measures import measures

__all__ = ["Constraint", "Target", "objectives_of", "parse_constraint", "resolve", "wanted_metrics"]

LOSS = "loss"
USUAL = {"fidelity": "clipped_density", "diversity": "clipped_coverage"}
"""The metric that stands for an axis where samples are judged in features (Salvy et al. 2025: both fall
steadily as samples get worse, and outliers do not raise them)."""


@dataclass(frozen=True)
class Target:
    """One number of a trial.

    name:   as it was asked for
    figure: the name of the judge's figure, `Figure.name`; empty for the held-out loss
    better: `higher` or `lower`
    """

    name: str
    figure: str
    better: Literal["higher", "lower"]

    def read(self, figures: Iterable[Figure], loss: float | None) -> float:
        """Raises NiwakiError where the trial has no such number, or none that is finite."""
        if self.figure:
            found = next((float(one.value) for one in figures if one.name == self.figure), None)
        else:
            found = loss
        if found is None:
            what = f"no judge gave '{self.figure}'" if self.figure else "this model has no held-out loss"
            raise NiwakiError(what)
        if not math.isfinite(found):
            raise NiwakiError(f"'{self.name}' is {found}, which is nothing to go by")
        return found

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Constraint:
    """A bound that a trial has to keep: `target` `sign` `bound`."""

    target: str
    sign: Literal[">=", "<="]
    bound: float

    def excess(self, value: float) -> float:
        """By how much the bound is missed; 0 or less where it is kept."""
        return self.bound - value if self.sign == ">=" else value - self.bound

    def __str__(self) -> str:
        return f"{self.target} {self.sign} {self.bound:g}"


def parse_constraint(text: str) -> Constraint:
    """`"diversity >= 0.8"`. Raises CallError for anything else."""
    found = re.fullmatch(r"\s*([\w@. -]+?)\s*(>=|<=)\s*([-+.\deE]+)\s*", text)
    try:
        if found:
            return Constraint(found[1], found[2], float(found[3]))  # type: ignore[arg-type]
    except ValueError:
        pass
    raise CallError(f"'{text}' is no constraint; write one such as 'diversity >= 0.8' or 'loss <= 2.5'")


def objectives_of(asked: Sequence[str], *, judged: bool) -> tuple[str, ...]:
    """The objectives of a study; where none is named, both axes, or the loss of what no judge knows."""
    return tuple(asked) or (tuple(USUAL) if judged else (LOSS,))


def wanted_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Which metrics of samples are needed for these names."""
    bare = [USUAL.get(name.partition("@")[0], name.partition("@")[0]) for name in names]
    known = measures()
    return tuple(dict.fromkeys(name for name in bare if name in known)) or tuple(USUAL.values())


def resolve(name: str, figures: Sequence[Figure]) -> Target:
    """The target that a name stands for, among the figures of a first look at the model.

    `fidelity` and `diversity` are the usual metric of that axis, else the first figure of it; `recall@random`
    names the extractor. Raises CallError with the nearest name where no judge has such a figure.
    """
    if name == LOSS:
        return Target(name, "", "lower")
    word, _, features = name.partition("@")
    for wanted in (USUAL.get(word, word), word):
        for figure in figures:
            if _is(figure, wanted, features):
                return Target(name, figure.name, _better(figure))
    if word in USUAL and not features:
        for figure in figures:
            if figure.axis == word:
                return Target(name, figure.name, _better(figure))
        raise CallError(f"no judge of this model says anything of its {word}; name other tune.objectives")
    known = sorted({LOSS, *USUAL, *(_slug(figure.name) for figure in figures)} | set(measures()))
    if word in known and not features:
        raise CallError(f"'{name}' is not measured of this model on these data; name other tune.objectives")
    raise CallError(f"there is no figure '{name}' to go by; {nearest(word, known)}")


def _better(figure: Figure) -> Literal["higher", "lower"]:
    return "higher" if figure.better == "higher" else "lower"


def _is(figure: Figure, word: str, features: str) -> bool:
    if _slug(figure.name) != word and _slug(figure.name, whole=True) != word:
        return False
    return not features or figure.name.endswith(f"({features})")


def _slug(name: str, *, whole: bool = False) -> str:
    """`bits per dimension (of a density)` → `bits_per_dimension`."""
    bare = name if whole else re.sub(r"\s*\([^)]*\)$", "", name)
    return re.sub(r"\W+", "_", bare.lower()).strip("_")
