"""The figures of docs/mathematics.md, each drawn from what the package's functions give; docs/pictures.py
writes them."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import norm

from niwaki.compression.pruning.patterns import keep_highest, keep_n_of_m
from niwaki.evaluation.equivalence.text import SWAPS, mean_change
from niwaki.evaluation.equivalence.verdict import Axis, decide
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.evaluation.metrics.kernel import kernel_distance, kernel_test
from niwaki.evaluation.metrics.manifold import manifold
from niwaki.models.gan.losses import discriminator_loss
from niwaki.models.vae.divergences import kl_to_standard
from niwaki.nn.couplings import coupled
from niwaki.sequential.bounded_mean import bounds_of_mean
from niwaki.surgery.quantized_math import fake_quantize, grid, symmetric_scale

GREEN, RED, GREY, BLUE = "#2f6f4f", "#be4a2a", "#777", "#33669a"


def quantiles(n: int, mean: float = 0.0) -> torch.Tensor:
    """n points of N(mean, 1) at even shares: a sample without chance."""
    return torch.as_tensor(norm.ppf((np.arange(n) + 0.5) / n)) + mean


def jensen_shannon(shift: float, n: int = 4000) -> float:
    """Of N(0, 1) and N(shift, 1), in nats, by the best discriminator's loss: log 2 − ½ of it."""
    real, fake = quantiles(n), quantiles(n, shift)
    # log p/q = −shift·x + shift²/2
    terms = discriminator_loss(-shift * real + shift**2 / 2, -shift * fake + shift**2 / 2)
    return math.log(2) - 0.5 * float(sum(terms.values()))


def divergences(axis: Axes) -> None:
    at = np.linspace(0, 5, 26)
    kl = kl_to_standard(torch.as_tensor(at), torch.zeros(len(at)))
    w2 = [frechet_distance(quantiles(400)[:, None], quantiles(400, m)[:, None]).value for m in at]
    axis.plot(at, kl, color=RED, label="KL")
    axis.plot(at, [jensen_shannon(m) for m in at], color=BLUE, label="Jensen–Shannon")
    axis.plot(at, w2, color=GREEN, label="Wasserstein², Fréchet")
    axis.axhline(math.log(2), color=BLUE, linewidth=0.6, linestyle=":")
    axis.set(xlabel="shift of one of two normals", ylim=(0, 6))
    axis.legend(fontsize=7, frameon=False)


def paths(left: Axes, right: Axes) -> None:
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 2, generator=rng)
    angle = torch.arange(40) / 40 * 2 * math.pi
    data = torch.stack([angle.cos(), angle.sin()], 1) * 2.2
    for axis, starts, title in (
        (left, noise, "as they come"),
        (right, coupled(noise, data), "in the order of least cost"),
    ):
        axis.plot(*torch.stack([starts, data]).unbind(2), color=GREEN, linewidth=0.7)
        axis.plot(*data.T, "o", color="#222", markersize=2.5)
        axis.plot(*starts.T, ".", color=GREY, markersize=3)
        cost = float((starts - data).square().sum(1).mean())
        axis.set(title=f"{title}: mean cost {cost:.2f}", xticks=[], yticks=[], aspect="equal")


def biases(left: Axes, right: Axes) -> None:
    """Both sides of one distribution, N(0, I) in 16 dimensions, over ten draws each."""
    sizes = (32, 64, 128, 256, 512, 1024)
    rng = np.random.default_rng(0)
    for axis, distance, colour in ((left, frechet_distance, GREEN), (right, kernel_distance, BLUE)):
        values = np.array(
            [
                [distance(rng.normal(size=(n, 16)), rng.normal(size=(n, 16))).value for _ in range(10)]
                for n in sizes
            ]
        )
        axis.fill_between(sizes, values.min(1), values.max(1), color=colour, alpha=0.25, linewidth=0)
        axis.plot(sizes, values.mean(1), color=colour)
        axis.axhline(0, color="#222", linewidth=0.6)
        axis.set(xscale="log", xlabel="samples of each")
    left.set_title("Fréchet distance of equals")
    right.set_title("kernel distance of equals")


