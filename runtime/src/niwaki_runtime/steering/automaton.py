"""From an expression to a table: which state follows from which by which byte (Thompson 1968; Rabin & Scott
1959)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.steering.characters import Bytes, byte_ranges
from niwaki_runtime.steering.expressions import Characters, Choice, Node, Repeat, Row

__all__ = ["DEAD", "Automaton", "compiled"]

DEAD = 0
"""The state that no way leads out of."""
_LARGEST = 100_000
"""Places in an expression, with its repeats written out."""
_MOST_STATES = 20_000


@dataclass(frozen=True)
class Automaton:
    """A deterministic automaton over bytes.

    table:  the next state `(states, 256)` int32
    accept: states in which a text may end `(states,)` bool
    start:  the first state
    """

    table: np.ndarray
    accept: np.ndarray
    start: int = 1


class _Places:
    """A nondeterministic automaton: places with edges of bytes, and free ways from one to another."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[int, int, int]]] = []
        self.free: list[list[int]] = []

    def new(self) -> int:
        if len(self.edges) >= _LARGEST:
            raise CallError("the expression is too large: its repeats, written out, have too many places")
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def lay(self, node: Node, start: int) -> int:
        """The place where `node` ends that begins at `start`."""
        if isinstance(node, Characters):
            return self._characters(node, start)
        if isinstance(node, Row):
            for part in node.parts:
                start = self.lay(part, start)
            return start
        if isinstance(node, Choice):
            end = self.new()
            for part in node.parts:
                begin = self.new()
                self.free[start].append(begin)
                self.free[self.lay(part, begin)].append(end)
            return end
        return self._repeat(node, start)

    def _characters(self, node: Characters, start: int) -> int:
        end, known = self.new(), dict[Bytes, int]()
        for first, last in node.spans:
            for row in byte_ranges(first, last):
                after = end
                for i in range(len(row) - 1, 0, -1):  # ways that end alike share their places
                    if row[i:] not in known:
                        known[row[i:]] = self.new()
                        self.edges[known[row[i:]]].append((*row[i], after))
                    after = known[row[i:]]
                self.edges[start].append((*row[0], after))
        return end

    def _repeat(self, node: Repeat, start: int) -> int:
        for _ in range(node.least):
            size = len(self.edges)
            start = self.lay(node.part, start)
            if len(self.edges) == size:
                break  # nothing, however often
        if node.most is None:
            loop, end = self.new(), self.new()
            self.free[start].append(loop)
            self.free[self.lay(node.part, loop)].append(loop)
            self.free[loop].append(end)
            return end
        skips = []
        for _ in range(node.most - node.least):
            skips.append(start)
            begin = self.new()
            self.free[start].append(begin)
            start = self.lay(node.part, begin)
        end = self.new()
        for place in (*skips, start):
            self.free[place].append(end)
        return end

    def closure(self, places: Iterable[int]) -> frozenset[int]:
        """All places that free ways lead to; those with nothing but free ways are left out."""
        found, todo = set(places), list(places)
        while todo:
            for other in self.free[todo.pop()]:
                if other not in found:
                    found.add(other)
                    todo.append(other)
        return frozenset(p for p in found if self.edges[p] or not self.free[p])


def compiled(node: Node) -> Automaton:
    """The automaton of an expression. Raises CallError for one that needs too many states."""
    places = _Places()
    begin = places.new()
    end = places.lay(node, begin)
    first = places.closure([begin])
    numbers, todo, rows, accept = {first: 1}, [first], [np.zeros(256, np.int32)], [False]
    closures: dict[frozenset[int], frozenset[int]] = {}
    for state in todo:
        row = np.zeros(256, dtype=np.int32)
        for low, high, wanted in _intervals([e for p in state for e in places.edges[p]]):
            if wanted not in closures:
                closures[wanted] = places.closure(wanted)
            after = closures[wanted]
            if after not in numbers:
                if len(numbers) >= _MOST_STATES:
                    raise CallError("the expression is too large: its automaton has too many states")
                numbers[after] = len(numbers) + 1
                todo.append(after)
            row[low:high] = numbers[after]
        rows.append(row)
        accept.append(end in state)
    return Automaton(np.array(rows), np.array(accept))


def _intervals(edges: list[tuple[int, int, int]]) -> list[tuple[int, int, frozenset[int]]]:
    """Bytes low … high−1 that lead to the same places."""
    cuts = sorted({low for low, _, _ in edges} | {high + 1 for _, high, _ in edges})
    targets: list[set[int]] = [set() for _ in cuts]
    number = {cut: i for i, cut in enumerate(cuts)}
    for low, high, to in edges:
        for i in range(number[low], number[high + 1]):
            targets[i].add(to)
    return [(low, high, frozenset(to)) for low, high, to in zip(cuts, cuts[1:], targets, strict=False) if to]
