"""What a tracker is, and which there are.

The run directory is the truth: a tracker only shows what is written there. It never needs a network, and one
that fails stops no training.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import field_validator

from niwaki.core.base_config import BaseConfig
from niwaki.core.errors import CallError
from niwaki.core.registry import Registry

__all__ = ["About", "TrackConfig", "Tracker", "open_tracker", "tracker", "tracker_names"]

Kind = TypeVar("Kind")


class TrackConfig(BaseConfig):
    """One tracker of a run.

    name:    `tensorboard`, `mlflow`, `wandb`, `trackio`
    project: what the tracker files the run under, where it has such a thing
    """

    name: str
    project: str = "niwaki"

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        _TRACKERS[value]  # raises CallError with the nearest name
        return value


@dataclass(frozen=True)
class About:
    """What a tracker is told of a run when it opens it.

    name:     of the run
    project:  what it is filed under
    identity: the same for all that belongs to one training, also after it was resumed; another one after
              the training was begun anew
    settings: the recipe, plain JSON
    folder:   where the tracker keeps its files, its own and inside the run directory
    """

    name: str
    project: str
    identity: str
    settings: Mapping[str, Any]
    folder: Path


class Tracker(ABC):
    """Where the course of a run is shown. Opened anew for every stage that works; what is there is gone on
    with.

    needs: the module that it stands on
    extra: what to install for it
    """

    name: ClassVar[str]
    needs: ClassVar[str]
    extra: ClassVar[str]

    @abstractmethod
    def __init__(self, about: About) -> None:
        """Open the run, or go on with it."""

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers at a training step; steps never fall."""

    @abstractmethod
    def picture(self, name: str, step: int, png: bytes) -> None:
        """A picture at a training step, as a PNG file's bytes."""

    @abstractmethod
    def text(self, name: str, step: int, text: str) -> None:
        """A text at a training step."""

    @abstractmethod
    def summary(self, values: Mapping[str, float | str]) -> None:
        """What a stage has found: numbers and words that belong to no step."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left; after it nothing else is called."""


_TRACKERS: Registry[Tracker] = Registry("tracker", ["niwaki.tracking"])


def tracker(name: str) -> Callable[[Kind], Kind]:
    """Class decorator: `track: [name]` in a recipe opens this class."""
    return _TRACKERS.register(name)


def tracker_names() -> list[str]:
    """All there are, installed or not."""
    return _TRACKERS.names()


def check_installed(config: TrackConfig) -> None:
    """Raises CallError where what the tracker stands on is not installed."""
    kind = _TRACKERS[config.name]
    if importlib.util.find_spec(kind.needs) is None:
        raise CallError(
            f"track: '{config.name}' needs the package '{kind.needs}'; install it by "
            f"pip install 'niwaki[{kind.extra}]', or leave it out"
        )


def open_tracker(config: TrackConfig, about: About) -> Tracker:
    """Raises CallError where what it stands on is not installed, and whatever the tracker raises."""
    check_installed(config)
    return _TRACKERS[config.name](about)
