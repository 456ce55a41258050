"""Which plans are tried: within the budget, those of least damage by what single parts cost; uniform ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from niwaki.compression.search.allocation import Limits, Option, allocate
from niwaki.compression.search.choices import FLOAT, HALF, Choices
from niwaki.workflow.searching.candidate import NEAR, Candidate, excess
from niwaki.workflow.searching.measuring import latency_key
from niwaki.workflow.searching.pricing import Prices
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.weights import RUINED, Weights

__all__ = ["RELAXED", "Proposals", "in_order", "propose"]

_NARROWEST = 0.9375
_GRID = (0.0, 0.25, 0.5, 0.625, 0.75, 0.875, _NARROWEST)
RELAXED = (1.0, 1.5, 3.0)
"""By how much the budget is widened: where it cannot be met, what is nearest is found so."""
_ALLOCATING = 0.1
"""Share of the whole time."""
_AGAIN = 4
"""Allocations until the predicted costs keep the limits: those of single groups do not quite add up."""


AS_IT_IS = Choices()
"""The model's own sampling."""

Proposals = Callable[[Search, Prices, Weights, Sequence[float]], list[Candidate]]


@dataclass
class _Asked:
    """Candidates within limits: of one width of the budget."""

    search: Search
    prices: Prices
    weights: Weights
    limits: Mapping[str, float]
    until: float = math.inf
    """Seconds of the search after which no plan of least damage is begun or ended: each cuts every group in
    several ways to know what that saves."""
    _known: dict[tuple[object, ...], dict[str, float]] = field(default_factory=dict)

    def costs(self, choices: Choices) -> dict[str, float]:
        """Predicted."""
        if choices.key not in self._known:
            self._known[choices.key] = self.prices.predict(self.search.units.profile(choices))
        return self._known[choices.key]

    def over(self, choices: Choices) -> float:
        """Logarithm of the worst share of a limit, with the room that predictions need."""
        return excess(Candidate(choices, dict(self.costs(choices))), self.limits, self.prices.room)

    def uniform(self, bits: int, way: Choices) -> Choices | None:
        """The widest that keeps the limits; None where even the narrowest does not."""
        units = self.search.units
        for ratio in _finer() if units.couplings else [0.0]:
            made = _sampling(units.uniform(ratio, bits, origin=_words(ratio, bits, way)), way)
            if self.over(made) <= 0:
                return made
        return None

    def allocated(self, bits: tuple[int, ...], way: Choices, anchor: Choices) -> Choices | None:
        """Of least damage, by the costs of changing one group of a plan that keeps the limits."""
        units, now = self.search.units, self.costs(anchor)
        couplings, layers = list(anchor.left(units.couplings)), list(anchor.left(dict.fromkeys(units.layers)))
        options: list[list[Option]] = []
        ratios: list[list[float]] = []
        for name in couplings:
            tried = sorted({*_GRID, round(anchor.ratios.get(name, 0.0), 4)})
            ratios.append(tried)
            if self.search.clock.spent > self.until:
                return None
            options.append([self._option(anchor, now, name, ratio, None) for ratio in tried])
        for name in layers:
            options.append([self._option(anchor, now, name, None, b) for b in bits])
        if not options:
            return None
        key = latency_key(min(self.prices.latency))
        room = 1.0 + self.prices.room
        tight = 1.0
        for _ in range(_AGAIN):
            limits = Limits(
                latency=self.limits.get(key, math.inf) / room * tight,
                bytes=self.limits.get("size", math.inf) / room * tight,
            )
            constant = Option(0.0, 0.0, now[key], now["size"])
            found = allocate(options, limits, minimize="damage", constant=constant, seconds=2.0)
            if found is None:
                return None
            picked = found.choices
            made = Choices(
                {n: ratios[i][picked[i]] for i, n in enumerate(couplings)},
                {n: bits[picked[len(couplings) + i]] for i, n in enumerate(layers)},
                self.search.template.inputs,
                origin=f"least damage by what single layers cost{_with(way)}",
            )
            made = _sampling(made, way)
            over = self.over(made)
            if over <= 0:
                return made
            tight *= math.exp(-over) * 0.98
        return None

    def _option(
        self, anchor: Choices, now: Mapping[str, float], name: str, ratio: float | None, bits: int | None
    ) -> Option:
        if ratio is not None:
            changed = anchor.without(ratios={**anchor.ratios, name: ratio})
            damage = self.weights.cut(name, ratio)
        else:
            assert bits is not None
            changed = anchor.without(bits={**anchor.bits, name: bits})
            damage = self.weights.rounded(name, bits)
        costs = self.costs(changed)
        key = latency_key(min(self.prices.latency))
        return Option(*damage, costs[key] - now[key], costs["size"] - now["size"])

    def damage(self, choices: Choices) -> float:
        """Of all its parts together, the worse axis: which is tried first."""
        return max(*self.weights.whole(choices), 0.0)


