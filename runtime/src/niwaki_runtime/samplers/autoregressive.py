"""Token after token, with the network's state carried along; a prompt in strides of many tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Array, Backend, Noise, Runner, Sampler, State, register
from niwaki_runtime.samplers.tokens import Choice, penalize

__all__ = ["Autoregressive", "carry", "teacher_forced"]

ABSENT = -1
"""What stands in a prompt where it has ended."""


@register
@dataclass(frozen=True)
class Autoregressive(Sampler):
    """logits, *state = graph(token, position, *conditions, *state), once per position.

    A state output of its input's shape replaces it; a shorter one holds the rows that are new, and is written
    into it at the position (`carry`): a cache is then neither copied nor computed again by the engine.

    length:      tokens to make, the prompt included
    first:       the token that stands before the first one
    graph:       name of the graph; its inputs are token `(n,)`, position `(1,)`, the conditions, then its
                 state
    conditions:  names of the conditions, in the order of the graph's inputs
    temperature, top_k, top_p, min_p: of the choice of a token (`tokens.Choice`); temperature 0 is greedy
    penalty:     of tokens that a sample holds already, its prompt included (`tokens.penalize`); 1 is none
    bias:        pairs (token, what is added to its logit); −1e9 forbids it
    prompt:      name of the condition that a sample begins with: `(n, P)`, after its end filled up with −1;
                 samples may have prompts of different lengths
    prefill:     name of the graph that reads `stride` tokens at once: tokens `(n, stride)`, position of the
                 first `(1,)`, the conditions, then the same state; its logits are `(n, stride, V)`
    stop:        the token after which a sample is over: the rest is filled with it; −1 never ends
    stops:       further tokens after which a sample is over, and which the rest is then filled with
    alone:       `first` stands only where a prompt is empty: other prompts begin with their own first token,
                 as with tokenizers that put nothing before a text
    """

    kind: ClassVar[str] = "autoregressive"
    length: int = 1
    first: int = 0
    graph: str = "decode"
    conditions: tuple[str, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    prompt: str = ""
    prefill: str = ""
    stride: int = 1
    stop: int = -1
    stops: tuple[int, ...] = ()
    alone: bool = False
    min_p: float = 0.0
    penalty: float = 1.0
    bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        _ = self._choice  # refuses settings that choose no token
        if not 0.0 < self.penalty < math.inf:
            raise CallError(f"the penalty of repetition must be positive, not {self.penalty}")
        if self.length < 1 or self.stride < 1:
            raise CallError(f"length and stride must be at least 1, not {self.length} and {self.stride}")

    def to_json(self) -> dict[str, Any]:
        """Without the fields that older runtimes do not know, where they change nothing."""
        unchanged = {"stops": (), "alone": False, "min_p": 0.0, "penalty": 1.0, "bias": ()}
        return {k: v for k, v in super().to_json().items() if k not in unchanged or v != unchanged[k]}

    @property
    def _choice(self) -> Choice:
        return Choice(self.temperature, self.top_k, self.top_p, self.min_p)

    def _logits(self, logits: np.ndarray, read: np.ndarray) -> np.ndarray:
        """Logits `(n, V)` after bias and penalty, given what each sample holds already `(n, t)`."""
        if self.bias:
            logits = np.array(logits, dtype=np.float64)
            for token, added in self.bias:
                if not 0 <= token < logits.shape[1]:
                    raise CallError(
                        f"there is no token {token} to give a bias: they are 0 … {logits.shape[1] - 1}"
                    )
                logits[:, token] += added
        if self.penalty != 1.0:
            logits = penalize(logits, read, self.penalty)
        return logits

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        graph, backend = graphs[self.graph], noise.backend
        asked = [conditions[name] for name in self.conditions]
        given = self._prompt(conditions, backend, noise.n)
        lengths = (given != ABSENT).sum(axis=1)
        led = ~(self.alone & (lengths > 0))  # samples before which `first` stands
        read = self._laid_out(given, led)  # what the network reads, and is to read
        ends = np.array([self.stop, *self.stops] if self.stop >= 0 else [], dtype=np.int64)
        state = [backend.asarray(s.zeros(noise.n)) for s in graph.state]
        logits, state, begun = self._read(graphs, read, asked, state, backend)
        done = np.zeros(noise.n, dtype=bool)
        # A network of one step takes a tenth of a millisecond: what stays the same is worked out once.
        choice, shifts = self._choice, [int(before) for before in np.unique(led)]
        known = (read != ABSENT).any(axis=0)
        for at in range(begun, read.shape[1]):
            if at > begun or logits is None:
                token = read[:, at - 1].copy()
                out = graph(backend.asarray(token), _at(at - 1, backend), *asked, *state)
                fresh, *news = out if isinstance(out, tuple) else (out,)
                state = carry(state, news, graph.state, at - 1)
                logits = backend.numpy(fresh)
            token = choice(self._logits(logits, read[:, :at]), self._uniform(noise, at, led, shifts))
            if known[at]:
                token = np.where(read[:, at] != ABSENT, read[:, at], token)
            if len(ends):
                token = np.where(done, read[:, at - 1], token)
            read[:, at] = token
            if progress:
                progress(at + self.length + 1 - read.shape[1], self.length)
            if not len(ends):
                continue
            # A prompt may hold the token itself: only what comes after the prompt ends a sample.
            done = done | (np.isin(token, ends) & (at - led >= lengths))
            if done.all():
                read[:, at + 1 :] = token[:, None]
                break
        rows = led[:, None] + np.arange(self.length)
        return backend.asarray(np.take_along_axis(read, rows, axis=1))

    def _laid_out(self, given: np.ndarray, led: np.ndarray) -> np.ndarray:
        """`first` where it stands, then the prompts `(n, P)`, then what is to be made."""
        read = np.full((len(given), self.length + 1), ABSENT, dtype=np.int64)
        read[:, 0] = self.first
        read[:, 1 : 1 + given.shape[1]] = given
        read[~led, :-1] = read[~led, 1:]
        return read if led.any() else read[:, :-1]

    def _uniform(self, noise: Noise, at: int, led: np.ndarray, shifts: Sequence[int]) -> np.ndarray:
        """The number that chooses token `at − led` of each sample: the same one wherever `first` stands.

        shifts: the values of `led` that occur
        """
        drawn = noise.uniform(draw=at - shifts[0])
        for before in shifts[1:]:
            drawn = np.where(led[:, None] == before, noise.uniform(draw=at - before), drawn)
        return drawn

    def _prompt(self, conditions: Mapping[str, Array], backend: Backend, n: int) -> np.ndarray:
        """The prompts `(n, P)` int64, P ≤ length. Raises CallError where one has a gap."""
        if not self.prompt:
            return np.empty((n, 0), dtype=np.int64)
        given = np.asarray(backend.numpy(conditions[self.prompt]), dtype=np.int64)[:, : self.length]
        there = given != ABSENT
        if (there[:, 1:] & ~there[:, :-1]).any():
            raise CallError(
                f"a prompt must be filled up with {ABSENT} after its end, not before or inside it"
            )
        return given

    def _read(
        self,
        graphs: Mapping[str, Runner],
        read: np.ndarray,
        asked: Sequence[Array],
        state: list[Array],
        backend: Backend,
    ) -> tuple[np.ndarray | None, list[Array], int]:
        """Take in, by strides, what all prompts have: the logits of the next token, the state, its place.

        The last stride is filled up; what it writes beyond the prompt is written again before it is read.
        """
        if not self.prefill:
            return None, state, 1
        known = (read != ABSENT).all(axis=0)
        common = len(known) if known.all() else int(known.argmin())
        count = min(common, self.length)  # tokens to feed: those that all samples have
        fed = read[:, :count]
        graph, logits = graphs[self.prefill], None
        for start in range(0, count, self.stride):
            part = fed[:, start : start + self.stride]
            used = part.shape[1]
            part = np.pad(part, ((0, 0), (0, self.stride - used)), mode="edge")
            out = graph(backend.asarray(part), _at(start, backend), *asked, *state)
            rows, *news = out if isinstance(out, tuple) else (out,)
            state = carry(state, news, graph.state, start)
            logits = backend.numpy(rows[:, used - 1])
        return logits, state, count

    @property
    def forceable(self) -> bool:
        return True

    def forced(
        self,
        graphs: Mapping[str, Runner],
        x: np.ndarray,
        backend: Backend,
        conditions: Mapping[str, Array] | None = None,
    ) -> np.ndarray:
        """log p of the network itself: temperature, top-k and top-p are choices of who draws, not of it."""
        logits = teacher_forced(graphs, self, x.reshape(len(x), -1), backend, conditions).astype(np.float64)
        logits -= logits.max(axis=2, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=2, keepdims=True))
        return logits

    def graphs_used(self) -> tuple[str, ...]:
        return (self.graph, self.prefill) if self.prefill else (self.graph,)

    def evaluations(self) -> int:
        return self.length


def carry(
    old: Sequence[Array], new: Sequence[Array], declared: Sequence[State], position: int
) -> list[Array]:
    """The state after a call: `new`, or `old` with the rows of `new` written into it at `position`."""
    after = []
    for held, made, state in zip(old, new, declared, strict=True):
        axis = next((i for i, (a, b) in enumerate(zip(held.shape, made.shape, strict=True)) if a != b), None)
        if axis is None:
            after.append(made)
            continue
        end = min(position + made.shape[axis], held.shape[axis])
        rest = [slice(None)] * len(state.shape)
        cut = list(rest)
        rest[axis], cut[axis] = slice(position, end), slice(0, end - position)
        held[tuple(rest)] = made[tuple(cut)]
        after.append(held)
    return after


def teacher_forced(
    graphs: Mapping[str, Runner],
    sampler: Autoregressive,
    x: np.ndarray,
    backend: Backend,
    conditions: Mapping[str, Array] | None = None,
) -> np.ndarray:
    """Logits `(n, length, V)` of every token of `x` `(n, length)` given those before it, from the graphs.

    It is what two networks are compared by where one flipped token would end the pairing of their samples.
    Uses the `prefill` graph where the sampler names one, else the decoding graph token by token.
    """
    asked = [(conditions or {})[name] for name in sampler.conditions]
    fed = np.concatenate([np.full((len(x), 1), sampler.first), x[:, :-1]], axis=1).astype(np.int64)
    stride = sampler.stride if sampler.prefill else 1
    graph = graphs[sampler.prefill or sampler.graph]
    state = [backend.asarray(s.zeros(len(x))) for s in graph.state]
    parts = []
    for start in range(0, fed.shape[1], stride):
        part = fed[:, start : start + stride]
        used = part.shape[1]
        part = np.pad(part, ((0, 0), (0, stride - used)), mode="edge")
        given = part if sampler.prefill else part[:, 0]
        out = graph(backend.asarray(given), _at(start, backend), *asked, *state)
        logits, *news = out if isinstance(out, tuple) else (out,)
        state = carry(state, news, graph.state, start)
        rows = backend.numpy(logits)
        parts.append(rows[:, :used] if sampler.prefill else rows[:, None])
    return np.concatenate(parts, axis=1)


def _at(position: int, backend: Backend) -> Any:
    return backend.asarray(np.array([position], dtype=np.int64))
