"""False alarms of `niwaki watch`, and how soon it sees a change: simulated streams of known change.

    python benchmarks/drift.py                 # 200 streams a row
    python benchmarks/drift.py --quick         # 20

A stream is 40 blocks of 50 samples in 12 dimensions, ten Gaussian modes; its reference are 1000 held samples
beside 2000 training samples. From block 11 on a share of the samples is of another kind. `false` are alarms
before that, `seen` alarms after it, `blocks` the median number of blocks until then, `by` the channel that
was first in most streams. A test without a correction for looking often (a Mann–Whitney test of all samples
so far, at the same level, after every block) stands beside it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import mannwhitneyu

from niwaki.evaluation.drift.channel import Reference
from niwaki.evaluation.drift.watch import LEVEL, MARGIN, Watch
from niwaki.evaluation.pairwise.nearest import distances

D, BLOCKS, BLOCK, CHANGE = 12, 40, 50, 10
CENTRES = np.random.default_rng(99).normal(size=(10, D)) * 2

Kind = Callable[[np.random.Generator, np.ndarray, np.ndarray, np.ndarray], None]


def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    return CENTRES[rng.integers(10, size=n)] + rng.normal(size=(n, D))


def ruined(rng: np.random.Generator, x: np.ndarray, part: np.ndarray, train: np.ndarray) -> None:
    x[part] += 4 * rng.normal(size=(len(part), D))


def shifted(rng: np.random.Generator, x: np.ndarray, part: np.ndarray, train: np.ndarray) -> None:
    x[part] += 2 / np.sqrt(D)


def one_mode(rng: np.random.Generator, x: np.ndarray, part: np.ndarray, train: np.ndarray) -> None:
    x[part] = CENTRES[0] + rng.normal(size=(len(part), D))


def repeated(rng: np.random.Generator, x: np.ndarray, part: np.ndarray, train: np.ndarray) -> None:
    x[part] = CENTRES[1] + 0.05 * rng.normal(size=(len(part), D))


def copied(rng: np.random.Generator, x: np.ndarray, part: np.ndarray, train: np.ndarray) -> None:
    x[part] = train[rng.integers(len(train), size=len(part))]


KINDS: dict[str, tuple[Kind, tuple[float, ...]]] = {
    "nothing": (ruined, (0.0,)),
    "far from all": (ruined, (0.05, 0.2, 0.4, 0.8)),
    "moved by 0.58 in every direction": (shifted, (0.5, 1.0)),
    "of one mode": (one_mode, (0.2, 0.4)),
    "one and the same": (repeated, (0.2, 0.4)),
    "copies of training samples": (copied, (0.2, 0.4)),
}


def stream(kind: Kind, share: float, seed: int) -> tuple[bool, int | None, str, bool]:
    """Whether it was alarmed falsely, blocks until it was rightly, the first channel, and whether the test
    that is not corrected called something before the change."""
    rng = np.random.default_rng([seed, 17])
    watch = Watch("outputs", Reference(draw(rng, 2000), draw(rng, 1000)))
    held = distances(watch.reference.held, watch.reference.train)
    false, peeked, far = False, False, np.zeros(0)
    for k in range(BLOCKS):
        x = draw(rng, BLOCK)
        if k >= CHANGE and share:
            part = rng.permutation(BLOCK)[: rng.binomial(BLOCK, share)]
            kind(rng, x, part, watch.reference.train)
        far = np.concatenate([far, distances(x, watch.reference.train)])
        if k < CHANGE or not share:
            peeked |= bool(mannwhitneyu(far, held).pvalue < LEVEL)
        alarms = [r.channel for r in watch.add(x) if r.standing == "alarm"]
        if alarms and (k < CHANGE or not share):
            false = True
        elif alarms:
            return false, k - CHANGE + 1, alarms[0], peeked
    return false, None, "", peeked


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--streams", type=int)
    asked = parser.parse_args()
    n = asked.streams or (20 if asked.quick else 200)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("samples", "share", "false", "seen", "blocks", "by", "false, not corrected"):
        table.add_column(title)
    for name, (kind, shares) in KINDS.items():
        for share in shares:
            rows = [stream(kind, share, seed) for seed in range(n)]
            seen = [blocks for _, blocks, _, _ in rows if blocks is not None]
            first = Counter(channel for _, _, channel, _ in rows if channel).most_common(1)
            table.add_row(
                name, f"{share:.0%}", f"{np.mean([r[0] for r in rows]):.1%}", f"{len(seen) / n:.0%}",
                f"{np.median(seen):g}" if seen else "–", first[0][0] if first else "–",
                f"{np.mean([r[3] for r in rows]):.1%}",
            )  # fmt: skip
    console = Console()
    console.print(f"{n} streams a row, level {LEVEL:g}, margin {MARGIN:g}")
    console.print(table)


if __name__ == "__main__":
    main()