def neighbours(left: Axes, right: Axes) -> None:
    """Eight modes in two dimensions: generated ones too wide or too narrow, and with modes missing."""
    rng = np.random.default_rng(0)
    angle = np.arange(8) / 8 * 2 * np.pi
    centres = 6 * np.stack([np.cos(angle), np.sin(angle)], 1)
    real = centres[rng.integers(8, size=600)] + rng.normal(size=(600, 2))
    names = ("precision", "recall", "density", "coverage")
    widths, lost = (0.3, 0.6, 1.0, 1.4, 2.0, 2.8), range(7)
    wide = [
        manifold(real, centres[rng.integers(8, size=600)] + w * rng.normal(size=(600, 2))) for w in widths
    ]
    fewer = [manifold(real, centres[rng.integers(8 - m, size=600)] + rng.normal(size=(600, 2))) for m in lost]
    for axis, at, found, label in (
        (left, widths, wide, "spread of the generated ÷ of the real"),
        (right, lost, fewer, "modes of eight that are never made"),
    ):
        for name, colour, style in zip(names, (GREEN, RED, GREEN, RED), ("-", "-", "--", "--"), strict=True):
            axis.plot(
                at,
                [getattr(one, name).value for one in found],
                style,
                color=colour,
                label=name,
                linewidth=1.2,
            )
        axis.set(xlabel=label, ylim=(0, 1.75))
    left.legend(fontsize=7, frameon=False)


