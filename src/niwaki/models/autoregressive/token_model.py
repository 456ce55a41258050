"""What causal models of token sequences share: the token before the first, cross-entropy, exact `log_prob`,
prompts, and sampling token by token with state."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import (
    Batch,
    ConditionSpec,
    Context,
    DataSpec,
    Graph,
    Phase,
    Port,
    Program,
    Real,
    State,
    Tokens,
    ValueSpec,
    View,
)
from niwaki.models.autoregressive.token_network import TokenNetwork, TokenNetworkConfig
from niwaki.models.whole_split import read_split
from niwaki.nn.layers.match_model import MatchModel
from niwaki.nn.layers.ngram_memory import MemoryConfig, NgramMemory, Own
from niwaki.nn.unrolled import Onward, Reading, drawn, unrolled_graph
from niwaki_runtime.programs import BITS, CODEC
from niwaki_runtime.samplers import Autoregressive, DirectCoding, OneShot, Sampler

__all__ = ["ANSWERS", "PROMPT", "TokenModel", "TokenModelConfig"]

PROMPT, ANSWERS = "prompt", "answers"
"""Columns of data whose samples begin with what is given: that beginning, and which tokens of a sample are
answers to it."""


class TokenModelConfig(TokenNetworkConfig):
    """
    prompt: tokens of the longest prompt; None is all but one, 0 takes none
    unroll: tokens that are drawn in one call of the network, where temperature alone chooses; a small network
            is called at less cost so
    memory: what followed the last tokens in the training text is counted, and helps to say what follows
    matches: what followed the last tokens earlier in the same sequence helps too, wherever at most so many of
            them stood there; 0 looks for nothing
    """

    prompt: int | None = Field(None, ge=0)
    unroll: int = Field(1, ge=1, le=64, exclude_if=lambda value: value == 1)
    memory: MemoryConfig | None = Field(None, exclude_if=lambda value: value is None)
    matches: int = Field(0, ge=0, le=64, exclude_if=lambda value: value == 0)


class TokenModel(TokenNetwork):
    """p(x) = Π p(xᵢ | x₀ … xᵢ₋₁, labels) over sequences of one length.

    Before the first token stands one that no sequence holds. Data with a column `prompt` have samples that
    begin with one; of data with a column `answers` (0 or 1 for every token) only those tokens are learned.

    A subclass says how its layers read: `think` a whole sequence, `advance` one token, with the state of
    `carried`.

    config: TokenModelConfig
    spec:   tokens `(T,)`
    """

    begun_by = (PROMPT,)
    config: TokenModelConfig
    memory: NgramMemory | None
    matches: MatchModel | None

    def finish(self, depth: int, added: tuple[str, ...], inputs: int | None = None) -> None:
        super().finish(depth, added, inputs)
        asked, longest = self.config.memory, self.config.matches
        width = inputs or self.config.width
        self.memory = None if asked is None else NgramMemory(asked, self.tokens, width)
        self.matches = MatchModel(longest, self.tokens, width) if longest else None

    def phases(self) -> tuple[Phase, ...]:
        more = tuple(name for name in ("memory", "matches") if getattr(self, name) is not None)
        return tuple(replace(phase, parameters=(*phase.parameters, *more)) for phase in super().phases())

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """The memory reads the training split once."""
        if self.memory is None:
            return
        share = self.memory.remember(read_split(batches, lambda batch: self.tokens_of(batch.x)))
        text = f"the memory has room for {share:.1%} of what the contexts of the training split were read in"
        ctx.choose("memory", share, text)

    def begin(self, config: TokenNetworkConfig, spec: DataSpec) -> None:
        super().begin(config, spec)
        self.conditions = {**_beginning(spec, config), **self.label_conditions}

    @abstractmethod
    def think(self, h: Tensor) -> Tensor:
        """The stream `(n, T, width)` of a whole sequence; a place sees itself and those before it."""

    @abstractmethod
    def advance(self, h: Tensor, position: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The stream `(n, t, width)` of the tokens from `position` `(1,)` on, after those that `state`
        remembers → the same, and the state after them. Unless `strides` says otherwise, t is 1."""

    @abstractmethod
    def carried(self) -> tuple[State, ...]:
        """State of `advance`."""

    @property
    def strides(self) -> int:
        """Tokens that a prompt is read by at once; 1 where tokens beyond its end would stay in the state."""
        return 1

    @property
    def unroll(self) -> int:
        """Tokens that are drawn in one call."""
        return min(self.config.unroll, self.length)

    def logits(self, x: Tensor, *labels: Tensor, own: Own | None = None) -> Tensor:
        """Teacher forcing: tokens `(n, T)` → logits `(n, T, tokens)` of each given those before it.

        own: what the memory has counted of them, in training
        """
        fed = F.pad(x[:, :-1], (1, 0), value=self.tokens)
        stream = self.think(self.drop(self._enter(fed, labels)))
        logits = self._leave(stream)
        if self.memory is not None:
            logits = self.memory(logits, stream, self.memory.contexts(fed), own)
        if self.matches is not None and self.training:
            logits = self.matches.read(logits, stream, fed)
        elif self.matches is not None:
            logits = self.matches(logits, stream, fed, torch.arange(fed.shape[1], device=fed.device))
        return logits

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Cross-entropy of the next token, in nats per token: of all tokens, or of those that the column
        `answers` counts. Each sample is then as much as any other, so that micro-batches add up to the whole
        batch whatever they count."""
        tokens = self.tokens_of(batch.x)
        own = Own(tokens, batch.index) if self.training else None
        logits = self.logits(tokens, *self._asked(batch, ctx), own=own).float()
        counted = batch.get(ANSWERS)
        if counted is None:
            return {"nll": F.cross_entropy(logits.flatten(0, 1), tokens.flatten())}
        each = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
        return {"nll": ((each * counted).sum(1) / counted.sum(1).clamp(min=1.0)).mean()}

    def log_prob(self, x: Tensor, *labels: Tensor) -> Tensor:
        """log p of the tokens of samples, in nats `(n,)`. Exact: tokens have probabilities."""
        tokens = self.tokens_of(x)
        each = torch.log_softmax(self.logits(tokens, *labels).float(), dim=-1)
        return each.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).sum(1)

    exact_likelihoods = True

    def log_likelihoods(self, batch: Batch, ctx: Context) -> Tensor:
        """As `log_prob`, up to the token that ends a sample: what fills it up is not drawn."""
        tokens = self.tokens_of(batch.x)
        logits = self.logits(tokens, *(batch[name] for name in self.label_conditions)).float()
        each = -F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
        values = self.spec.x.values
        end = values.end if isinstance(values, Tokens) else None
        if end is not None:
            tail = (tokens == end).flip(1).cummin(1).values.flip(1)  # nothing but ends from here on
            each = each * ~F.pad(tail[:, :-1], (1, 0), value=False)
        return each.sum(1)

    def prefill(self, tokens: Tensor, position: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Tokens `(n, t)` from `position` on → their logits `(n, t, tokens)`, new state; rest: labels,
        state."""
        labels, state = rest[: len(self.label_conditions)], rest[len(self.label_conditions) :]
        if not self._remembers:
            x, *news = self.advance(self._enter(tokens, labels), position, state)
            return (self._leave(x), *news)
        x, *news = self.advance(self._enter(tokens, labels), position, state[:-1])
        logits, read = self._leave(x), state[-1]
        if self.memory is not None:
            context = self.memory.contexts(tokens, self.memory.before(read, position))
            logits = self.memory(logits, x, context)
        if self.matches is not None:
            places = position + torch.arange(tokens.shape[1], device=tokens.device)
            row = read.long().scatter(1, places.expand(tokens.shape[0], -1), tokens)
            logits = self.matches(logits, x, row, places)
        return (logits, *news, tokens.to(read.dtype))

    @property
    def _remembers(self) -> bool:
        """Whether the state holds the tokens that were read."""
        return self.memory is not None or self.matches is not None

    def decode(self, token: Tensor, position: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """One token `(n,)` at `position` → logits `(n, tokens)` of the next, new state."""
        logits, *news = self.prefill(token.unsqueeze(1), position, *rest)
        return (logits.squeeze(1), *news)

    def onward(self, labels: tuple[Tensor, ...], position: Tensor, state: tuple[Tensor, ...]) -> Reading:
        """Tokens one after another within one call, from `position` on."""

        def step(token: Tensor, at: Tensor, *held: Tensor) -> tuple[Tensor, ...]:
            return self.decode(token, at, *labels, *held)

        return Onward(step, position, state)

    def ahead(
        self, token: Tensor, position: Tensor, chances: Tensor, temperature: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        """One token `(n,)` at `position` → those after it `(n, unroll)`, by uniform numbers; new state; rest:
        labels, state."""
        labels, state = rest[: len(self.label_conditions)], rest[len(self.label_conditions) :]
        return drawn(self.onward(labels, position, state), token, chances, temperature)

    def graphs(self) -> dict[str, Graph]:
        labels = self._label_ports()
        held, stride = self.carried(), self.strides
        if self._remembers:
            held = (*held, State("tokens_read", "tokens_read_new", (1, self.length)))
        place = Port("position", (1,), "int64", batch_axis=None, high=self.length - stride + 1)
        # One more than there are tokens: the one before the first.
        token = Port("token", (1,), "int64", high=self.tokens + 1)
        x = Port("x", (1, *self.spec.shape), self.spec.x.dtype, high=self.tokens)
        found = {
            "decode": Graph("prior", View(self, "decode"), (token, place, *labels), ("logits",), held),
            "likelihood": Graph("likelihood", View(self, "log_prob"), (x, *labels), ("log_prob",)),
        }
        if stride > 1:
            tokens = Port("tokens", (1, stride), "int64", high=self.tokens + 1)
            ports = (tokens, place, *labels)
            found["prefill"] = Graph("prior", View(self, "prefill"), ports, ("logits",), held)
        if self.unroll > 1:
            found["ahead"] = unrolled_graph(found["decode"], View(self, "ahead"), self.unroll, self.length)
        return found

    def sampler(self) -> Sampler:
        return self._writing(PROMPT if PROMPT in self.conditions else "")

    def _writing(self, prompt: str) -> Autoregressive:
        """How samples are made; they end where the data's do."""
        values = self.spec.x.values
        end = values.end if isinstance(values, Tokens) else None
        made: Autoregressive = self._reading(prompt).override(
            **({} if end is None else {"stop": end}), **self.config.sampling
        )
        return made

    def _reading(self, prompt: str) -> Autoregressive:
        return Autoregressive(
            length=self.length,
            first=self.tokens,
            conditions=tuple(self.label_conditions),
            prompt=prompt,
            prefill="prefill" if self.strides > 1 else "",
            stride=self.strides,
            ahead="ahead" if self.unroll > 1 else "",
            unroll=self.unroll,
        )

    def programs(self) -> dict[str, Program]:
        """`sample`; `continue` begins with a prompt, filled up with −1; `log_prob` in nats; `codec`."""
        longest = self.length - 1 if self.config.prompt is None else min(self.config.prompt, self.length)
        found = super().programs()
        if longest:
            prompt = ConditionSpec(ValueSpec("text", (longest,), "T", self.spec.values), null=-1)
            asked = {**self.label_conditions, PROMPT: self.conditions.get(PROMPT, prompt)}
            found["continue"] = Program(self._writing(PROMPT), asked, self.spec.x)
        nats = ValueSpec("vector", (), "", Real(-math.inf, math.inf))
        read = OneShot(graph="likelihood", conditions=("x", *self.label_conditions))
        asked = {"x": ConditionSpec(self.spec.x), **self.label_conditions}
        found["log_prob"] = Program(read, asked, nats)
        found[CODEC] = Program(DirectCoding.of(self._reading("")), asked, BITS)
        return found


def _beginning(spec: DataSpec, config: TokenNetworkConfig) -> dict[str, ConditionSpec]:
    """The prompt that samples are asked by, where the data have one and the config does not leave it out."""
    if PROMPT not in spec.columns or not config.conditioning.wants(PROMPT):
        return {}
    value = spec[PROMPT]
    fits = value.axes == "T" and value.is_tokens and value.levels == spec.levels
    return {PROMPT: ConditionSpec(value, null=-1)} if fits and value.shape[0] <= spec.shape[0] else {}
