"""What a use is, and which there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ValidationError

from niwaki.core.base_config import BaseConfig
from niwaki.core.errors import CallError
from niwaki.core.registry import import_modules, unknown
from niwaki.core.sentences import sentence
from niwaki.data.dataset import Dataset
from niwaki.uses.outcome import Outcome
from niwaki_runtime.programs import Runner

__all__ = ["Call", "Outcome", "Use", "UseOptions", "find_use", "names_of_uses", "register_use"]

Kind = TypeVar("Kind", bound=type["Use"])


class UseOptions(BaseConfig):
    """Base of the settings of one use.

    files: names of those that name a file
    """

    files: ClassVar[tuple[str, ...]] = ()


@dataclass
class Call:
    """What a use is called with.

    runner:   a model or a bundle; None for a use that reads the bundle's file by itself
    path:     where it lies
    files:    what the user named
    words:    the same letter by letter, where it need not name a file: a path forgets 'a//b' and './'
    asked:    conditions by name, or a bare value for the only one
    seed:     of all that is drawn
    dataset:  gives the data that the subject answers to, where there are any
    progress: called with (samples done, samples in all)
    say:      called with the pieces of a text as they are made, where somebody reads along
    local:    whether words may name files of this machine: not so where they come from elsewhere
    """

    runner: Runner | None
    path: Path
    files: Sequence[Path] = ()
    words: Sequence[str] = ()
    asked: Any = None
    seed: int = 0
    dataset: Callable[[], Dataset | None] = lambda: None
    progress: Callable[[int, int], None] | None = None
    say: Callable[[str], None] | None = None
    local: bool = True

    @property
    def model(self) -> Runner:
        """The runner. Raises CallError where the subject holds samples only."""
        if self.runner is None:
            raise CallError(f"{self.path} holds samples; give a run, a model or a bundle")
        return self.runner


class Use(ABC):
    """One thing to do with a model. A subclass is registered by its name.

    Options: its settings, what each means in the docstring
    summary: what it does, in half a sentence
    example: words of a call after `niwaki use NAME`
    makes:   whether its samples are of the model's making, which their files then say
    edits:   whether files that it is given go into these
    opens:   whether it needs the model on an engine; else it is given the path alone
    """

    name: ClassVar[str]
    Options: ClassVar[type[UseOptions]] = UseOptions
    summary: ClassVar[str]
    example: ClassVar[str]
    makes: ClassVar[bool] = True
    edits: ClassVar[bool] = True
    opens: ClassVar[bool] = True

    @abstractmethod
    def apply(self, call: Call, options: Any) -> Outcome:
        """Do it. Raises CallError where the model cannot, or the call lacks something."""

    def options(self, given: Mapping[str, Any]) -> UseOptions:
        """The checked settings. Raises CallError in one sentence for a wrong name or value."""
        try:
            return self.Options.model_validate(dict(given))
        except ValidationError as error:
            raise CallError(sentence(error, self.Options, f"'{self.name}'")) from None


_USES: dict[str, Use] = {}


def register_use(name: str) -> Callable[[Kind], Kind]:
    """Class decorator: `niwaki use NAME` is this class's."""

    def enter(cls: Kind) -> Kind:
        cls.name = name
        _USES[name] = cls()
        return cls

    return enter


def names_of_uses() -> list[str]:
    """All registered uses, the built-in ones loaded."""
    import_modules("niwaki.uses")
    return sorted(_USES)


def find_use(name: str) -> Use:
    """Raises CallError with the nearest name where there is no such use."""
    known = names_of_uses()
    if name not in known:
        raise unknown("use", name, known)
    return _USES[name]
