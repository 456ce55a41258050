"""Proxies of damage: closed forms, gradients against differences, and ranks."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from compression import small_models
from scipy.stats import spearmanr
from torch import nn

from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.search.proxies import (
    Proxies,
    collect,
    rank_correlation,
    soft_coverage,
    soft_realism,
)
from niwaki.core.contract import CallError, NiwakiError
from niwaki.evaluation.pairwise.neighbourhood import neighbourhood
from niwaki.features.extractor import NetworkExtractor


def test_the_output_error_is_weighted_by_each_gradient_of_its_own() -> None:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, generator=rng), torch.randn(20, 4, generator=rng)
    f, d = torch.randn(20, 4, generator=rng), torch.zeros(20, 4)
    d[:, 0] = 2.0
    one = Proxies({"a": x}, {"a": y}, {"a": {"fidelity": f, "diversity": d}})
    off = torch.randn(20, 4, generator=rng)
    found = one.of("a", lambda given: y + off if given is x else y)
    assert found["fidelity"] == pytest.approx(float((f * off).sum(1).square().mean()), rel=1e-5)
    assert found["diversity"] == pytest.approx(float(4 * off[:, 0].square().mean()), rel=1e-5)
    plain = Proxies({"a": x}, {"a": y}, {}, "no gradients").of("a", lambda _: y + off)
    share = float(off.square().sum() / (y - y.mean(0)).square().sum())
    assert plain == {"fidelity": pytest.approx(share, rel=1e-5), "diversity": pytest.approx(share, rel=1e-5)}
    with pytest.raises(CallError, match="no proxy of 'b'"):
        one.of("b", lambda given: given)


def test_the_smooth_statistics_are_those_of_the_verdict() -> None:
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(60, 5)), rng.normal(size=(40, 5)) * 1.2
    place = neighbourhood(real, made, 5)
    x = torch.tensor(made, requires_grad=True)
    realism = soft_realism(x, torch.tensor(real))
    np.testing.assert_allclose(realism.detach(), place.log_realism, atol=1e-6)
    # ∂ log(r/|x − f|) = −(x − f)/|x − f|², f the real sample that decides
    (gradient,) = torch.autograd.grad(realism.sum(), x)
    assert torch.allclose((gradient.square().sum(1)).rsqrt(), torch.tensor(_distance(place, real, made)))
    # hard claims: reached with probability 1 − exp(−c)
    hard = soft_coverage(torch.tensor(made), torch.tensor(real), soft=1e-6)
    assert float(hard) == pytest.approx(float((1 - np.exp(-place.counts())).mean()), abs=1e-9)


def _distance(place: Any, real: np.ndarray, made: np.ndarray) -> np.ndarray:
    """From each made sample to the real one that decides on its realism."""
    own = np.sort(np.linalg.norm(real[:, None] - real[None], axis=2), 1)[:, 5]
    own = np.minimum(own, np.sort(own)[(len(own) - 1) // 2])
    far = np.linalg.norm(made[:, None] - real[None], axis=2)
    return far[np.arange(len(made)), (own[None] / far).argmax(1)]


def test_coverage_does_not_answer_to_moving_off_from_all_alike() -> None:
    """Real samples in a plane, made ones above it: higher up the order of the distances is the same."""
    rng = torch.Generator().manual_seed(0)
    real = torch.cat([torch.randn(50, 2, generator=rng, dtype=torch.float64), torch.zeros(50, 1)], 1)
    made = torch.cat([torch.randn(30, 2, generator=rng, dtype=torch.float64), torch.zeros(30, 1)], 1)
    up = torch.tensor([0.0, 0.0, 0.05], dtype=torch.float64)
    moved, lost = (
        float(f(made + up, real).mean() - f(made, real).mean()) for f in (soft_coverage, soft_realism)
    )
    assert abs(moved) < 0.002
    assert lost < -0.02
    gone = made.clone()
    gone[:20] = made[0]  # most are copies of one
    assert float(soft_coverage(gone, real)) < float(soft_coverage(made, real)) - 0.1


def _extractor() -> NetworkExtractor:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh())
    return NetworkExtractor("eyes", small_models.IMAGE, network, dim=8, settings={}, device="cpu")


@pytest.mark.parametrize("layer", ["generator.conv1", "generator.last"])
def test_gradients_reach_every_layer_and_foretell_a_small_change(layer: str) -> None:
    model, eyes = small_models.gan().eval(), _extractor()
    real = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32) * 0.3
    items = calibration_inputs(model, 16)
    found = collect(model, items, eyes, real)
    assert not found.plain
    assert set(found.inputs) == {f"generator.{n}" for n in ("start", "conv1", "conv2", "last")}
    module = model.get_submodule(layer)
    np.testing.assert_allclose(module(found.inputs[layer]).detach(), found.outputs[layer], atol=1e-6)
    assert all(p.requires_grad for p in model.parameters())  # as before

    def statistics(step: torch.Tensor) -> dict[str, float]:
        handle = module.register_forward_hook(lambda m, i, out: out + step)
        with torch.no_grad():
            x = model.generator(*[torch.tensor(v) for v in _batch(items)])
            features, among = eyes.tensor_features(x.clamp(-1, 1)).double(), torch.tensor(real).double()
            made = soft_realism(features, among).sum(), soft_coverage(features, among)
        handle.remove()
        return {"fidelity": float(made[0]), "diversity": float(made[1])}

    for axis in ("fidelity", "diversity"):
        g = found.gradients[layer][axis]
        size = float(g.norm())
        assert size > 0
        up, down = (statistics(sign * 0.002 * g / size)[axis] for sign in (1, -1))
        assert (up - down) / 0.004 == pytest.approx(size, rel=0.03)


def _batch(items: Any) -> list[np.ndarray]:
    rows = items["generator"]
    return [np.concatenate([row[name] for row in rows]) for name in rows[0]]


def test_where_nothing_can_be_differentiated_both_axes_are_the_plain_error() -> None:
    real = np.zeros((40, 8), np.float32)
    diffusion = small_models.ddpm().eval()
    found = collect(diffusion, calibration_inputs(diffusion, 12), _extractor(), real)
    assert "one call" in found.plain
    assert not found.gradients
    half = nn.Conv2d(32, 16, 3, padding=1)
    half.load_state_dict({k: 0.5 * v for k, v in diffusion.unet.grow.state_dict().items()})
    error = found.of("unet.grow", half)
    assert error["fidelity"] == error["diversity"] > 0
    model = small_models.gan().eval()
    stranger: Any = SimpleNamespace(name="eyes")
    assert "no torch network" in collect(model, calibration_inputs(model, 8), stranger, real).plain
    recurrent = small_models.recurrent().eval()
    with pytest.raises(NiwakiError, match="one batch"):
        collect(recurrent, calibration_inputs(recurrent, 8), stranger, real)


def test_rank_correlation_is_spearmans_with_a_bound_below_it() -> None:
    rng = np.random.default_rng(0)
    damage = rng.normal(size=20)
    proxy = damage + 0.5 * rng.normal(size=20)
    found = rank_correlation(proxy.tolist(), damage.tolist(), seed=1)
    assert found.rho == pytest.approx(spearmanr(proxy, damage).statistic)
    assert 0.3 < found.lower < found.rho
    assert found == rank_correlation(proxy.tolist(), damage.tolist(), seed=1)
    ties = np.round(proxy)
    assert rank_correlation(ties, damage).rho == pytest.approx(spearmanr(ties, damage).statistic)
    same = rank_correlation([1, 2, 3, 4, math.inf], [10, 20, 30, 40, 50])
    assert same.rho == pytest.approx(1.0)
    assert rank_correlation([1.0] * 6, range(6)) == rank_correlation([1.0] * 6, range(6))
    assert rank_correlation([1.0] * 6, range(6)).rho == 0.0


@pytest.mark.parametrize(
    ("proxy", "damage", "words"),
    [
        ([1, 2, 3], [1, 2, 3], "four trials"),
        ([1, 2, 3, 4], [1, 2, 3], "4 proxies"),
        ([math.nan] * 4, [1] * 4, "a number"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(proxy: list[float], damage: list[float], words: str) -> None:
    with pytest.raises(CallError, match=words):
        rank_correlation(proxy, damage)
