"""Networks that read tokens one after another, or many at once, and remember those that they have read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from niwaki_runtime.samplers.asking import led
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Backend, Runner, State

if TYPE_CHECKING:
    from niwaki_runtime.samplers.autoregressive import Autoregressive

__all__ = ["Reader", "carry", "teacher_forced"]


class Reader:
    """The networks of an autoregressive sampler, with what they remember of n samples.

    asked: the conditions, in the order of the graphs' inputs, one row per sample, or two where the sampler
           has guidance (`Asks.both`)
    blank: with guidance, tokens `(n, columns)` that are read in the place of the others where nothing is
           asked; −1 for those that stay
    """

    def __init__(
        self,
        sampler: Autoregressive,
        graphs: Mapping[str, Runner],
        asked: Sequence[Array],
        n: int,
        backend: Backend,
        blank: np.ndarray | None = None,
    ) -> None:
        self._backend, self._blank, self._asked = backend, blank, list(asked)
        self._one = graphs[sampler.graph]
        self._many = graphs[sampler.prefill] if sampler.prefill else None
        self._ahead = graphs[sampler.ahead] if sampler.draws_ahead else None
        self._stride, self._length = sampler.stride, sampler.length
        self._declared = (self._one if self._many is None else self._many).state
        self._guidance = sampler.guidance
        n *= 1 if self._guidance == 1.0 else 2
        self._state = [backend.asarray(s.zeros(n)) for s in self._declared]

    def step(self, token: np.ndarray, at: int) -> np.ndarray:
        """Read the tokens `(n,)` at a place: logits `(n, V)` of the next."""
        return self._backend.numpy(self._call(self._one, token, at))

    def draw(self, token: np.ndarray, at: int, chances: np.ndarray, temperature: float) -> np.ndarray:
        """Read the tokens `(n,)` at a place and draw those of the next ones by as many uniform numbers
        `(n, k)`, each read in its turn: `(n, k)`."""
        assert self._ahead is not None
        heat = np.array([temperature], dtype=np.float64)
        given = [self._backend.asarray(chances), self._backend.asarray(heat)]
        return self._backend.numpy(self._call(self._ahead, token, at, *given))

    def strides(self, tokens: np.ndarray, at: int = 0) -> Iterator[tuple[Array, int]]:
        """Read `(n, t)` from a place on by strides, or one by one: for each the logits `(n, stride, V)` on
        the backend, and how many of them are meant.

        The last stride is filled up; what it writes beyond the tokens is written again before it is read.
        """
        stride = self._stride if self._many is not None else 1
        for start in range(0, tokens.shape[1], stride):
            part = tokens[:, start : start + stride]
            used = part.shape[1]
            if self._many is None:
                yield self._call(self._one, part[:, 0], at + start)[:, None], used
                continue
            part = np.pad(part, ((0, 0), (0, stride - used)), mode="edge")
            yield self._call(self._many, part, at + start), used

    def last(self, tokens: np.ndarray) -> np.ndarray:
        """Read `(n, t)` from the beginning on: logits `(n, V)` of what comes after them."""
        for rows, used in self.strides(tokens):
            logits = rows[:, used - 1]
        return self._backend.numpy(logits)

    def reread(self, tokens: np.ndarray, start: int) -> np.ndarray:
        """Read `(n, t)` tokens of which those before `start` were read already: logits `(n, t − start, V)`.

        Needs the graph that reads many. A stride begins where all of its places exist, so that some tokens
        may be read once more.
        """
        assert self._many is not None
        parts, stride = [], self._stride
        while start < tokens.shape[1]:
            begin = max(0, min(start, self._length - stride))
            part = tokens[:, begin : begin + stride]
            used = part.shape[1]
            rows = self._call(self._many, np.pad(part, ((0, 0), (0, stride - used)), mode="edge"), begin)
            parts.append(self._backend.numpy(rows)[:, start - begin : used])
            start = begin + used
        return np.concatenate(parts, axis=1)

    def take(self, rows: np.ndarray) -> None:
        """Go on with these samples (a row may be named twice): what is remembered moves with them."""
        wanted = self._backend.asarray(np.asarray(rows, dtype=np.int64))
        self._state = [
            self._backend.namespace(a).take(a, wanted, axis=state.batch_axis)
            for a, state in zip(self._state, self._declared, strict=True)
        ]
        self._asked = [self._backend.namespace(a).take(a, wanted, axis=0) for a in self._asked]

    def _unasked(self, tokens: np.ndarray, at: int) -> np.ndarray:
        """The tokens `(n,)` or `(n, t)` from a place on as they are read where nothing is asked."""
        if self._blank is None:
            return tokens
        blank = self._blank[:, at : at + (tokens.shape[1] if tokens.ndim == 2 else 1)]
        if tokens.ndim == 1:
            return np.where(blank[:, 0] < 0, tokens, blank[:, 0]) if blank.shape[1] else tokens
        found = tokens.copy()
        found[:, : blank.shape[1]] = np.where(blank < 0, tokens[:, : blank.shape[1]], blank)
        return found

    def _call(self, graph: Runner, tokens: np.ndarray, at: int, *further: Array) -> Array:
        place = self._backend.asarray(np.array([at], dtype=np.int64))
        if self._guidance != 1.0:
            tokens = np.concatenate([tokens, self._unasked(tokens, at)])
        out = graph(self._backend.asarray(tokens), place, *further, *self._asked, *self._state)
        said, *news = outputs(out)
        self._state = carry(self._state, news, graph.state, at)
        return said if self._guidance == 1.0 else led(said, self._guidance)


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
        rest: list[Any] = [slice(None)] * len(state.shape)
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
    sampler = sampler.override(guidance=1.0)  # which is a choice of who draws
    asked = sampler.asked(graphs, conditions or {})
    fed = np.concatenate([np.full((len(x), 1), sampler.first), x[:, :-1]], axis=1).astype(np.int64)
    reader = Reader(sampler, graphs, asked, len(x), backend)
    parts = [backend.numpy(rows)[:, :used] for rows, used in reader.strides(fed)]
    return np.concatenate(parts, axis=1)
