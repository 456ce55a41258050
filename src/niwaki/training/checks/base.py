"""What a check is given, and what it says. A new one is a file in this folder that registers a class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from niwaki.core.contract import Trainable
from niwaki.core.registry import Registry
from niwaki.data import Split
from niwaki.data.audit import Finding, Level
from niwaki.training.config import TrainConfig

__all__ = ["CHECKS", "Check", "Looked", "Subject"]


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Subject:
    """A training that has not begun.

    make:     the model as it is before its first step, a new one with each call, always of the same weights
    split:    what it would learn from
    config:   how
    seed:     of all that is drawn
    progress: told (steps done, steps in all)
    """

    make: Callable[[], Trainable]
    split: Split
    config: TrainConfig
    seed: int = 0
    progress: Callable[[int, int], None] = _silent


@dataclass(frozen=True)
class Looked:
    """What a check found.

    figures:  plain JSON; `{}` where there was nothing to check
    findings: one at least: that all is well is a note
    """

    figures: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @classmethod
    def one(cls, level: Level, kind: str, text: str, items: tuple[str, ...] = (), **figures: Any) -> Looked:
        return cls(figures, (Finding(level, kind, text, items),))


class Check(ABC):
    """One look at a training.

    title: a word or two for what is under way
    usual: whether it is made unless checks are named
    """

    name: ClassVar[str]
    title: ClassVar[str]
    usual: ClassVar[bool] = True

    @abstractmethod
    def look(self, subject: Subject) -> Looked:
        """Raises CallError where model and config do not fit."""


CHECKS = Registry[Check]("check", ("niwaki.training.checks",))
