from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.ms_ssim import ms_ssim, ms_ssim_diversity

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def slow(x: np.ndarray, y: np.ndarray, span: float, taps: int, scales: int) -> float:
    """One pair (C, H, W) by loops over every window; variances from deviations, not from squares."""
    at = np.arange(taps) - taps // 2
    window = np.exp(-0.5 * (at / (1.5 * taps / 11)) ** 2)
    window = np.outer(window, window) / window.sum() ** 2
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    out = 1.0
    for j in range(scales):
        if j:
            h, w = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
            x, y = (v[:, :h, :w].reshape(len(v), h // 2, 2, w // 2, 2).mean((2, 4)) for v in (x, y))
        local = []
        for c in range(len(x)):
            for r in range(x.shape[1] - taps + 1):
                for s in range(x.shape[2] - taps + 1):
                    a, b = x[c, r : r + taps, s : s + taps], y[c, r : r + taps, s : s + taps]
                    ma, mb = (window * a).sum(), (window * b).sum()
                    va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                    cov = (window * (a - ma) * (b - mb)).sum()
                    value = (2 * cov + c2) / (va + vb + c2)
                    if j == scales - 1:
                        value *= (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
                    local.append(value)
        out *= max(0.0, np.mean(local)) ** (WEIGHTS[j] / WEIGHTS[:scales].sum())
    return out


def alike(shape: tuple[int, ...], noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random(shape)
    return x, np.clip(x + noise * rng.normal(size=shape), 0, 1)


@pytest.mark.parametrize(
    ("shape", "taps", "scales"),
    [
        ((1, 8, 8), 7, 1),
        ((3, 9, 12), 9, 1),
        ((1, 10, 10), 9, 1),
        ((2, 13, 11), 11, 1),
        ((1, 23, 25), 11, 2),
        ((1, 45, 44), 11, 3),
    ],
)
def test_equals_the_loops_over_windows(shape: tuple[int, int, int], taps: int, scales: int) -> None:
    x, y = alike((2, *shape), 0.2)
    found = ms_ssim(4 * x - 1, 4 * y - 1, low=-1, high=3)
    for i in range(2):
        assert found[i] == pytest.approx(slow(4 * x[i], 4 * y[i], 4.0, taps, scales), rel=1e-9)


@pytest.mark.parametrize("shape", [(2, 176, 182), (1, 177, 176)])
def test_equals_torchmetrics(shape: tuple[int, ...]) -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    x, y = (torch.from_numpy(v) for v in alike((2, *shape), 0.3))
    theirs = image.multiscale_structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    ours = ms_ssim(x, y, low=0, high=1, compat="torchmetrics")
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
    assert np.abs(ms_ssim(x, y, low=0, high=1) - ours).max() < 0.02  # they differ at the border alone


def test_flat_images_have_a_closed_form() -> None:
    """Without structure cs = 1, and l = (2ab + C₁)/(a² + b² + C₁) counts with the coarsest scale's weight."""
    a, b, c1 = 0.3, 0.8, 1e-4
    luminance = (2 * a * b + c1) / (a * a + b * b + c1)
    for side, scales in [(8, 1), (32, 2), (176, 5)]:
        x, y = np.full((1, 1, side, side), a), np.full((1, 1, side, side), b)
        weight = WEIGHTS[scales - 1] / (WEIGHTS[:scales].sum() if scales < 5 else 1)
        assert ms_ssim(x, y, low=0, high=1)[0] == pytest.approx(luminance**weight, rel=1e-9)


def test_one_picture_scores_one_and_its_negative_zero() -> None:
    x, _ = alike((1, 1, 40, 40), 0)
    assert ms_ssim(x, x, low=0, high=1)[0] == pytest.approx(1, abs=1e-12)
    assert ms_ssim(x, 1 - x, low=0, high=1)[0] == 0
    copies = ms_ssim_diversity(np.repeat(x, 20, axis=0), low=0, high=1)
    assert copies.value == pytest.approx(1, abs=1e-12)


def test_fewer_kinds_are_less_diverse() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.random((40, 1, 16, 16))
    values = [
        ms_ssim_diversity(kinds[np.arange(400) % count], low=0, high=1, seed=1).value
        for count in (40, 10, 4, 1)
    ]
    assert values == sorted(values)
    # Two images of one kind come with probability 1/count and are alike; the others hardly are.
    unlike = ms_ssim_diversity(rng.random((400, 1, 16, 16)), low=0, high=1).value
    assert values[2] == pytest.approx(0.25 + 0.75 * unlike, abs=0.08)


def test_pairs_stay_within_their_class_and_share_no_sample() -> None:
    """Images of class c are the picture c: a pair within a class is equal, any other would show."""
    pictures = np.random.default_rng(2).random((3, 1, 12, 12))
    classes = np.array([0] * 7 + [1] * 4 + [2])
    found = ms_ssim_diversity(pictures[classes], low=0, high=1, classes=classes)
    np.testing.assert_allclose(found.per_sample[np.isfinite(found.per_sample)], 1, atol=1e-12)
    assert np.isnan(found.per_sample).sum() == 2  # one of seven, and the lone one
    assert "pairs:5" in found.signature
    mixed = ms_ssim_diversity(pictures[classes], low=0, high=1)
    assert mixed.value < 0.9


def test_per_sample_scores_belong_to_pairs_and_the_mean_is_the_value() -> None:
    rng = np.random.default_rng(3)
    x = (0.8 * rng.random((2, 12, 12)) + 0.2 * rng.random((21, 2, 12, 12))).astype(np.float32)
    found = ms_ssim_diversity(x, low=0, high=1, pairs=6, batch=4)
    used = np.flatnonzero(np.isfinite(found.per_sample))
    assert len(used) == 12
    assert np.mean(found.per_sample[used]) == pytest.approx(found.value, rel=1e-12)
    for i in used:
        partner = [j for j in used if j != i and found.per_sample[j] == found.per_sample[i]]
        assert len(partner) == 1
        assert ms_ssim(x[[i]], x[partner], low=0, high=1)[0] == pytest.approx(found.per_sample[i], rel=1e-12)
    assert found.interval[0] < found.value < found.interval[1]


def test_the_interval_covers_the_mean_over_all_pairs() -> None:
    rng = np.random.default_rng(4)
    kinds = rng.random((6, 1, 8, 8))
    truth = np.mean([ms_ssim(np.repeat(kinds[[i]], 6, axis=0), kinds, low=0, high=1) for i in range(6)])
    found = [ms_ssim_diversity(kinds[rng.integers(0, 6, 120)], low=0, high=1).interval for _ in range(200)]
    assert 0.90 <= np.mean([a <= truth <= b for a, b in found]) <= 0.99


def test_range_and_shift_do_not_matter() -> None:
    x, y = alike((3, 1, 16, 16), 0.2)
    grey = ms_ssim(x, y, low=0, high=1)
    np.testing.assert_allclose(ms_ssim(2 * x - 1, 2 * y - 1, low=-1, high=1), grey, rtol=1e-9)
    np.testing.assert_allclose(ms_ssim(x[:, 0], y[:, 0], low=0, high=1), grey, rtol=1e-12)


def test_bad_input_gets_one_sentence() -> None:
    x = np.random.default_rng(5).random((4, 1, 8, 8))
    with pytest.raises(CallError, match="must lie in"):
        ms_ssim_diversity(x * 255, low=0, high=1)
    with pytest.raises(CallError, match="must lie in"):
        ms_ssim_diversity(np.where(x > 0.9, np.nan, x), low=0, high=1)
    with pytest.raises(CallError, match="images must be"):
        ms_ssim_diversity(x[..., :2], low=0, high=1)
    with pytest.raises(CallError, match="pairs must be 1 … 2"):
        ms_ssim_diversity(x, low=0, high=1, pairs=3)
    with pytest.raises(CallError, match="no two images"):
        ms_ssim_diversity(x, low=0, high=1, classes=[0, 1, 2, 3])
    with pytest.raises(CallError, match="each of the 4 samples"):
        ms_ssim_diversity(x, low=0, high=1, classes=[0, 1])
    with pytest.raises(CallError, match="176"):
        ms_ssim(x, x, low=0, high=1, compat="torchmetrics")
    with pytest.raises(CallError, match="range must rise"):
        ms_ssim_diversity(x, low=1, high=0)