def propose(
    search: Search, prices: Prices, weights: Weights, widths: Sequence[float] = RELAXED
) -> list[Candidate]:
    """Candidates with their predicted costs, the most promising first: of the budget, then of wider ones.

    widths: what the limits are multiplied with
    """
    depths = search.units.nested({name: max(weights.without(name)) for name in search.units.blocks})
    ways = [AS_IT_IS, *search.ways, *(Choices(dropped=blocks) for blocks in depths)]
    # A number of evaluations that ruins the whole model by itself is no start where another one does not.
    alone = {way.key: max(*weights.sampled(way), 0.0) for way in ways}
    out: dict[str, Candidate] = {}
    until = search.clock.spent + search.clock.share(_ALLOCATING, 0.25)
    for wider in widths:
        limits = {key: limit * wider for key, limit in search.limits.items()}
        asked = _Asked(search, prices, weights, limits, until)
        found = {Candidate(c).name: c for c in _choices(asked, ways)}
        if least := [c for c in found.values() if alone[_way(c).key] <= RUINED]:
            found = {Candidate(c).name: c for c in least}
        for name, choices in sorted(found.items(), key=lambda item: asked.damage(item[1])):
            known = search.candidates.get(name, Candidate(choices))
            known.predicted = asked.costs(choices)
            out.setdefault(name, known)
    if not any(c.fits(search.limits) for c in out.values()):
        # What the limits leave room for by prediction may be more than nothing.
        asked = _Asked(search, prices, weights, search.limits)
        for bits in (4, 8):
            made = search.units.uniform(_NARROWEST, bits, origin=_words(_NARROWEST, bits, AS_IT_IS))
            extreme = Candidate(made, asked.costs(made))
            out = {extreme.name: search.candidates.get(extreme.name, extreme), **out}
    return list(out.values())


def in_order(known: Sequence[Candidate], pool: Sequence[Candidate]) -> list[Candidate]:
    """What earlier calls have tried, before new plans where it came near, else after them: there may be time
    for one alone."""
    near = sorted((c for c in known if c.worst < NEAR), key=lambda c: c.worst)
    far = sorted((c for c in known if c.worst >= NEAR), key=lambda c: c.worst)
    names = {c.name for c in far}
    return list({c.name: c for c in [*near, *(c for c in pool if c.name not in names), *far]}.values())


def _choices(asked: _Asked, ways: Sequence[Choices]) -> Iterator[Choices]:
    """For every way to sample, and for every depth: half precision where all of it fits, 8 bits, and 4 where
    8 do not leave the widths."""
    for way in ways:
        half = asked.uniform(HALF, way)
        if half is not None and not half.cuts:
            yield half
        wide = asked.uniform(8, way)
        if wide is not None:
            yield wide
            yield from _allocated(asked, (HALF, 8), way, wide)
            if not wide.cuts:
                continue  # all of it fits at 8 bits: fewer would gain nothing
        narrow = asked.uniform(4, way)
        if narrow is not None and (wide is None or _share(narrow) < _share(wide)):
            yield narrow
            yield from _allocated(asked, (HALF, 8, 4), way, narrow)


def _allocated(asked: _Asked, bits: tuple[int, ...], way: Choices, anchor: Choices) -> Iterator[Choices]:
    found = asked.allocated(bits, way, anchor)
    if found is not None:
        yield found


def _share(choices: Choices) -> float:
    return sum(choices.ratios.values())


def _finer() -> list[float]:
    return [0.0, *(k / 32 for k in range(2, 31))]


def _sampling(choices: Choices, way: Choices) -> Choices:
    """The same, sampled in that way and as deep."""
    return choices.without(
        evaluations=way.evaluations, solver=way.solver, distilled=way.distilled, dropped=way.dropped
    )


def _way(choices: Choices) -> Choices:
    return _sampling(AS_IT_IS, choices)


def _with(way: Choices) -> str:
    how = " learnt" if way.distilled else f" of {way.solver}" if way.solver else ""
    words = f", {way.evaluations} evaluations{how}" if way.evaluations else ""
    return words + (f", without {', '.join(way.dropped)}" if way.dropped else "")


def _words(ratio: float, bits: int, way: Choices) -> str:
    cut = "no channels cut" if not ratio else f"{ratio:.0%} of all channels cut"
    return f"{cut}, {'float' if bits >= FLOAT else f'{bits} bits'}{_with(way)}"
