"""The data of the 15 checks: curves of (real, generated) along a setting, as in the authors' code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["DATA", "Curve", "Scale", "thinned"]

Generator = np.random.Generator
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Scale:
    """n: samples of each set (1000 in the paper); keep: at most so many points of a curve (None: all).

    Sizes that vary go from n/10 to 10·n.
    """

    n: int = 1000
    keep: int | None = None


@dataclass(frozen=True)
class Curve:
    """One line of a figure: at each x one pair of sets `(n, d)`.

    case: what tells it from the other curves of the check, as `d = 8`
    x:    the setting that varies
    draw: the pair at x[i], drawn when it is asked for
    """

    case: str
    x: np.ndarray
    draw: Callable[[int], Pair]


def thinned(x: np.ndarray, keep: int | None, *always: float) -> np.ndarray:
    """At most about `keep` of the points: evenly taken, the ends and those `always` needed among them."""
    if keep is None or keep >= len(x):
        return x
    at = set(np.linspace(0, len(x) - 1, keep).round().astype(int).tolist())
    at |= {int(np.abs(x - value).argmin()) for value in always}
    return x[sorted(at)]


def _fixed(real: np.ndarray, generated: Callable[[int], np.ndarray]) -> Callable[[int], Pair]:
    return lambda i: (real, generated(i))


REACH = {1: 6.0, 8: 3.0, 64: 1.0}
"""Means go from −this to this, by dimension."""


def gaussian_mean(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """N(0, I) and N(μ·1, I)."""
    for d, far in REACH.items():
        x = thinned(np.linspace(-far, far, 51), scale.keep, 0.0)
        real = rng.normal(size=(scale.n, d))
        yield Curve(f"d = {d}", x, _fixed(real, lambda i, x=x, d=d: rng.normal(x[i], 1.0, (scale.n, d))))


def gaussian_mean_outlier(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """The same with one more sample, at the largest mean, in the real set or in the generated one."""
    for d, far in REACH.items():
        x = thinned(np.linspace(-far, far, 51), scale.keep, 0.0)
        real = rng.normal(size=(scale.n, d))
        outlier = np.full((1, d), far)

        def clean(i: int, x: np.ndarray = x, d: int = d) -> np.ndarray:
            return rng.normal(x[i], 1.0, (scale.n, d))

        def dirty(
            i: int, clean: Callable[[int], np.ndarray] = clean, outlier: np.ndarray = outlier
        ) -> np.ndarray:
            return np.concatenate([clean(i), outlier])

        yield Curve(f"real outlier, d = {d}", x, _fixed(np.concatenate([real, outlier]), clean))
        yield Curve(f"generated outlier, d = {d}", x, _fixed(real, dirty))


def gaussian_std(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """N(0, I) and N(0, σ²I)."""
    for d, decades in {1: 3.0, 8: 1.0, 64: 0.5}.items():
        x = thinned(np.logspace(-decades, decades, 51), scale.keep, 1.0)
        real = rng.normal(size=(scale.n, d))
        yield Curve(f"d = {d}", x, _fixed(real, lambda i, x=x, d=d: rng.normal(0.0, x[i], (scale.n, d))))


MODES = 10
WIDTH = {1: 1 / 6, 8: 1 / 3, 64: 1.0}
"""Standard deviation of each of ten modes at (0, …, 0) … (10, …, 10), by dimension."""


def mixture(rng: Generator, means: np.ndarray, width: float, shares: np.ndarray, n: int) -> np.ndarray:
    return rng.normal(means[rng.choice(len(means), size=n, p=shares)], width)


def _ten_modes(
    rng: Generator, scale: Scale, x: np.ndarray, shares: Callable[[float], np.ndarray]
) -> Iterator[Curve]:
    for d, width in WIDTH.items():
        means = np.repeat(np.linspace(0.0, 10.0, MODES)[:, None], d, axis=1)
        real = mixture(rng, means, width, np.full(MODES, 1 / MODES), scale.n)

        def draw(i: int, means: np.ndarray = means, width: float = width) -> np.ndarray:
            p = shares(x[i])
            return mixture(rng, means, width, p / p.sum(), scale.n)

        yield Curve(f"d = {d}", x, _fixed(real, draw))


def simultaneous_dropping(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """Nine of ten modes lose the share x of their weight."""
    x = np.linspace(0.0, 1.0, 50)
    x = thinned(x, scale.keep, np.quantile(x, 0.95, method="nearest"))
    yield from _ten_modes(rng, scale, x, lambda v: np.where(np.arange(MODES) == 0, 1.0, 1.0 - v))


def sequential_dropping(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """The last x of ten modes are gone."""
    yield from _ten_modes(
        rng, scale, np.arange(MODES, dtype=float), lambda v: (np.arange(MODES) < MODES - v).astype(float)
    )


PLACES = np.array(
    [
        [5.46794328, -4.08481523], [4.87211875, -13.64864684], [-16.39432073, 9.09802249],
        [-2.15447941, 12.46200019], [11.55784483, -4.96049923], [-24.60558474, 14.18020818],
        [16.84215967, -3.18710751], [-5.47807206, -6.77247129], [9.46726546, 1.05922347],
        [-5.40346201, -17.29490131],
    ]
)  # fmt: skip
"""Centres of the modes of `dropping_and_invention`, the authors' draw."""


