"""What a network is asked by: a label as a number, and whatever else as networks trained along encode it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Port,
    ValueSpec,
)
from niwaki.models.config import ModelConfig
from niwaki.nn.layers.images import labels_of

__all__ = ["LABEL", "NOTHING", "Asked", "label_columns", "paired_columns", "text_columns"]

NOTHING = 0  # of text, the token that means "nothing asked"
LABEL = "class"


def text_columns(spec: DataSpec) -> tuple[str, ...]:
    """Columns of tokens in a row that stand beside the samples."""
    return tuple(name for name in paired_columns(spec) if spec[name].shape)


def label_columns(spec: DataSpec) -> tuple[str, ...]:
    """The class, where there is one."""
    return tuple(name for name in paired_columns(spec) if name == LABEL)


def paired_columns(spec: DataSpec) -> tuple[str, ...]:
    """Columns of tokens that belong to the samples."""
    return tuple(name for name in spec if name != "x" and name not in spec.unpaired and spec[name].is_tokens)


class Asked(GenerativeModel):
    """A model that `set_conditions` tells what it is asked by, before its network is made.

    The share `conditioning.drop` of samples is trained with nothing asked, one coin per sample for all its
    conditions, so that the model can be guided.
    """

    config: ModelConfig
    words: nn.ModuleDict
    classes: int  # of the label that the network takes as a number, 0 for none
    guided: bool
    pictures: tuple[str, ...] = ()  # conditions that the network is given as they are, after all others

    def set_conditions(
        self,
        columns: Sequence[str],
        encoder: Callable[[ConditionSpec, int | None], nn.Module],
        *,
        numbers: bool,
        guidable: bool = True,
    ) -> None:
        """Set `conditions`, `words`, `classes` and `guided`.

        columns:  that are asked for, in their order, the class first where it is a number
        encoder:  what encodes a condition; its `shape` is that of what it says. It is told the token that
                  stands for nothing, of a text; None of a label
        numbers:  whether the network is told the class as a number
        guidable: whether its sampler can be led
        Raises CallError for guidance of a model that is asked nothing, or always.
        """
        c, spec = self.config, self.spec
        asked = tuple(sorted(columns, key=lambda name: name != LABEL)) if numbers else tuple(columns)
        self.guided = bool(asked and c.conditioning.drop and guidable)
        if c.sampling.get("guidance", 1.0) != 1.0 and not (self.guided or self.has_guide()):
            raise CallError("guidance needs a caption or labels, and model.conditioning.drop above 0")
        self.conditions = {name: self._condition(spec, name) for name in asked}
        self.classes = spec.classes if numbers and LABEL in asked else 0
        self.words = nn.ModuleDict(
            {
                name: encoder(asked, NOTHING if asked.shape else None)
                for name, asked in self.conditions.items()
                if not (self.classes and name == LABEL)
            }
        )

    def has_guide(self) -> bool:
        """Whether a network of its own guides it, which needs nothing that was not asked."""
        return False

    def _condition(self, spec: DataSpec, name: str) -> ConditionSpec:
        value = spec[name]
        null = (NOTHING if value.shape else value.levels) if self.guided else None
        return ConditionSpec(value, null)

    def ask_for_picture(self, name: str, value: ValueSpec) -> None:
        """One more condition, which has no null value: the network is given it as it is."""
        self.conditions = {**self.conditions, name: ConditionSpec(value)}
        self.pictures = (*self.pictures, name)

    @property
    def numbers(self) -> int:
        """Numbers of the class that the network knows: one more where it may be nothing."""
        return self.classes + int(self.guided) if self.classes else 0

    def encoded_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the conditions that are encoded, per sample."""
        return tuple(self._encoded(name) for name in self.words)

    def _encoded(self, name: str) -> tuple[int, ...]:
        shape: Any = self.words[name].shape
        return tuple(shape)

    def check_asked(self, batch: Batch) -> None:
        """Raises CallError where the batch lacks what samples are asked by."""
        labels_of(batch, self.classes, self.name)
        for name in self.words:
            _ = batch[name]

    def asked(self, batch: Batch, ctx: Context) -> list[Tensor]:
        """The conditions as the network is given them in training, in their order."""
        number = labels_of(batch, self.classes, self.name)
        given = {} if number is None else {LABEL: number}
        given |= {name: batch[name] for name in self.words}
        if self.guided:
            coins = torch.rand((len(batch),), generator=ctx.rng, device=batch.x.device)
            empty = coins < self.config.conditioning.drop
            given = {name: self._dropped(name, value, empty) for name, value in given.items()}
        encoded = [self.words[name](v) if name in self.words else v for name, v in given.items()]
        return [*encoded, *(batch[name] for name in self.pictures)]

    def _dropped(self, name: str, value: Tensor, empty: Tensor) -> Tensor:
        null = torch.full_like(value, int(self.conditions[name].null or 0))
        return torch.where(empty.reshape(-1, *(1,) * (value.ndim - 1)), null, value)

    def condition_ports(self) -> list[Port]:
        """The network's inputs for the conditions, in their order."""
        numbers = [Port(LABEL, (1,), "int64", high=self.numbers)] if self.classes else []
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
        """Fields of a sampler that say what it is asked by."""
        return {
            "conditions": tuple(self.conditions),
            "null": {k: int(spec.null) for k, spec in self.conditions.items() if spec.null is not None},
            "encoders": {name: f"words_{name}" for name in self.words},
        }
