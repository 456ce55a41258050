"""Beam search: the likeliest texts instead of drawn ones, several ways tried side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from niwaki_runtime.samplers.base import Array, Backend, Runner
from niwaki_runtime.samplers.prompts import ABSENT, Layout, lay_out
from niwaki_runtime.samplers.reading import Reader
from niwaki_runtime.samplers.steer import Steer, mask

if TYPE_CHECKING:
    from niwaki_runtime.samplers.autoregressive import Autoregressive

__all__ = ["search"]


def search(
    sampler: Autoregressive,
    graphs: Mapping[str, Runner],
    backend: Backend,
    n: int,
    conditions: Mapping[str, Array],
    *,
    steer: Steer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Layout:
    """For each of n samples the text of the best score that `sampler.beams` ways find: log p of the tokens
    made, after bias and penalty, divided by their number to the power `length_penalty`.

    An end counts as a token. Nothing is drawn, and the search goes on until no way that is still open can win
    (`early_stopping="never"` in transformers). A steer forbids tokens and leaves the others' log p.
    """
    layout = lay_out(sampler, conditions, backend, n)
    known = sampler.asked(graphs, conditions)
    for i in range(n):
        rows = backend.asarray(np.array([i], dtype=np.int64))
        asked = [backend.namespace(a).take(a, rows, axis=0) for a in known]
        _Search(sampler, graphs, backend, layout, i, asked, steer).run()
        if progress:
            progress(i + 1, n)
    return layout


@dataclass
class _Way:
    """Tokens made so far, their log p, and the steer's state after them."""

    tokens: list[int] = field(default_factory=list)
    log_p: float = 0.0
    state: Any = None


class _Search:
    """Of one sample."""

    def __init__(
        self,
        sampler: Autoregressive,
        graphs: Mapping[str, Runner],
        backend: Backend,
        layout: Layout,
        i: int,
        asked: list[Array],
        steer: Steer | None,
    ) -> None:
        self.sampler, self.width = sampler, sampler.beams
        self.steered, self.steer = steer is not None, steer or Steer()
        self.layout, self.i, self.begun = layout, i, layout.begin(i)
        self.before: list[int] = layout.read[i, : self.begun].tolist()  # read before anything is made
        self.prompt = layout.prompt(i)
        self.room = layout.length - len(self.prompt)
        self.ends = sampler.ends()
        self.reader = Reader(sampler, graphs, asked, 1, backend)
        self.whole: list[tuple[float, _Way]] = []  # scores of ways that have ended, best first

    def run(self) -> None:
        ways = [_Way(state=self.steer.begin(self.prompt, self.room))]
        if self.room and not self.steer.ended(ways[0].state, self.room):
            logits = self.reader.last(np.array([self.before]))
            for made in range(self.room):
                ways, parents = self._widened(ways, logits, made)
                if not ways or self._settled(ways, made + 1):
                    break
                if made + 1 < self.room:
                    self.reader.take(np.array(parents))
                    last = np.array([way.tokens[-1] for way in ways])
                    logits = self.reader.step(last, self.begun + made)
        for way in ways:
            self._end(way)
        best = self.whole[0][1].tokens
        kept = self.steer.trimmed(self.prompt, best)
        self.layout.write(self.i, kept, kept[-1] if kept and kept[-1] in self.ends else ABSENT)

    def _widened(self, ways: list[_Way], logits: np.ndarray, made: int) -> tuple[list[_Way], list[int]]:
        """The best ways on, and which way each comes from. Of the candidates, an end counts only among the
        first `beams`, so that ends never crowd out what goes on."""
        history = np.array([self.before + way.tokens for way in ways])
        scores = _log_softmax(self.sampler.adjusted(logits, history))
        for i, way in enumerate(ways):
            scores[i] = mask(self.steer, way.state, self.room - made, scores[i], self.ends) + way.log_p
        size, after, parents = scores.shape[1], list[_Way](), list[int]()
        for rank, flat in enumerate(self._ranked(scores.ravel())):
            parent, token = divmod(flat, size)
            log_p = float(scores[parent, token])
            if log_p == -np.inf or len(after) == self.width:
                break
            tokens, state = [*ways[parent].tokens, token], ways[parent].state
            if token in self.ends:
                if rank < self.width:
                    self._end(_Way(tokens, log_p, state))
                continue
            way = _Way(tokens, log_p, self.steer.advance(state, token))
            if self.steer.ended(way.state, self.room - made - 1):
                if rank < self.width:
                    self._end(way)
                continue
            after.append(way)
            parents.append(parent)
        return after, parents

    def _ranked(self, scores: np.ndarray) -> list[int]:
        """Candidates, best first: as many as must hold `beams` that do not end."""
        order = np.arange(len(scores))
        most = self.width * (2 + len(self.ends))
        if not self.steered and most < len(scores):  # a steer may end any number of them
            order = np.argpartition(-scores, most)[:most]
        found: list[int] = order[np.lexsort((order, -scores[order]))].tolist()
        return found

    def _end(self, way: _Way) -> None:
        self.whole.append((self._score(way.log_p, len(way.tokens)), way))
        self.whole.sort(key=lambda one: -one[0])  # stable: of equal ones the first stays
        del self.whole[self.width :]

    def _score(self, log_p: float, made: int) -> float:
        return log_p / max(made, 1) ** self.sampler.length_penalty

    def _settled(self, ways: list[_Way], made: int) -> bool:
        """Whether no open way can be better than the worst of those that are kept: log p only falls."""
        if len(self.whole) < self.width:
            return False
        longest = self.room if self.sampler.length_penalty > 0 else made
        return self._score(max(way.log_p for way in ways), longest) <= self.whole[-1][0]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))
