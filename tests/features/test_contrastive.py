"""NT-Xent and InfoNCE against their definitions, written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from niwaki.nn.contrastive import info_nce, nt_xent


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))


def slow_nt_xent(a: Tensor, b: Tensor, temperature: float) -> float:
    """Equation 1 of Chen et al. 2020 by loops: z_2k−1 and z_2k are the views of sample k."""
    views = [v for pair in zip(a, b, strict=True) for v in pair]
    total = 0.0
    for i in range(len(views)):
        j = i + 1 if i % 2 == 0 else i - 1
        below = sum(math.exp(cosine(views[i], views[k]) / temperature) for k in range(len(views)) if k != i)
        total += -math.log(math.exp(cosine(views[i], views[j]) / temperature) / below)
    return total / len(views)


@pytest.mark.parametrize(("n", "d", "temperature"), [(1, 3, 0.5), (2, 4, 0.5), (7, 5, 0.1), (16, 64, 0.07)])
def test_nt_xent_is_its_definition(n: int, d: int, temperature: float) -> None:
    rng = torch.Generator().manual_seed(n)
    a, b = (torch.randn(n, d, generator=rng, dtype=torch.float64) * 3 for _ in range(2))
    ours = float(nt_xent(a, b, temperature))
    assert ours == pytest.approx(slow_nt_xent(a, b, temperature), rel=1e-12, abs=1e-12)
    assert float(nt_xent(a.float(), b.float(), temperature)) == pytest.approx(ours, rel=1e-5, abs=1e-6)


def test_nt_xent_of_known_scenes() -> None:
    eye = torch.eye(8, dtype=torch.float64)[:4]
    # Partners equal, all others orthogonal: −log(e^(1/τ) / (e^(1/τ) + 2n − 2)).
    expected = math.log(1 + 6 * math.exp(-1 / 0.5))
    assert float(nt_xent(eye, eye, 0.5)) == pytest.approx(expected, abs=1e-12)
    same = torch.ones(4, 8, dtype=torch.float64)
    assert float(nt_xent(same, same, 0.5)) == pytest.approx(math.log(7), abs=1e-12)
    # The lengths of the projections and the order of the two views do not matter.
    a, b = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    assert float(nt_xent(a * 9, b / 7, 0.2)) == pytest.approx(float(nt_xent(b, a, 0.2)), abs=1e-12)


def slow_info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> float:
    total = 0.0
    for q, k in zip(query, key, strict=True):
        own = math.exp(float(q @ k) / temperature)
        total += -math.log(own / (own + sum(math.exp(float(q @ other) / temperature) for other in queue)))
    return total / len(query)


def test_info_nce_is_its_definition() -> None:
    q, k, queue = (F.normalize(torch.randn(n, 6, dtype=torch.float64), dim=1) for n in (5, 5, 11))
    assert float(info_nce(q, k, queue, 0.2)) == pytest.approx(slow_info_nce(q, k, queue, 0.2), abs=1e-12)


def test_under_autocast_they_are_computed_in_float32() -> None:
    a, b = torch.randn(64, 16), torch.randn(64, 16)
    queue = F.normalize(torch.randn(100, 16), dim=1)
    q, k = F.normalize(a, dim=1), F.normalize(b, dim=1)
    exact = nt_xent(a, b, 0.1), info_nce(q, k, queue, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = nt_xent(a, b, 0.1), info_nce(q, k, queue, 0.1)
    assert all(torch.equal(x, y) and y.dtype == torch.float32 for x, y in zip(exact, rounded, strict=True))
