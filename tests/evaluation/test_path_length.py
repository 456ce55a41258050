from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.path_length import path_length

EPSILON = 1e-4


def latents(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2 * n, d))


def test_a_linear_map_on_straight_paths_has_a_closed_form() -> None:
    """g(z) = Az: ‖A(b − a)‖² wherever the step is, and 2‖A‖² on average over normal latents."""
    z, a = latents(4000, 5), np.random.default_rng(1).normal(size=(5, 7))
    found = path_length(lambda z: z @ a, z, path="lerp", trim=(0, 100), batch=500)
    expected = (((z[1::2] - z[0::2]) @ a) ** 2).sum(1)
    np.testing.assert_allclose(found.per_sample, expected, rtol=1e-9)
    assert found.value == pytest.approx(expected.mean(), rel=1e-9)
    assert found.interval[0] < 2 * (a**2).sum() < found.interval[1]


def test_on_the_sphere_the_path_is_the_arc() -> None:
    """For ends of equal length r the path has the constant speed rΩ."""
    z = latents(50, 6)
    z *= 3 / np.linalg.norm(z, axis=1, keepdims=True)
    angle = np.arccos((z[0::2] * z[1::2]).sum(1) / 9)
    found = path_length(lambda z: z, z, trim=(0, 100), epsilon=EPSILON)
    chord = 2 * 3 * np.sin(angle * EPSILON / 2)  # of the arc between t and t + ε
    np.testing.assert_allclose(found.per_sample, (chord / EPSILON) ** 2, rtol=1e-7)
    np.testing.assert_allclose(found.per_sample, (3 * angle) ** 2, rtol=1e-7)


def test_slerp_stays_between_its_ends() -> None:
    """From a to b of lengths 1 and 2 at a right angle: cos(tπ/2)·a + sin(tπ/2)·b."""
    z = np.array([[1.0, 0, 0], [0, 2.0, 0]] * 3)
    seen: list[np.ndarray] = []
    path_length(lambda z: seen.append(z.copy()) or z, z, seed=3)
    t = np.random.default_rng(3).random(3)
    expected = np.stack([np.cos(t * np.pi / 2), 2 * np.sin(t * np.pi / 2), 0 * t], 1)
    np.testing.assert_allclose(seen[0], expected, atol=1e-12)


def test_parallel_ends_take_the_straight_way() -> None:
    z = np.array([[1.0, 1], [2, 2], [3, 3], [1, 1]])
    found = path_length(lambda z: z, z, trim=(0, 100))
    np.testing.assert_allclose(found.per_sample, [2, 8], rtol=1e-7)


def test_features_are_what_is_measured() -> None:
    z = latents(20, 4)
    plain = path_length(lambda z: z, z, path="lerp")
    scaled = path_length(lambda z: z, z, path="lerp", features=lambda x: 3 * x)
    assert scaled.value == pytest.approx(9 * plain.value, rel=1e-9)
    constant = path_length(lambda z: z, z, features=np.ones_like)
    assert constant.value == 0
    assert constant.interval == (0, 0)


def test_torch_shapes_and_batches_do_not_matter() -> None:
    z = latents(30, 12)
    weight = np.random.default_rng(2).normal(size=(12, 3))

    def g(z: Any) -> Any:
        assert isinstance(z, torch.Tensor)
        return torch.tanh(z.flatten(1) @ torch.from_numpy(weight))

    images = torch.from_numpy(z).reshape(60, 3, 2, 2).requires_grad_()
    first = path_length(lambda z: np.tanh(z @ weight), z, batch=7)
    second = path_length(g, images, batch=64)
    np.testing.assert_allclose(second.per_sample, first.per_sample, rtol=1e-9)


def test_labels_go_along_with_their_path() -> None:
    z, label = latents(10, 3), np.arange(10)
    found = path_length(lambda z, y: z * y[:, None], z, labels=label, path="lerp", trim=(0, 100), batch=3)
    expected = label**2 * ((z[1::2] - z[0::2]) ** 2).sum(1)
    np.testing.assert_allclose(found.per_sample, expected, rtol=1e-8, atol=1e-12)


def test_noise_that_follows_the_row_is_shared() -> None:
    z = latents(25, 4)
    noise = 100 * np.random.default_rng(5).normal(size=(64, 4))
    still = path_length(lambda z: z, z)
    noisy = path_length(lambda z: z + noise[: len(z)], z)
    assert noisy.value == pytest.approx(still.value, rel=1e-6)


def test_trimming_is_that_of_the_papers_code() -> None:
    z = np.zeros((400, 1))
    z[1::2, 0] = np.sqrt(np.arange(200))  # distances 0 … 199
    found = path_length(lambda z: z, z, path="lerp", trim=(1, 99))
    np.testing.assert_allclose(found.value, np.arange(1, 199).mean(), rtol=1e-6)  # ranks 1.99 ↓ and 197.01 ↑
    z[-1] = 1e6
    assert path_length(lambda z: z, z, path="lerp", trim=(1, 99)).value < 110
    assert path_length(lambda z: z, z, path="lerp", trim=(0, 100)).value > 1e9


def test_the_interval_covers_the_trimmed_mean() -> None:
    """Distances 2χ²₁: the trimmed mean of the distribution by quadrature."""
    from scipy.stats import chi2

    at = (np.arange(200000) + 0.5) / 200000
    truth = 2 * chi2.ppf(at[(at > 0.1) & (at < 0.8)], 1).mean()
    found = [
        path_length(lambda z: z, latents(300, 1, seed), path="lerp", trim=(10, 80), batch=300).interval
        for seed in range(300)
    ]
    assert 0.91 <= np.mean([a <= truth <= b for a, b in found]) <= 0.98


def test_bad_input_gets_one_sentence() -> None:
    z = latents(4, 3)
    with pytest.raises(CallError, match="odd"):
        path_length(lambda z: z, z[:7])
    with pytest.raises(CallError, match="did you mean 'slerp'"):
        path_length(lambda z: z, z, path="slrp")
    with pytest.raises(CallError, match="float64 or float32"):
        path_length(lambda z: z, z.astype(np.float16))
    with pytest.raises(CallError, match="NaN"):
        path_length(lambda z: z * np.nan, z)
    with pytest.raises(CallError, match="gave features"):
        path_length(lambda z: z[:2], z)
    with pytest.raises(CallError, match="percentiles"):
        path_length(lambda z: z, z, trim=(99, 1))
    with pytest.raises(CallError, match="epsilon"):
        path_length(lambda z: z, z, epsilon=0)
