"""The multiple-choice knapsack as a mixed-integer program: columns, rows, and the call of the solver."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix, csr_matrix, hstack, vstack

from niwaki.core.errors import NiwakiError

__all__ = ["Program", "Solution"]

Costs = Mapping[str, tuple[float, ...]]
"""Resource → its values: one, or one for each program point."""

DAMAGE = ("fidelity", "diversity")

_TIME_LIMIT, _INFEASIBLE = 1, 2  # of `OptimizeResult.status`


@dataclass(frozen=True)
class Solution:
    """choices: option by group; gap: relative, proven."""

    choices: tuple[int, ...]
    gap: float


class Program:
    """Columns: x of every option of every group (0 or 1), z of every pair (0 … 1), then what a problem adds.

    Every row is divided by its limit or its largest value, so that bytes and milliseconds weigh alike in the
    solver's tolerance of 1e-6.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Costs]],
        pairs: Mapping[tuple[int, int, int, int], Mapping[str, float]],
        constant: Costs,
    ) -> None:
        self.groups, self.pairs, self.constant = groups, pairs, constant
        self.starts = list(itertools.accumulate((len(g) for g in groups), initial=0))
        self.options, self.columns = self.starts[-1], self.starts[-1] + len(pairs)
        barred = np.array([any(math.isinf(v) for r in o.values() for v in r) for g in groups for o in g])
        self.upper = np.concatenate(
            [np.where(barred | self._dominated(barred), 0.0, 1.0), np.ones(len(pairs))]
        )
        self.rows = {name: self._matrix(name, barred) for name in constant}
        self.structure = self._structure()

    def totals(self, choices: Sequence[int]) -> dict[str, list[float]]:
        """What an allocation comes to, added up without the solver."""
        found = {name: list(row) for name, row in self.constant.items()}
        for group, chosen in zip(self.groups, choices, strict=True):
            for name, row in group[chosen].items():
                found[name] = [a + b for a, b in zip(found[name], row, strict=True)]
        for (a, i, b, j), more in self.pairs.items():
            if choices[a] == i and choices[b] == j:
                for name, value in more.items():
                    found[name][0] += value
        return found

    def solve(
        self,
        limits: Mapping[str, float],
        objective: str,
        *,
        elastic: tuple[str, ...] = (),
        gap: float,
        seconds: float,
    ) -> Solution | None:
        """The best allocation, None where there is none.

        objective: a resource, `damage` (the worse of both axes over its limit), `excess` (Σ of the relative
                   excesses of the `elastic` limits), or "" for any allocation
        Raises NiwakiError where time runs out with nothing found.
        """
        extra = len(elastic) if objective == "excess" else int(objective == "damage")
        cost = np.zeros(self.columns + extra)
        if objective in self.rows:
            row = self.rows[objective].toarray()[0]
            cost[: self.columns] = row / (np.abs(row).max() or 1.0)
        cost[self.columns :] = 1.0
        constraints = [self._wide(self.structure, extra)]
        for name, limit in limits.items():
            slack = elastic.index(name) if objective == "excess" and name in elastic else None
            constraints.append(self._limited(name, limit, extra, slack))
        if objective == "damage":
            for name in DAMAGE:
                if limits.get(name, 1.0) > 0:  # t ≥ Σ / λ is Σ ≤ λ·t: an elastic limit of none
                    constraints.append(self._limited(name, 0.0, extra, 0, unit=limits.get(name, 1.0)))
        upper = np.concatenate([self.upper, np.full(extra, np.inf)])
        whole = np.zeros(self.columns + extra)
        whole[: self.options] = 1
        found = milp(
            cost,
            integrality=whole,
            bounds=Bounds(np.zeros_like(upper), upper),
            constraints=constraints,
            options={"mip_rel_gap": gap, "time_limit": seconds},
        )
        if found.x is None:
            if found.status == _INFEASIBLE:
                return None
            raise NiwakiError(f"no allocation was found within {seconds:g} s: {found.message}")
        choices = tuple(int(np.argmax(found.x[a:b])) for a, b in itertools.pairwise(self.starts))
        return Solution(choices, max(0.0, float(found.mip_gap or 0.0)))

    def _limited(
        self, name: str, limit: float, extra: int, slack: int | None, unit: float = 0.0
    ) -> LinearConstraint:
        """Σ ≤ limit + unit·s, s the extra column `slack`; unit 0: the limit, or 1 where that is 0"""
        rows, base = self.rows[name], np.array(self.constant[name])
        unit = unit or limit or 1.0
        size = max(unit, float(np.abs(rows).max()) if rows.nnz else 0.0) if limit == 0 else limit
        added = np.zeros((rows.shape[0], extra))
        if slack is not None:
            added[:, slack] = -unit / size
        return LinearConstraint(hstack([rows / size, csr_matrix(added)]), -np.inf, (limit - base) / size)

    def _wide(self, one: LinearConstraint, extra: int) -> LinearConstraint:
        return LinearConstraint(hstack([one.A, csr_matrix((one.A.shape[0], extra))]), one.lb, one.ub)

    def _matrix(self, name: str, barred: np.ndarray) -> csr_matrix:
        values = np.array([o[name] for g in self.groups for o in g], dtype=np.float64)
        values = values.reshape(self.options, len(self.constant[name]))
        values[barred] = 0.0
        more = np.zeros((len(self.pairs), values.shape[1]))
        for k, added in enumerate(self.pairs.values()):
            if name in added:
                more[k] = added[name]
        return csr_matrix(np.concatenate([values, more]).T)

    def _structure(self) -> LinearConstraint:
        """Σ x = 1 in each group; z = x_ai · x_bj."""
        owner = np.repeat(np.arange(len(self.groups)), np.diff(self.starts))
        each = coo_matrix(
            (np.ones(self.options), (owner, np.arange(self.options))), (len(self.groups), self.columns)
        )
        one = np.ones(len(self.groups))
        if not self.pairs:
            return LinearConstraint(csr_matrix(each), one, one)
        first = np.array([self.starts[a] + i for a, i, _, _ in self.pairs])
        second = np.array([self.starts[b] + j for _, _, b, j in self.pairs])
        count, k = len(self.pairs), np.arange(len(self.pairs))
        z, ones = self.options + k, np.ones(count)

        def rows(*entries: tuple[np.ndarray, float]) -> coo_matrix:
            values = np.concatenate([ones * factor for _, factor in entries])
            at = (np.tile(k, len(entries)), np.concatenate([column for column, _ in entries]))
            return coo_matrix((values, at), (count, self.columns))

        below = [rows((z, 1.0), (first, -1.0)), rows((z, 1.0), (second, -1.0))]
        above = rows((first, 1.0), (second, 1.0), (z, -1.0))
        nothing = np.full(3 * count, -np.inf)
        most = np.concatenate([np.zeros(2 * count), ones])
        return LinearConstraint(
            csr_matrix(vstack([each, *below, above])),
            np.concatenate([one, nothing]),
            np.concatenate([one, most]),
        )

    def _dominated(self, barred: np.ndarray) -> np.ndarray:
        """Options that another of their group beats or equals on everything; those in pairs are left alone.

        Without them the solver has less to branch on, and what costs nothing is not chosen by chance.
        """
        paired = {(a, i) for a, i, _, _ in self.pairs} | {(b, j) for _, _, b, j in self.pairs}
        gone = np.zeros(self.options, bool)
        for g, group in enumerate(self.groups):
            free = [i for i in range(len(group)) if (g, i) not in paired and not barred[self.starts[g] + i]]
            if not free:
                continue
            values = np.array([[v for row in group[i].values() for v in row] for i in free])
            for k, one in enumerate(values):
                better = (values <= one).all(1) & ((values < one).any(1) | (np.arange(len(free)) < k))
                gone[self.starts[g] + free[k]] = bool(better.any())
        return gone
