"""Figures as people read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = [
    "METRICS",
    "MetricWords",
    "bytes_text",
    "change_text",
    "count_text",
    "interval_text",
    "metric_words",
    "ms_range_text",
    "ms_text",
    "number_text",
    "seconds_text",
    "sentence_list",
]

NONE = "not measured"


def number_text(value: float | None, figures: int = 3) -> str:
    """Three figures, thousands parted by thin spaces, no exponent unless it must be."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(float(f"{value:.{figures - 1}e}"))))  # 99.96 has the size of 100
    if not -5 < size < 9:
        return f"{value:.{figures - 1}e}"
    text = f"{value:,.{max(0, figures - 1 - size)}f}" if size < figures else f"{value:,.0f}"
    return text.replace(",", "\u202f").replace("-", "−")


def count_text(n: float | None) -> str:
    """A whole number, thousands parted by thin spaces."""
    return NONE if n is None else f"{round(n):,}".replace(",", "\u202f")


def interval_text(low: float, high: float) -> str:
    """Both ends with the same number of decimals: three figures of the larger one."""
    size = max(abs(low), abs(high))
    decimals = 2 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    return " … ".join(f"{v:,.{decimals}f}".replace(",", "\u202f").replace("-", "−") for v in (low, high))


def bytes_text(n: float | None) -> str:
    """`812 B`, `64.1 kB`, `3.20 MB`: powers of 1000."""
    if n is None:
        return NONE
    for unit in ("B", "kB", "MB"):
        if abs(n) < 999.5:
            return f"{n:.0f} B" if unit == "B" else f"{number_text(n)} {unit}"
        n /= 1000
    return f"{number_text(n)} GB"


def ms_text(ms: float | None) -> str:
    """`0.094 ms`, `12.3 ms`, `1.20 s`."""
    if ms is None:
        return NONE
    if ms < 0.1:
        return f"{ms:.3f} ms"  # a thousandth of a millisecond is less than clocks can tell
    return f"{number_text(ms / 1000)} s" if ms >= 1000 else f"{number_text(ms)} ms"


def ms_range_text(low: float, high: float) -> str:
    """`37 … 145 ms`, `1.20 … 3.10 s`: in the unit of the larger end."""
    if high >= 1000:
        return f"{interval_text(low / 1000, high / 1000)} s"
    return f"{interval_text(low, high)} ms"


def seconds_text(seconds: float | None) -> str:
    """`3.2 s`, `4 min 10 s`, `2 h 5 min`."""
    if seconds is None:
        return NONE
    if seconds < 99.5:
        return f"{number_text(seconds, 2 if seconds < 10 else 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def change_text(before: float | None, after: float | None, less: str, more: str) -> str:
    """`11.4× smaller`: how often the smaller goes into the larger. Empty where one is missing."""
    if not before or not after:
        return ""
    factor = before / after
    if abs(factor - 1) < 0.005:
        return "unchanged"
    return f"{number_text(factor)}× {less}" if factor > 1 else f"{number_text(1 / factor)}× {more}"


