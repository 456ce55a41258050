"""The shape of a recipe: one section per leg of the way, each the config of the room that does it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from niwaki.compression import CompressConfig
from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.data import DataConfig
from niwaki.evaluation import EvaluateConfig
from niwaki.features.encoders import encoder_names
from niwaki.models.io import is_external, not_sampled
from niwaki.recipe.checks import check_model, model_config
from niwaki.recipe.tuning import TuneConfig
from niwaki.tracking import TrackConfig
from niwaki.training import TrainConfig
from niwaki_runtime.choice import memory_bytes

__all__ = ["ExportConfig", "Recipe"]


class ExportConfig(BaseConfig):
    """How the bundle is made and how its figures are taken (`benchmarks/PROTOCOL.md`).

    engine:        the engine that the figures and the verdict are taken on; `auto` is the preferred one that
                   is installed and needs no more than `memory_limit`
    memory_limit:  bytes, or "32MB", that the bundle may take on its engine; with it `engine` is `auto` unless
                   it is named
    precision:     `fast` lets the engine choose its own arithmetic, `exact` asks for float32
    threads:       threads of the engine and of torch while measuring
    batches:       batch sizes whose latency is measured
    repeats:       timed calls per figure, fewer (five at least) where they last over a minute; the median
                   and the spread are kept
    memory:        take peak memory too, in fresh processes
    programs:      what the bundle can do; empty is `sample`, and whatever needs no further graph
    torch_compile: time the float model under torch.compile in bf16 as well (slow to compile)
    """

    engine: Literal["auto", "openvino", "onnxruntime"] = "openvino"
    memory_limit: int | str | None = Field(default=None, exclude_if=lambda value: value is None)
    precision: Literal["fast", "exact"] = "fast"
    threads: int = Field(default=2, ge=1)
    batches: tuple[int, ...] = (1, 16)
    repeats: int = Field(default=30, ge=1)
    memory: bool = True
    torch_compile: bool = False
    programs: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)

    @model_validator(mode="before")
    @classmethod
    def _follows_memory(cls, values: Any) -> Any:
        """A limit chooses the engine where none is named."""
        if isinstance(values, Mapping) and values.get("memory_limit") is not None:
            return {"engine": "auto", **values}
        return values

    @field_validator("memory_limit")
    @classmethod
    def _amount(cls, value: int | str | None) -> int | str | None:
        if value is not None:
            memory_bytes(value)
        return value

    @field_validator("batches")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1:
            raise ValueError("must be batch sizes of at least 1")
        return value


class Recipe(BaseConfig):
    """The whole way, checked.

    name:     of the run directory and the bundle; the recipe file's name where it is not given
    seed:     of the weights, the batches and the samples
    model:    `name` and the settings of that model, or of an encoder, which is trained and no more
    train:    None where the model is given and not trained here
    compress: None ends the way with the float model's bundle
    track:    what else shows the course of the run: `[tensorboard]`, `[{name: wandb, project: trees}]`
    tune:     how `niwaki tune` varies settings; nothing else looks at it
    """

    name: str = Field("model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    seed: int = Field(0, ge=0, lt=2**32)
    data: DataConfig
    model: dict[str, Any]
    train: TrainConfig | None = None
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    compress: CompressConfig | None = None
    export: ExportConfig = Field(default_factory=lambda: ExportConfig())
    track: tuple[TrackConfig, ...] = Field(default=(), exclude_if=lambda value: not value)
    tune: TuneConfig | None = Field(default=None, exclude_if=lambda value: value is None)

    @field_validator("track", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """A tracker without settings may be given by its name, a single one without a list."""
        each = value if isinstance(value, list | tuple) else [value]
        return [{"name": one} if isinstance(one, str) else one for one in each]

    @field_validator("track")
    @classmethod
    def _once(cls, value: tuple[TrackConfig, ...]) -> tuple[TrackConfig, ...]:
        names = [one.name for one in value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"names '{twice[0]}' twice; one run is shown in each tracker once")
        return value

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: dict[str, Any]) -> dict[str, Any]:
        """The model's settings with every default filled in. Raises CallError as the registry does."""
        rest = dict(value)
        name = rest.pop("name", None)
        if not isinstance(name, str):
            raise CallError("the recipe must set 'model.name' to a model's name; `niwaki models` lists them")
        if is_external(name):
            return {"name": name, **rest}  # another project's model: its own module checks it
        config = model_config(name, rest)
        check_model(config)
        return {"name": name, **config.model_dump(mode="json")}

    @model_validator(mode="after")
    def _trained_or_given(self) -> Recipe:
        if self.train is None and self.data.source != "memory" and "train" not in self.model_fields_set:
            raise CallError("the recipe has no 'train' section; add it, with steps, batch and lr")
        return self

    @model_validator(mode="after")
    def _encoders_end_there(self) -> Recipe:
        if self.encodes and self.compress is not None:
            raise CallError(f"{not_sampled(self.model['name'])}; take 'compress' out of the recipe")
        return self

    def to_yaml(self) -> str:
        """With every default written out; `load_recipe` of it gives the same recipe."""
        return yaml.safe_dump(jsonable(self), sort_keys=False, allow_unicode=True, width=100)

    def _repr_html_(self) -> str:
        said = f"{self.name}: {self.model['name']} on {self.data.source}"
        return f"<details><summary>{escape(said)}</summary><pre>{escape(self.to_yaml())}</pre></details>"

    @property
    def encodes(self) -> bool:
        """Whether the model is an encoder."""
        return self.model["name"] in encoder_names()

    @property
    def model_settings(self) -> dict[str, Any]:
        """The model's config without its name."""
        return {k: v for k, v in self.model.items() if k != "name"}
