"""The `data:` section of a recipe, and the register of sources that it chooses from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import CallError, DataSpec
from niwaki.core.registry import import_modules, unknown
from niwaki.core.sentences import sentence
from niwaki.data.audit import Finding
from niwaki.data.columns import Column
from niwaki.data.dataset import Split
from niwaki.data.remedies import Remedies

__all__ = ["DataConfig", "Options", "Pool", "Progress", "register", "registered", "source_names"]

Progress = Callable[[int, int], None]


class Options(BaseConfig):
    """Base of the settings that one source understands beyond the common ones."""


class Pool:
    """What a source hands over: all samples, not yet divided.

    spec:       of the columns that `x` and `y` fill: the samples, and their classes where `y` is given
    x:          `(n, *shape)` integers for levels and tokens, float32 for amounts
    y:          classes `(n,)` int64
    columns:    further columns by name; paired ones have n rows
    assignment: `(n,)` numbers of the splits (0 train, 1 validation, 2 test, 3 … the `extra` ones), where the
                source knows better than the hash of a sample; None lets the hash decide
    unpaired:   the same of every unpaired column, by name
    item_names: name of each sample in findings; default: its number
    files:      what models of these data ship with (`tokenizer.json`)
    """

    def __init__(
        self,
        name: str,
        spec: DataSpec,
        x: Tensor,
        y: Tensor | None = None,
        *,
        columns: Mapping[str, Column] | None = None,
        attributes: Mapping[str, Tensor] | None = None,
        attribute_names: Mapping[str, tuple[str, ...]] | None = None,
        assignment: np.ndarray | None = None,
        unpaired: Mapping[str, np.ndarray] | None = None,
        extra: tuple[str, ...] = (),
        item_names: list[str] | None = None,
        findings: list[Finding] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.columns = {**Split.of(spec, x, y).columns, **(columns or {})}
        self.attributes, self.attribute_names = dict(attributes or {}), dict(attribute_names or {})
        self.assignment, self.unpaired, self.extra = assignment, dict(unpaired or {}), extra
        self.item_names, self.findings = item_names, list(findings or [])
        self.files = dict(files or {})

    @property
    def x(self) -> Tensor:
        return self.columns["x"].data

    @property
    def y(self) -> Tensor | None:
        return self.columns["class"].data if "class" in self.columns else None

    @property
    def spec(self) -> DataSpec:
        return Split(self.columns).spec

    def item(self, i: int) -> str:
        return self.item_names[i] if self.item_names else f"sample {i}"


@dataclass(frozen=True)
class _Source:
    read: Callable[[DataConfig, Any, Progress | None], Pool]
    options: type[Options]


Reader = TypeVar("Reader", bound=Callable[..., Pool])

_SOURCES: dict[str, _Source] = {}


def register(name: str, options: type[Options] = Options) -> Callable[[Reader], Reader]:
    """Decorator of a function `(config, options, progress) → Pool` that reads a source."""

    def enter(read: Reader) -> Reader:
        _SOURCES[name] = _Source(read, options)
        return read

    return enter


def source_names() -> list[str]:
    """All registered sources, the built-in ones loaded."""
    import_modules("niwaki.data.sources")
    return sorted(_SOURCES)


def registered(name: str) -> _Source:
    """Raises CallError with the nearest name where there is no such source."""
    known = source_names()
    if name not in known:
        raise unknown("data source", name, known)
    return _SOURCES[name]


class DataConfig(BaseConfig):
    """Which data, and how they are divided. Settings beyond these are the source's own (`options()`).

    source:    `digits`, `glyphs`, `patches`, `folder`, `arrays`, or one registered elsewhere
    path:      of the files (`folder`, `arrays`)
    size:      height and width in pixels, where the source can choose it
    labels:    true demands class labels, false leaves them out, None takes them where they are
    columns:   names that the model knows columns by, and the data's own: `{condition: caption}`
    derive:    columns that are computed from the samples, by name (`edges`), and are called so
    remedies:  what is done about findings of the audit: `{impute: median, duplicates: remove}`
    additions: `.npz` files with samples that came later (`niwaki watch` writes them): `x` as a model sees
               them, other columns by their names
    unseen_classes: those (numbers or names) that only a split of their own holds, `ood`: oddities to find
    seed:      of the division and of all that a source draws
    fractions: shares of train, validation and test

    Raises CallError for an unknown source, a setting that the source does not have, or a wrong value.
    """

    model_config = ConfigDict(extra="allow")

    source: str
    path: str | None = None
    size: int | None = Field(default=None, ge=4, le=1024)
    labels: bool | None = None
    columns: dict[str, str] = Field({})
    derive: tuple[str, ...] = Field((), exclude_if=lambda value: not value)
    remedies: Remedies | None = Field(None, exclude_if=lambda value: value is None)
    additions: tuple[str, ...] = Field((), exclude_if=lambda value: not value)
    unseen_classes: tuple[int | str, ...] = ()
    seed: int = Field(default=0, ge=0)
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Check the source's own settings and write their defaults out, so that a dumped config says all."""
        if not isinstance(values, Mapping) or not isinstance(values.get("source"), str):
            return values  # pydantic says what is wrong with it
        common = set(cls.model_fields) - {"path", "size"}
        given = {
            k: v for k, v in values.items() if k not in common and not (k in ("path", "size") and v is None)
        }
        options = _options(values["source"], given, common)
        return {**{k: v for k, v in values.items() if k in common}, **options.model_dump()}

    @model_validator(mode="after")
    def _divides(self) -> DataConfig:
        if min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise CallError(
                f"data.fractions must be three positive shares that add up to 1, not {self.fractions}"
            )
        return self

    def options(self) -> Any:
        """The source's own settings."""
        own = {"path": self.path, "size": self.size, **(self.model_extra or {})}
        return _options(self.source, {k: v for k, v in own.items() if v is not None}, ())


def _options(name: str, given: Mapping[str, Any], common: Iterable[str]) -> Options:
    """The settings of the source `name`. Raises CallError in one sentence; common: further valid keys."""
    source = registered(name)
    try:
        return source.options.model_validate(given)
    except ValidationError as error:
        told = f"the data source '{name}'"
        raise CallError(sentence(error, source.options, told, "data", common)) from None
