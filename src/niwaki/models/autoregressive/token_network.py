"""What networks over token sequences share: embeddings and labels, the stream that layers read and add to,
logits, and which labels a batch asks by."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Phase,
    Port,
)
from niwaki.models.registry import ModelConfig
from niwaki.nn.layers.dropout import Dropout

__all__ = ["TokenNetwork", "TokenNetworkConfig"]

_INITIAL = 0.02  # standard deviation of fresh weights (Radford et al. 2019)


class TokenNetworkConfig(ModelConfig):
    """
    width:   of the stream that layers read and add to
    dropout: of the embeddings and of what layers add
    tied:    one matrix for the embeddings and the logits (Press & Wolf 2017)
    """

    width: int = Field(256, ge=2)
    dropout: float = Field(0.1, ge=0, lt=1)
    tied: bool = True


class TokenNetwork(GenerativeModel):
    """A stream of embeddings, layers, logits, over sequences of one length.

    There is one token more than sequences hold, number n: it stands where none is known. Labels (classes) are
    added to every embedding. A subclass makes its layers between `begin` and `finish`. Where samples are no
    tokens themselves, it says what tokens they have (`vocabulary`, `tokens_of`).

    config:   TokenNetworkConfig
    spec:     tokens `(T,)`
    begun_by: columns whose values are the beginnings of samples
    """

    begun_by: ClassVar[tuple[str, ...]] = ()
    example_spec: ClassVar[DataSpec] = DataSpec.of("text", (64,))
    config: TokenNetworkConfig
    norm: nn.Module

    def begin(self, config: TokenNetworkConfig, spec: DataSpec) -> None:
        """Embeddings and labels. Raises CallError for data that `vocabulary` refuses."""
        self.config, self.spec = config, spec
        self.length, self.tokens = self.vocabulary(spec)
        asked = config.conditioning
        columns = None if asked.columns is None else tuple(c for c in asked.columns if c not in self.begun_by)
        self.label_conditions = _label_conditions(spec, columns, asked.drop > 0, self.name)
        self.conditions = self.label_conditions
        self.embed = nn.Embedding(self.tokens + 1, config.width)
        self.labels = nn.ModuleList(
            nn.Embedding(c.size + (c.null is not None), config.width) for c in self.label_conditions.values()
        )
        self.drop = Dropout(config.dropout)

    def vocabulary(self, spec: DataSpec) -> tuple[int, int]:
        """Tokens of one sample, and how many different ones there are. Raises CallError for data that are no
        sequences of tokens."""
        if spec.axes != "T" or not spec.is_tokens:
            raise CallError(
                f"'{self.name}' makes sequences of tokens (T); this data set holds {spec.modality} of shape "
                f"{spec.shape}"
            )
        return spec.shape[0], spec.levels

    def tokens_of(self, x: Tensor) -> Tensor:
        """Samples `(n, *shape)` → their tokens `(n, T)` int64."""
        return x

    def finish(self, depth: int, added: tuple[str, ...], inputs: int | None = None) -> None:
        """The logits' matrix, and fresh weights; those of layers whose names end in `added` are smaller,
        since 2·depth of them add up in the stream. inputs: of the logits, where it is not `width`"""
        self.head = nn.Linear(inputs or self.config.width, self.tokens + 1, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_INITIAL)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            if name.endswith(added):
                nn.init.normal_(weight, std=_INITIAL / math.sqrt(2 * depth))
        if self.config.tied:
            self.head.weight = self.embed.weight

    @torch.no_grad()
    def fitted(self, name: str, stored: Tensor) -> Tensor | None:
        """Weights of a network with fewer tokens, whose own come first here too: a new token begins as the
        mean of those (Hewitt 2021, "Initializing new word embeddings for pretrained language models")."""
        if name not in ("embed.weight", "head.weight") or stored.shape[1] != self.config.width:
            return None
        known, missing = stored[:-1], self.tokens + 1 - len(stored)
        if missing < 0:
            return None
        return torch.cat([known, known.mean(0, keepdim=True).expand(missing, -1), stored[-1:]])

    @property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """Names of the parts between embeddings and logits."""

    def phases(self) -> tuple[Phase, ...]:
        labels = ("labels",) if self.label_conditions else ()
        head = () if self.config.tied else ("head",)
        return (Phase("nll", ("embed", *labels, *self.layers, *head)),)

    def _enter(self, tokens: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        """Tokens `(n, t)` and labels `(n,)` → the stream `(n, t, width)`."""
        x: Tensor = self.embed(tokens)
        for embedding, label in zip(self.labels, labels, strict=True):
            x = x + embedding(label).unsqueeze(1)
        return x

    def _leave(self, x: Tensor) -> Tensor:
        """The stream → logits `(n, t, tokens)`; that of the token that is never made is cut off."""
        logits: Tensor = self.head(self.norm(x))
        return logits[..., : self.tokens]

    def _asked(self, batch: Batch, ctx: Context) -> tuple[Tensor, ...]:
        """The batch's labels; a share of the samples loses all of theirs. Raises CallError without labels."""
        missing = [name for name in self.label_conditions if name not in batch]
        if missing:
            raise CallError(
                f"'{self.name}' is conditional, and the batch has no labels '{missing[0]}'; "
                "set conditioning: {columns: []} for this data"
            )
        found = tuple(batch[name] for name in self.label_conditions)
        drop = self.config.conditioning.drop
        if not found or not drop:
            return found
        coin = torch.rand(len(batch), generator=ctx.rng, device=batch.x.device) < drop
        sizes = [c.size for c in self.label_conditions.values()]
        return tuple(torch.where(coin, size, label) for size, label in zip(sizes, found, strict=True))

    def _label_ports(self) -> tuple[Port, ...]:
        return tuple(
            Port(name, (1,), "int64", high=c.size + (c.null is not None))
            for name, c in self.label_conditions.items()
        )


def _label_conditions(
    spec: DataSpec, columns: tuple[str, ...] | None, droppable: bool, model: str
) -> dict[str, ConditionSpec]:
    """The labels that samples can be asked by: those of `columns`, or all that the data have.

    Raises CallError for a column that is no label.
    """
    labels = [name for name, value in spec.columns.items() if value.is_tokens and value.shape == ()]
    for name in columns or ():
        if not (spec[name].is_tokens and spec[name].shape == ()):
            raise CallError(f"'{model}' can be asked by labels; '{name}' is {spec[name].modality}")
    wanted = labels if columns is None else columns
    return {name: ConditionSpec(spec[name], spec[name].levels if droppable else None) for name in wanted}
