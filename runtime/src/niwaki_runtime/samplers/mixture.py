"""Several samplers as one: each sample is made by one of them, chosen by noise of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import (
    Array,
    Noise,
    Runner,
    Sampler,
    override_each,
    register,
    sampler_from_json,
)

__all__ = ["Mixture"]


@dataclass(frozen=True)
class _Rows(Noise):
    """The noise of some of the samples of `whole`; `rows` are their positions in it."""

    whole: Noise | None = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def normal(self, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0) -> Array:
        assert self.whole is not None
        values = replace(self.whole, base=self.base).normal(shape, stream=stream, draw=draw)
        return _take(self.backend, values, self.rows)

    def uniform(self, size: int = 1, *, stream: str = "token", draw: int = 0) -> np.ndarray:
        assert self.whole is not None
        return replace(self.whole, base=self.base).uniform(size, stream=stream, draw=draw)[self.rows]

    def of(self, i: int) -> Noise:
        assert self.whole is not None
        return replace(self.whole, base=self.base).of(int(self.rows[i]))


@register
@dataclass(frozen=True)
class Mixture(Sampler):
    """Sample i is made by member ⌊u_i · members⌋, u_i uniform from the stream `member` of the noise: all are
    equally likely, and which one it is follows from the seed and i alone. A member is called once, with the
    samples that are its own.

    members: samplers, whose samples are of one kind
    """

    kind: ClassVar[str] = "mixture"
    members: tuple[Sampler, ...] = ()

    def __post_init__(self) -> None:
        if not self.members:
            raise CallError("a mixture needs at least one member")

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        if project is not None:
            raise CallError("the samples of a mixture are made apart and cannot be projected together")
        backend, chosen = noise.backend, self.chosen(noise)
        order, made = [], []
        for k, member in enumerate(self.members):
            rows = np.flatnonzero(chosen == k)
            if len(rows):
                own = _Rows(backend, noise.seed, noise.start, len(rows), noise.base, noise, rows)
                given = {name: _take(backend, values, rows) for name, values in conditions.items()}
                made.append(member(graphs, own, given))
                order.append(rows)
            if progress:
                progress(k + 1, len(self.members))
        xp = backend.namespace(made[0])
        back = np.argsort(np.concatenate(order), kind="stable")
        return _take(backend, xp.concat(made, axis=0), back)

    def chosen(self, noise: Noise) -> np.ndarray:
        """Which member makes each sample `(n,)` int64."""
        u = noise.uniform(1, stream="member")[:, 0]
        return np.minimum((u * len(self.members)).astype(np.int64), len(self.members) - 1)

    def alike(self, noise: Noise, conditions: Mapping[str, np.ndarray]) -> list[Hashable]:
        """The member, and what that one says: how many samples a member is called with changes its
        rounding."""
        said = [member.alike(noise, conditions) for member in self.members]
        return [(int(k), said[k][i]) for i, k in enumerate(self.chosen(noise))]

    def override(self, **changes: Any) -> Self:
        """A copy with options changed in each member that has them; raises CallError for one that none
        has."""
        if not changes:
            return self
        return replace(self, members=override_each(self.members, changes, "no member of this mixture"))

    def parts(self) -> tuple[Sampler, ...]:
        return tuple(part for member in self.members for part in member.parts())

    def graphs_used(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for member in self.members for name in member.graphs_used()))

    def conditions_used(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for member in self.members for name in member.conditions_used()))

    def evaluations(self) -> int:
        return max(member.evaluations() for member in self.members)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "members": [member.to_json() for member in self.members]}

    @classmethod
    def from_fields(cls, record: dict[str, Any]) -> Sampler:
        return cls(tuple(sampler_from_json(member) for member in record.get("members", ())))


def _take(backend: Any, values: Array, rows: np.ndarray) -> Array:
    """The rows of an array of the backend."""
    return backend.namespace(values).take(values, backend.asarray(rows), axis=0)
