"""Error rates of A/B decisions that are looked at while they run: t tests beside bounds at all times.

    python benchmarks/ab.py                # 1000 trials a row
    python benchmarks/ab.py --quick        # 100

A trial are 4000 users with outcomes 0 or 1, a half of them given B, which succeeds more often by `effect`.
Both are looked at after every 100 users and stop where they decide at level 0.05: a two-sided t test as it is
(`t, peeking`), the same once at the end (`t, once`), and `compare_arms` (`all times`). With an effect of 0
every decision is wrong; else `right` are decisions for the better one and `users` the median number until a
decision.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from niwaki.sequential.difference import compare_arms

USERS, EVERY, LEVEL, BASE = 4000, 100, 0.05, 0.5
EFFECTS = (0.0, 0.05, 0.1, 0.2)


def t_decision(y: np.ndarray, b: np.ndarray) -> int:
    """Welch's test: 1 for B, −1 for A, 0 open."""
    ya, yb = y[~b], y[b]
    if min(len(ya), len(yb)) < 2:
        return 0
    va, vb = ya.var(ddof=1) / len(ya), yb.var(ddof=1) / len(yb)
    if va + vb == 0:
        return 0
    score = (yb.mean() - ya.mean()) / np.sqrt(va + vb)
    freedom = (va + vb) ** 2 / (va**2 / (len(ya) - 1) + vb**2 / (len(yb) - 1))
    return int(np.sign(score)) if 2 * student.sf(abs(score), freedom) < LEVEL else 0


def bound_decision(y: np.ndarray, b: np.ndarray) -> int:
    found = compare_arms(y, b, level=LEVEL)
    return {"better": 1, "worse": -1}.get(found.decision, 0)


def trial(effect: float, seed: int) -> dict[str, tuple[int, int]]:
    """Of every way to decide: the decision, and after how many users."""
    rng = np.random.default_rng([seed, 23])
    b = rng.random(USERS) < 0.5
    y = (rng.random(USERS) < np.where(b, BASE + effect / 2, BASE - effect / 2)).astype(np.float64)
    found = {"t, once": (t_decision(y, b), USERS)}
    for name, decide in (("t, peeking", t_decision), ("all times", bound_decision)):
        found[name] = next(
            ((d, n) for n in range(EVERY, USERS + 1, EVERY) if (d := decide(y[:n], b[:n]))), (0, USERS)
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--trials", type=int)
    asked = parser.parse_args()
    n = asked.trials or (100 if asked.quick else 1000)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("effect", "by", "decides", "right", "wrong", "users"):
        table.add_column(title)
    for effect in EFFECTS:
        rows = [trial(effect, seed) for seed in range(n)]
        for name in rows[0]:
            decided = np.array([row[name][0] for row in rows])
            users = [row[name][1] for row in rows if row[name][0]]
            right = f"{np.mean(decided > 0):.1%}" if effect else ""
            wrong = np.mean(decided < 0) if effect else np.mean(decided != 0)
            table.add_row(
                f"{effect:g}", name, f"{np.mean(decided != 0):.1%}", right, f"{wrong:.1%}",
                f"{np.median(users):g}" if users else "–",
            )  # fmt: skip
    console = Console()
    console.print(
        f"{n} trials a row, seeds 0 … {n - 1}, {USERS} users, looked at every {EVERY}, level {LEVEL:g}"
    )
    console.print(table)


if __name__ == "__main__":
    main()
