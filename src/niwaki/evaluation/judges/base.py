"""What a judge is: evidence from a runner, what it says of one model, and a verdict on two."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from niwaki.core.contract import Runner
from niwaki.data import Dataset
from niwaki.evaluation.equivalence.verdict import Verdict
from niwaki.evaluation.measures import DEFAULT

__all__ = ["Blocks", "Evidence", "Figure", "Judge", "Margins", "Section", "Tools", "Verdicts"]


@dataclass
class Tools:
    """What judges work with; heavy things are made when they are first asked for.

    make_extractors: the networks that look at samples, in the recipe's order
    metrics:         names of the metrics of samples
    cache:           where costly intermediate results are kept; None keeps nothing
    on_progress:     called with (done, total)
    fitness:         by data set, which of the extractors are fit for it, as far as it was tried
    announce:        called with (name, steps, about how many seconds) before a network is trained
    axes_alone:      whether only what verdicts are tested on is wanted, and no figures beside it
    """

    make_extractors: Callable[[], Sequence[Any]]
    metrics: Sequence[str] = DEFAULT
    cache: Path | None = None
    on_progress: Callable[[int, int], None] = lambda done, total: None
    fitness: dict[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    announce: Callable[[str, int, float], None] = lambda name, steps, seconds: None
    axes_alone: bool = False

    @cached_property
    def extractors(self) -> Sequence[Any]:
        return self.make_extractors()


@dataclass(frozen=True)
class Evidence:
    """What a model did when a judge asked it: kept, so that the model need not be asked again.

    judge:  the judge's name
    split:  the rows that it was asked about
    arrays: by name, one row per item (sample, window, sequence …)
    facts:  plain JSON beside them: engine, units, bytes per token …
    """

    judge: str
    split: str
    n: int
    seed: int
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """One number with what a reader must know of it.

    name:      in words, with its unit
    value:     the number
    interval:  95 %, or None
    axis:      `fidelity`, `diversity`, `both` or `memory`
    better:    `higher` or `lower`
    reference: the same number of something known (a baseline, real data), or None; `reference_name` says what
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    axis: str = "fidelity"
    better: str = "lower"
    reference: float | None = None
    reference_name: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "interval": None if self.interval is None else list(self.interval)}


@dataclass(frozen=True)
class Section:
    """What a judge says of one model.

    figures: the numbers, the most telling first
    details: plain JSON for the report (per class, worst items, curves …)
    notes:   sentences that a reader should see
    arrays:  what belongs to single items (the nearest training samples), to be kept beside the evidence
    """

    judge: str
    title: str
    figures: tuple[Figure, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    signature: str = ""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        record = {key: value for key, value in vars(self).items() if key != "arrays"}
        return {**record, "figures": [f.to_json() for f in self.figures], "notes": list(self.notes)}


@dataclass(frozen=True)
class Margins:
    """By axis, the largest loss that counts as none, measured on planted damage before anything is compared.

    key:    of what they were measured on; margins of another key are measured anew
    axes:   what `compare` needs of each axis, plain JSON
    """

    judge: str
    key: str
    axes: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"judge": self.judge, "key": self.key, "axes": dict(self.axes)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Margins:
        return cls(str(record["judge"]), str(record["key"]), dict(record["axes"]))


@dataclass(frozen=True)
class Verdicts:
    """What a judge says of a model after, against the same model before.

    axes:    `fidelity` and `diversity`: each a verdict, or absent where the judge has no say on it
    details: plain JSON for the report
    arrays:  what belongs to single items (damage of each pair), to be kept beside the evidence
    """

    judge: str
    n: int
    axes: Mapping[str, Verdict]
    details: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        axes = {axis: {**verdict.to_json(), "judge": self.judge} for axis, verdict in self.axes.items()}
        return {"judge": self.judge, "n": self.n, "axes": axes, "details": dict(self.details)}


class Blocks(Protocol):
    """A model after, asked for some items at a time."""

    @property
    def drawn(self) -> int:
        """Items until now."""

    def draw(self, many: int) -> None:
        """Ask for so many more."""

    def evidence(self) -> Evidence:
        """Of all that was asked for until now."""

    def values(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(fidelity, diversity) that each block has lost `(k,)`, in margins; None where they are too few."""


class Judge(ABC):
    """One way to judge models. A new one is one file with `@register_judge`.

    rank:       among judges that apply, the one of the lowest rank speaks first (in headlines and tables)
    calibrates: the split on which margins are measured
    """

    name: ClassVar[str]
    title: ClassVar[str]
    rank: ClassVar[int] = 50
    calibrates: ClassVar[str] = "validation"

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    @classmethod
    @abstractmethod
    def applies(cls, runner: Runner, dataset: Dataset) -> bool:
        """Whether this runner and these data give it something to judge."""

    @classmethod
    def may_say(cls, word: str) -> bool:
        """Whether a figure of this name (`bits_per_dimension`: lower case, no brackets) may be among those of
        `evaluate`, told without any work. True of judges that only `evaluate` can tell of; those that train
        something or make many samples first should know."""
        return True

    @abstractmethod
    def evidence(self, runner: Runner, dataset: Dataset, split: str, n: int, seed: int) -> Evidence:
        """Ask the runner, about at most n rows of a split."""

    def fewest(self, dataset: Dataset) -> int:
        """Items that a choice between models should rest on at least: with fewer, diversity mostly has no
        margin (`niwaki.evaluation.equivalence.margins`)."""
        return 400

    def samples_made(self, n: int) -> int:
        """How many samples a runner makes for the evidence on n items, about: what it takes most time for."""
        return 0

    @abstractmethod
    def evaluate(self, evidence: Evidence, dataset: Dataset) -> Section:
        """What the evidence says of one model."""

    @abstractmethod
    def margins(self, evidence: Evidence, dataset: Dataset, n: int) -> Margins:
        """Largest losses that count as none, from the evidence of the model before on the split
        `calibrates`, for verdicts on n items."""

    def margins_key(self, evidence: Evidence, dataset: Dataset) -> str:
        """Of what margins for verdicts on this evidence are measured on: margins of another key do not hold.
        Empty where margins are always measured anew."""
        return ""

    def in_blocks(
        self, runner: Runner, before: Evidence, margins: Margins, dataset: Dataset
    ) -> Blocks | None:
        """For a model after that is asked for few items first, and for more where they do not tell enough.
        None where this judge needs them all."""
        return None

    @abstractmethod
    def compare(self, before: Evidence, after: Evidence, margins: Margins, dataset: Dataset) -> Verdicts:
        """Verdicts on what was lost between two models that were asked the same."""