def sentence_list(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


@dataclass(frozen=True)
class MetricWords:
    """How a metric is called, on which axis it lies, which way is better, and what it says."""

    title: str
    axis: str
    better: str
    says: str


_RECOGNISED = MetricWords(
    "Recognised as asked", "fidelity", "higher", "the share that a classifier takes for the class asked for"
)
METRICS: dict[str, MetricWords] = {
    "frechet": MetricWords(
        "Fréchet distance",
        "both",
        "lower",
        "how far the means and spreads of generated and real features lie apart",
    ),
    "kernel": MetricWords(
        "Kernel distance",
        "both",
        "lower",
        "an unbiased distance between both sets of features; 0 means that they cannot be told apart",
    ),
    "precision": MetricWords(
        "Precision", "fidelity", "higher", "the share of generated samples that lie among real ones"
    ),
    "density": MetricWords(
        "Density", "fidelity", "higher", "how deep generated samples lie among real ones; ideally 1"
    ),
    "realism": MetricWords(
        "Realism",
        "fidelity",
        "higher",
        "how close samples lie to real ones, for how densely those lie; above 1: among them",
    ),
    "recognised": _RECOGNISED,
    "accuracy": _RECOGNISED,
    "read_back": MetricWords(
        "Read back as asked",
        "fidelity",
        "higher",
        "the share that shows what was asked for, by a reader of labels",
    ),
    "recall": MetricWords(
        "Recall", "diversity", "higher", "the share of real samples that lie among generated ones"
    ),
    "coverage": MetricWords(
        "Coverage", "diversity", "higher", "the share of real samples with a generated one close by"
    ),
    "close": MetricWords(
        "Close to training samples",
        "memory",
        "lower",
        "the share nearer to a training sample than 99 % of test samples are; 0.01 where nothing is copied",
    ),
    "rarity": MetricWords(
        "Rarity",
        "",
        "",
        "how sparse the real samples lie around a generated one; neither high nor low is better",
    ),
    "vendi": MetricWords(
        "Vendi score", "diversity", "higher", "how many distinct samples there effectively are"
    ),
    "authenticity": MetricWords(
        "Authenticity",
        "memory",
        "higher",
        "the share of generated samples that are no copies of training samples",
    ),
    "log_realism": MetricWords(
        "Log realism", "fidelity", "higher", "how near samples lie to real ones, for how densely those lie"
    ),
    "rarefied_coverage": MetricWords(
        "Rarefied coverage",
        "diversity",
        "higher",
        "the share of real samples among the nearest of a generated one",
    ),
    "frechet_infinity": MetricWords(
        "Fréchet distance, n → ∞", "both", "lower", "the distance that infinitely many samples would have"
    ),
    "cmmd": MetricWords("CMMD", "both", "lower", "a kernel distance between directions of features"),
    "mind": MetricWords("MIND", "both", "lower", "how far sorted projections of both sets lie apart"),
    "inception_score": MetricWords(
        "Inception score", "both", "higher", "how sure the classifier is, and how evenly it uses its classes"
    ),
    "alpha_precision": MetricWords(
        "α-precision", "fidelity", "higher", "how evenly samples fill the quantile balls of the real ones"
    ),
    "beta_recall": MetricWords(
        "β-recall", "diversity", "higher", "how evenly the quantile balls of the samples cover the real ones"
    ),
    "mifid": MetricWords(
        "Memorisation-informed Fréchet distance",
        "both",
        "lower",
        "raised where samples resemble the training set",
    ),
    "copying_test": MetricWords(
        "Copying test C_T",
        "memory",
        "higher",
        "far below 0 where samples lie nearer to the training set than real ones",
    ),
    "feature_likelihood": MetricWords(
        "Feature likelihood divergence",
        "both",
        "lower",
        "how unlikely test samples are by the generated ones",
    ),
    "feature_likelihood_gap": MetricWords(
        "Feature likelihood gap",
        "memory",
        "lower",
        "how much likelier training than test samples are",
    ),
    "lsh_precision": MetricWords(
        "Precision (hashed)", "fidelity", "higher", "the share of samples that meet a real one in a bucket"
    ),
    "lsh_recall": MetricWords(
        "Recall (hashed)",
        "diversity",
        "higher",
        "the share of real samples that meet one in a bucket",
    ),
    "ms_ssim": MetricWords("MS-SSIM of pairs", "diversity", "lower", "how alike two samples of a class look"),
    "temporal_consistency": MetricWords(
        "Temporal consistency", "fidelity", "higher", "how alike neighbouring frames are, shifted"
    ),
    "motion_error": MetricWords(
        "Motion error", "fidelity", "lower", "pixels between a thing and where its velocity sends it"
    ),
    "position_error": MetricWords(
        "Position error", "fidelity", "lower", "pixels between a thing and where it should have come"
    ),
    "frames_recognised": MetricWords(
        "Frames recognised", "fidelity", "higher", "the share of frames that show what was asked for"
    ),
    "same_all_along": MetricWords(
        "The same all along", "fidelity", "higher", "the share of a clip's frames that show the same class"
    ),
    "modes_reached": MetricWords("Modes reached", "diversity", "higher", "how many modes some sample shows"),
    "modes_divergence": MetricWords(
        "Modes' divergence", "diversity", "lower", "how unevenly samples are spread over the modes"
    ),
}


_FORMER_NAMES = {"closeness": "log_realism", "reach": "rarefied_coverage"}
"""What older records call a metric → its name."""


def metric_words(name: str) -> MetricWords:
    """By the metric's name or the words in it; an unknown one is shown under its own name."""
    key = name.lower().replace(" ", "_")
    key = _FORMER_NAMES.get(key, key)
    for stem, words in METRICS.items():
        if key == stem:
            return words
    for stem, words in METRICS.items():
        if key.startswith(stem) or f"_{stem}" in key:
            extra = key.replace(stem, "").replace("distance", "").strip("_").replace("_", " ")
            return MetricWords(
                f"{words.title} ({extra})" if extra else words.title, words.axis, words.better, words.says
            )
    return MetricWords(name.replace("_", " ").capitalize(), "", "", "")