def outcomes(axis: Axes) -> None:
    """Shares of verdicts over 400 experiments of 100 pairs each, by the true loss in margins."""
    at = np.linspace(-0.5, 2.5, 25)
    rng = np.random.default_rng(0)
    words = Axis("fidelity", "score", "rose", "fell", "planted damage costs")
    swaps = rng.integers(0, 2, (SWAPS // 27, 100)).astype(bool)
    counts = []
    for loss in at:
        made = []
        for _ in range(400):
            after = rng.normal(size=100) * 3.5 - loss
            change = mean_change(np.zeros(100), after, swaps)
            made.append(decide(words, change, 1.0, 100, change.p_value, ["score"], "").outcome)
        counts.append([made.count(word) / 400 for word in ("no loss", "inconclusive", "loss")])
    for shares, word, colour in zip(
        np.array(counts).T, ("no loss", "inconclusive", "loss"), (GREEN, GREY, RED), strict=True
    ):
        axis.plot(at, shares, color=colour, label=word)
    axis.axvline(1, color="#222", linewidth=0.6)
    axis.axhline(0.025, color="#222", linewidth=0.6, linestyle=":")
    axis.set(xlabel="true loss, in margins", ylabel="share of verdicts", ylim=(0, 1.02))
    axis.legend(fontsize=7, frameon=False, loc="center left")


def always(left: Axes, right: Axes) -> None:
    """Fair coins: one stream's bounds, and how many of 200 streams were ever certain of something wrong."""
    rng = np.random.default_rng(3)
    looks = np.unique(np.geomspace(10, 2000, 40).astype(int))
    coins = rng.integers(0, 2, (200, 2000)).astype(float)

    def fixed(x: np.ndarray) -> tuple[float, float]:
        half = 1.96 * float(x.std()) / math.sqrt(len(x))
        return float(x.mean()) - half, float(x.mean()) + half

    def anytime(x: np.ndarray) -> tuple[float, float]:
        return bounds_of_mean(x, 0.025, 0.025)

    for bounds, colour, name in ((fixed, RED, "of one look"), (anytime, GREEN, "at all times")):
        one = np.array([bounds(coins[0, :n]) for n in looks])
        left.fill_between(looks, *one.T, color=colour, alpha=0.3, linewidth=0, label=name)
        missed = np.array(
            [[not low <= 0.5 <= high for low, high in (bounds(x[:n]) for n in looks)] for x in coins]
        )
        right.plot(looks, np.maximum.accumulate(missed, 1).mean(0), color=colour)
    left.axhline(0.5, color="#222", linewidth=0.6)
    left.set(xscale="log", xlabel="values", ylim=(0.1, 0.9), title="bounds of a mean")
    left.legend(fontsize=7, frameon=False)
    right.axhline(0.05, color="#222", linewidth=0.6, linestyle=":")
    right.set(
        xscale="log",
        xlabel="values, looked at 40 times",
        title="streams that were ever missed",
        ylim=(0, 0.5),
    )


def exchanged(axis: Axes) -> None:
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=(120, 4)), rng.normal(size=(120, 4)) + 0.22
    test = kernel_test(real, generated, permutations=999)
    axis.hist(test.null, 40, color=GREY)
    axis.axvline(test.distance.value, color=RED)
    axis.set(xlabel="kernel distance", yticks=[], title=f"999 exchanges of labels, p = {test.p_value:.3f}")


def rounding_error(bits: int, n: int = 1 << 16) -> float:
    """Squared error of normal weights on the symmetric grid of least error, as a share of their square."""
    w = quantiles(n).float()[None]
    low, high = grid(bits)
    rounded = fake_quantize(w, symmetric_scale(w, bits)[:, None], torch.zeros(()), low, high)
    return float((rounded - w).square().sum() / w.square().sum())


def cut_share(share: float, n: int = 1 << 16) -> float:
    """Of the square of normal weights, what goes with the `share` smallest of them."""
    w = quantiles(n)
    keep = keep_highest(w.abs(), round((1 - share) * n))
    return float(w[~keep].square().sum() / w.square().sum())


def cut_share_closed(share: float) -> float:
    """r − 2 a φ(a), a = Φ⁻¹((1 + r)/2)."""
    a = norm.ppf((1 + share) / 2)
    return float(share - 2 * a * norm.pdf(a))


def two_of_four(n: int = 1 << 16) -> float:
    """The same for the pattern 2:4 of independent normal weights."""
    w = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keep = keep_n_of_m(w.abs(), 2, 4, 0)
    return float(w[~keep].square().sum() / w.square().sum())


def errors(left: Axes, right: Axes) -> None:
    bits = range(2, 9)
    left.plot(bits, [10 * math.log10(1 / rounding_error(b)) for b in bits], "o-", color=GREEN, markersize=3)
    left.plot(bits, [6.02 * b for b in bits], color=GREY, linewidth=0.8, linestyle=":", label="6.02 dB a bit")
    left.set(xlabel="bits of a weight", ylabel="signal ÷ error, dB", title="rounding")
    left.legend(fontsize=7, frameon=False)
    at = np.linspace(0, 0.98, 50)
    right.plot(at, [cut_share_closed(r) for r in at], color=RED, label="the smallest weights")
    right.plot(at, at, color=GREY, linewidth=0.8, linestyle=":", label="any weights")
    right.plot([0.5], [two_of_four()], "o", color=BLUE, markersize=4, label="2 of every 4")
    right.set(xlabel="share of weights that is cut", ylabel="share of the square", title="pruning")
    right.legend(fontsize=7, frameon=False)


FIGURES = {
    "divergences": (divergences, 1),
    "paths": (paths, 2),
    "biases": (biases, 2),
    "neighbours": (neighbours, 2),
    "outcomes": (outcomes, 1),
    "always": (always, 2),
    "exchanged": (exchanged, 1),
    "errors": (errors, 2),
}
"""By name: what draws it, on how many axes."""


def draw(name: str) -> Image.Image:
    function, count = FIGURES[name]
    figure = Figure(figsize=(3.6 * count, 2.5), layout="constrained")
    axes = [figure.add_subplot(1, count, i + 1) for i in range(count)]
    function(*axes)
    for axis in axes:
        axis.tick_params(labelsize=7)
        for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
            text.set_fontsize(8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90)
    return Image.open(file).convert("RGB").quantize(48)