def dropping_and_invention(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """The real set has the first five of ten modes in the plane (σ = 0.25), the generated one the first x."""
    x = np.arange(1.0, 11.0)
    real = mixture(rng, PLACES[:5], 0.25, np.full(5, 0.2), scale.n)
    yield Curve(
        "d = 2",
        x,
        _fixed(
            real, lambda i: mixture(rng, PLACES[: int(x[i])], 0.25, np.full(int(x[i]), 1 / x[i]), scale.n)
        ),
    )


def one_vs_two_modes(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """Real: two modes at ∓μ/2 in every coordinate; generated: one, N(0, (1 + μ²)I)."""
    x = thinned(np.linspace(0.0, 5.0, 20), scale.keep)
    for d in (1, 8, 64):

        def draw(i: int, d: int = d) -> Pair:
            means = np.array([[-0.5], [0.5]]) * x[i] * np.ones(d)
            real = mixture(rng, means, 1.0, np.full(2, 0.5), scale.n)
            return real, rng.normal(0.0, np.sqrt(1.0 + x[i] ** 2), (scale.n, d))

        yield Curve(f"d = {d}", x, draw)


def sphere(rng: Generator, n: int, d: int, radius: float) -> np.ndarray:
    """Uniform on the surface."""
    x = rng.normal(size=(n, d))
    return x * (radius / np.linalg.norm(x, axis=1, keepdims=True))


def ball(rng: Generator, n: int, d: int, radius: float) -> np.ndarray:
    """Uniform in the inside."""
    return sphere(rng, n, d, 1.0) * radius * rng.random((n, 1)) ** (1 / d)


def torus(rng: Generator, n: int) -> np.ndarray:
    """Uniform in the disc of radius 0.1 around (1, 0) that goes round the third axis."""
    disc, angle = ball(rng, n, 2, 0.1), rng.uniform(0.0, 2 * np.pi, n)
    out = 1.0 + disc[:, 0]
    return np.stack([out * np.cos(angle), out * np.sin(angle), disc[:, 1]], axis=1)


def hypersphere_surface(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """Surfaces of radius 1 and x."""
    x = thinned(np.linspace(0.1, 1.9, 51), scale.keep, 1.0)
    for d in (2, 16, 128):
        real = sphere(rng, scale.n, d, 1.0)
        yield Curve(f"d = {d}", x, _fixed(real, lambda i, d=d: sphere(rng, scale.n, d, x[i])))


def _sizes(scale: Scale) -> np.ndarray:
    sizes = np.logspace(-1, 1, 20) * scale.n
    return thinned(sizes.astype(int).astype(float), scale.keep, scale.n)


def _shifted_cube(d: int) -> float:
    """Where the generated cube starts so that the cubes share a volume of 0.2."""
    return 1.0 - 0.2 ** (1.0 / d)


def hypercube_size(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """Unit cubes that overlap by 0.2 of their volume; both sets of x samples."""
    x = _sizes(scale)
    for d in (1, 8, 64):

        def draw(i: int, d: int = d) -> Pair:
            real = rng.random((int(x[i]), d))
            return real, rng.random((int(x[i]), d)) + _shifted_cube(d)

        yield Curve(f"d = {d}", x, draw)


def hypercube_generated_size(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """The same with n real samples and x generated ones."""
    x = _sizes(scale)
    for d in (1, 8, 64):
        real = rng.random((scale.n, d))
        yield Curve(f"d = {d}", x, _fixed(real, lambda i, d=d: rng.random((int(x[i]), d)) + _shifted_cube(d)))


def sphere_torus(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """A ball of radius 0.8 inside a torus that it does not touch; x generated samples."""
    x = _sizes(scale)
    inner = ball(rng, scale.n, 3, 0.8)
    yield Curve("real ball", x, _fixed(inner, lambda i: torus(rng, int(x[i]))))
    yield Curve("real torus", x, _fixed(torus(rng, scale.n), lambda i: ball(rng, int(x[i]), 3, 0.8)))


def scaling_one_dimension(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """N((0, 0), I) and N((6, 0), I), the second coordinate of both times x."""
    x = thinned(np.logspace(-3, 3, 20), scale.keep)

    def draw(i: int) -> Pair:
        stretch = np.array([1.0, x[i]])
        real = rng.normal(size=(scale.n, 2))
        return real * stretch, (rng.normal(size=(scale.n, 2)) + np.array([6.0, 0.0])) * stretch

    yield Curve("d = 2", x, draw)


def gaussian_mean_pareto(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """N(0, 1) and N(x, 1), and a second coordinate with Pareto's tail 1.01 in both."""
    x = thinned(np.linspace(-6.0, 6.0, 51), scale.keep, 0.0)

    def draw(mean: float) -> np.ndarray:
        return np.stack([rng.normal(mean, 1.0, scale.n), 1.0 + rng.pareto(1.01, scale.n)], axis=1)

    real = draw(0.0)
    yield Curve("d = 2", x, _fixed(real, lambda i: draw(x[i])))


def one_disjoint_dimension(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """N(0, I), one coordinate of the generated set at mean 6, x more that are alike."""
    x = thinned(np.logspace(0, 3, 20).astype(int).astype(float), scale.keep)

    def draw(i: int) -> Pair:
        real, generated = rng.normal(size=(2, scale.n, int(x[i]) + 1))
        generated[:, 0] += 6.0
        return real, generated

    yield Curve("", x, draw)


def discrete_vs_continuous(rng: Generator, scale: Scale) -> Iterator[Curve]:
    """N(0, x²), one of the two sets rounded to whole numbers."""
    x = thinned(np.logspace(0, 3, 20), scale.keep)

    def draw(i: int, rounded: int) -> Pair:
        sets = list(rng.normal(0.0, x[i], (2, scale.n, 1)))
        sets[rounded] = np.round(sets[rounded])
        return sets[0], sets[1]

    yield Curve("real discrete", x, lambda i: draw(i, 0))
    yield Curve("real continuous", x, lambda i: draw(i, 1))


DATA: dict[str, Callable[[Generator, Scale], Iterator[Curve]]] = {
    "Discrete vs. continuous": discrete_vs_continuous,
    "Gaussian mean": gaussian_mean,
    "Gaussian mean + outlier": gaussian_mean_outlier,
    "Gaussian mean + Pareto": gaussian_mean_pareto,
    "Gaussian standard deviation": gaussian_std,
    "Hypercube, sample size": hypercube_size,
    "Hypercube, generated size": hypercube_generated_size,
    "Hypersphere surface": hypersphere_surface,
    "Mode collapse": one_vs_two_modes,
    "Mode dropping + invention": dropping_and_invention,
    "One disjoint dimension": one_disjoint_dimension,
    "Scaling one dimension": scaling_one_dimension,
    "Sequential mode dropping": sequential_dropping,
    "Simultaneous mode dropping": simultaneous_dropping,
    "Sphere vs. torus": sphere_torus,
}
"""By the paper's names, shortened."""
