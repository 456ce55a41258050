"""What a denoiser is asked by: a label as a number, and whatever else as networks trained along encode it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, ConditionSpec, Context, DataSpec, Graph, Port, ValueSpec
from niwaki.models.diffusion.denoising import Denoising
from niwaki.models.diffusion.networks import Task, network_kind, network_settings
from niwaki.nn.diffusion import columns
from niwaki.nn.layers.images import labels_of

__all__ = ["AskedDenoiser", "label_columns", "text_columns"]

_NOTHING = 0  # of text, the token that means "nothing asked"
_LABEL = "class"


def text_columns(spec: DataSpec) -> tuple[str, ...]:
    """Columns of tokens in a row that stand beside the samples."""
    return tuple(name for name in _paired(spec) if spec[name].shape)


def label_columns(spec: DataSpec) -> tuple[str, ...]:
    """The class, where there is one."""
    return tuple(name for name in _paired(spec) if name == _LABEL)


def _paired(spec: DataSpec) -> tuple[str, ...]:
    return tuple(name for name in spec if name != "x" and name not in spec.unpaired and spec[name].is_tokens)


class AskedDenoiser(Denoising):
    """A denoiser that `prepare_conditions` tells what it is asked by, before its network is made.

    The share `conditioning.drop` of samples is trained with nothing asked, one coin per sample for all its
    conditions, so that the model can be guided.
    """

    words: nn.ModuleDict
    classes: int  # of the label that the network takes as a number, 0 for none
    guided: bool
    pictures: tuple[str, ...] = ()  # conditions that the network is given as they are, after all others

    def prepare_conditions(self, usual: Sequence[str], *, numbers: bool) -> None:
        """Set `conditions`, `words`, `classes` and `guided`.

        usual:   columns that are asked for unless the config names others
        numbers: whether the network is told the class as a number, then its first condition
        Raises CallError for guidance of a model that is asked nothing, or always.
        """
        c, spec = self.config, self.spec
        named = c.conditioning.columns
        asked = tuple(usual) if named is None else tuple(name for name in named if name in _paired(spec))
        asked = tuple(sorted(asked, key=lambda name: name != _LABEL)) if numbers else asked
        self.guided = bool(asked and c.conditioning.drop)
        if c.sampling.get("guidance", 1.0) != 1.0 and not self.guided:
            raise CallError("guidance needs a caption or labels, and model.conditioning.drop above 0")
        self.conditions = {name: self._condition(spec, name) for name in asked}
        self.classes = spec.classes if numbers and _LABEL in asked else 0
        kind, settings = network_kind(c), network_settings(c)
        self.words = nn.ModuleDict(
            {
                name: kind.encoder(c, settings, asked, _NOTHING if asked.shape else None)
                for name, asked in self.conditions.items()
                if not (self.classes and name == _LABEL)
            }
        )

    def _condition(self, spec: DataSpec, name: str) -> ConditionSpec:
        value = spec[name]
        null = (_NOTHING if value.shape else value.levels) if self.guided else None
        return ConditionSpec(value, null)

    def ask_for_picture(self, name: str, value: ValueSpec) -> None:
        """One more condition, which has no null value: the network is given it as it is."""
        self.conditions = {**self.conditions, name: ConditionSpec(value)}
        self.pictures = (*self.pictures, name)

    def task(self, channels: int, height: int, width: int) -> Task:
        """What the network is to do, of what is noised of that size."""
        encoded = tuple(self._encoded(name) for name in self.words)
        more = {"estimate": self.config.self_conditioning, "variance": self.config.learns_variance}
        return Task(channels, height, width, self.classes, self.guided, encoded, **more)

    def _encoded(self, name: str) -> tuple[int, ...]:
        shape: Any = self.words[name].shape
        return tuple(shape)

    def trained_parts(self) -> tuple[str, ...]:
        return ("denoiser", "words") if len(self.words) else ("denoiser",)

    def asked(self, batch: Batch, ctx: Context) -> list[Tensor]:
        number = labels_of(batch, self.classes, self.name)
        given = {} if number is None else {_LABEL: number}
        given |= {name: batch[name] for name in self.words}
        if self.guided:
            coins = torch.rand((len(batch),), generator=ctx.rng, device=batch.x.device)
            empty = coins < self.config.conditioning.drop
            given = {name: self._dropped(name, value, empty) for name, value in given.items()}
        encoded = [self.words[name](v) if name in self.words else v for name, v in given.items()]
        return [*encoded, *(batch[name] for name in self.pictures)]

    def _dropped(self, name: str, value: Tensor, empty: Tensor) -> Tensor:
        null = torch.full_like(value, int(self.conditions[name].null or 0))
        return torch.where(columns(empty, value), null, value)

    def condition_ports(self) -> list[Port]:
        """The denoiser's inputs after x and t, in the order of the conditions."""
        numbers = [Port(_LABEL, (1,), "int64", high=self.classes + int(self.guided))] if self.classes else []
        encoded = (Port(name, (1, *self._encoded(name))) for name in self.words)
        pictures = (Port(name, (1, *self.conditions[name].shape)) for name in self.pictures)
        return [*numbers, *encoded, *pictures]

    def word_graphs(self) -> dict[str, Graph]:
        """The encoders, by their names in samplers."""
        return {f"words_{name}": self._words_graph(name) for name in self.words}

    def _words_graph(self, name: str) -> Graph:
        asked = self.conditions[name]
        size = asked.size + int(asked.null == asked.size)  # of labels, "nothing asked" is one more
        return Graph("words", self.words[name], (Port(name, (1, *asked.shape), "int64", high=size),))

    def asking(self) -> dict[str, Any]:
        """Fields of the sampler `Diffusion` that say what it is asked by."""
        return {
            "conditions": tuple(self.conditions),
            "null": {k: int(spec.null) for k, spec in self.conditions.items() if spec.null is not None},
            "encoders": {name: f"words_{name}" for name in self.words},
        }
