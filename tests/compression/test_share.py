"""Sharing weights: the best clusters there are, zeros that stay, and nothing else that changes."""

from __future__ import annotations

import copy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from compression import small_models
from scipy.special import ndtri

from niwaki.compression.quantization.norms import fold_norms
from niwaki.compression.storage.clusters import centres, nearest_centre
from niwaki.compression.storage.config import ShareConfig
from niwaki.compression.storage.share import share, shared
from niwaki.core.contract import CallError, DataSpec, GenerativeModel, NiwakiError
from niwaki.deployment import bundle_bytes, export_graphs, package
from niwaki.deployment.repack import pack_bundle
from niwaki.models.gan.dcgan import Dcgan, DcganConfig
from niwaki.models.io import load_model, save_model


def loss(values: np.ndarray, found: np.ndarray) -> float:
    return float(np.square(values - found[nearest_centre(values, found)]).sum())


def brute(values: np.ndarray, k: int) -> float:
    """Σ (value − centre)² of the best partition: on a line clusters are intervals, so try all borders."""
    x = np.sort(values)
    best = np.inf
    for borders in combinations(range(1, len(x)), k - 1):
        parts = np.split(x, borders)
        best = min(best, sum(float(np.square(p - p.mean()).sum()) for p in parts))
    return best


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_no_partition_is_better(k: int, seed: int) -> None:
    g = np.random.default_rng(seed)
    values = np.concatenate([g.standard_normal(7), g.integers(-2, 3, 5), [3.0, 3.0]])
    found = centres(values, k)
    assert len(found) == k
    assert (np.diff(found) > 0).all()
    assert loss(values, found) == pytest.approx(brute(values, k), rel=1e-9, abs=1e-12)


def test_a_far_origin_does_not_hurt() -> None:
    values = np.random.default_rng(0).standard_normal(12)
    np.testing.assert_allclose(centres(values + 1e6, 3) - 1e6, centres(values, 3), atol=1e-6)


@pytest.mark.parametrize(("k", "over"), [(2, 1.001), (16, 1.03), (64, 1.1)])
@pytest.mark.parametrize("kind", ["normal", "laplace", "two hills", "repeated"])
def test_groups_cost_next_to_nothing(kind: str, k: int, over: float) -> None:
    """With more different values than the exact method takes: against the exact optimum, and fixed points."""
    g = np.random.default_rng(1)
    values = {
        "normal": lambda: g.standard_normal(1200),
        "laplace": lambda: g.laplace(size=1200),
        "two hills": lambda: g.standard_normal(1200) * 0.1 + g.integers(0, 2, 1200),
        "repeated": lambda: np.concatenate([np.full(50_000, 0.5), g.standard_normal(1200)]),
    }[kind]()
    exact, fast = centres(values, k, bins=2000), centres(values, k, bins=600)
    assert loss(values, exact) - 1e-9 <= loss(values, fast) <= over * loss(values, exact)
    index = nearest_centre(values, fast)
    means = [values[index == i].mean() for i in range(k)]
    np.testing.assert_allclose(fast, means, atol=1e-9)


def test_better_than_lloyd_from_equal_steps() -> None:
    """What Deep Compression starts with, on weights with long tails."""
    values = np.random.default_rng(2).standard_t(4, 20_000)
    found = np.linspace(values.min(), values.max(), 16)
    for _ in range(100):
        index = nearest_centre(values, found)
        found = np.array([values[index == i].mean() if (index == i).any() else found[i] for i in range(16)])
    assert loss(values, centres(values, 16)) <= loss(values, found)


def test_the_best_sixteen_levels_for_a_normal_variable() -> None:
    """Max 1960, "Quantizing for minimum distortion", Table I: a mean squared error of 0.009497."""
    values = ndtri((np.arange(200_000) + 0.5) / 200_000)
    assert loss(values, centres(values, 16)) / len(values) == pytest.approx(0.009497, rel=0.002)


def test_degenerate_values() -> None:
    assert centres(np.array([2.0]), 4).tolist() == [2.0]
    assert centres(np.full(9, 2.0), 4).tolist() == [2.0]
    assert centres(np.array([1.0, 2.0, 2.0]), 2).tolist() == [1.0, 2.0]
    assert nearest_centre(np.array([-9.0, 1.4, 1.5, 9.0]), np.array([1.0, 2.0])).tolist() == [0, 0, 0, 1]


MODELS = {
    "plain": lambda: small_models.gan("plain"),
    "transposed": lambda: small_models.gan("transposed"),
    "hard": lambda: small_models.gan("hard"),
    "diffusion": small_models.ddpm,
    "flow": small_models.flow,
    "recurrent": small_models.recurrent,
}


def distinct(weight: torch.Tensor) -> int:
    return len(torch.unique(weight))


@pytest.mark.parametrize("name", MODELS)
def test_few_values_per_layer_and_nothing_else(name: str) -> None:
    model: GenerativeModel = MODELS[name]().eval()
    given = copy.deepcopy(model.state_dict())
    done = shared(model, ShareConfig(clusters=8))
    assert all(torch.equal(value, given[key]) for key, value in model.state_dict().items())
    folded = copy.deepcopy(model)
    fold_norms(folded)
    before, after = folded.state_dict(), done.model.state_dict()
    assert done.errors
    assert before.keys() == after.keys()
    for key in before:
        if key in done.errors:
            assert distinct(after[key]) == 8
            assert 0 < done.errors[key] < 0.1
        else:
            assert torch.equal(after[key], before[key])
    assert torch.isfinite(done.model.sample(3, seed=0).float()).all()


def test_the_device_multiplies_with_few_values(tmp_path: Path) -> None:
    """Neither a batch norm nor a merged upsampling multiplies them: 16 values take 4 bits, and a few more."""
    config = DcganConfig(latent=16, width=64, max_width=128)
    model = Dcgan(config, DataSpec.of("image", (1, 8, 8), classes=4)).eval()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    made = share(model, clusters=16)
    save_model(made, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert torch.equal(again.sample(3, seed=0), made.sample(3, seed=0))
    graphs = export_graphs(made, tmp_path)
    bundle = package(made, graphs, tmp_path / "model.niwaki")
    packed = pack_bundle(bundle, tmp_path / "packed.niwaki")
    weights = sum(p.numel() for p in made.generator.parameters() if p.dim() > 1)
    assert bundle_bytes(packed) < weights * 5 / 8 + 16_000  # the graph itself takes the rest


def test_more_clusters_lose_less() -> None:
    model = small_models.gan("plain", width=32).eval()
    lost = [sum(shared(model, ShareConfig(clusters=k)).errors.values()) for k in (2, 4, 16, 64)]
    assert lost == sorted(lost, reverse=True)
    per_channel = sum(shared(model, ShareConfig(clusters=4, per="channel")).errors.values())
    assert per_channel < lost[1]


@pytest.mark.parametrize("body", ["plain", "transposed"])
def test_values_per_output_channel(body: str) -> None:
    model = share(small_models.gan(body, width=16).eval(), clusters=3, per="channel")
    for part in model.generator.modules():
        if isinstance(part, torch.nn.Conv2d):
            assert all(distinct(row) <= 3 for row in part.weight)
        if isinstance(part, torch.nn.ConvTranspose2d):
            assert all(distinct(row) <= 3 for row in part.weight.transpose(0, 1))


@pytest.mark.parametrize("per", ["layer", "channel"])
def test_zeros_stay_zeros_and_nothing_joins_them(per: str) -> None:
    model = small_models.gan("plain", width=16).eval()
    layer = model.generator.conv1
    with torch.no_grad():
        layer.weight *= torch.rand_like(layer.weight) < 0.3
        layer.weight[0] = 0  # a whole channel
    made = share(model, clusters=4, per=per).generator.conv1.weight
    assert torch.equal(made == 0, layer.weight == 0)
    rows = made if per == "channel" else [made]
    assert all(distinct(row) <= 4 for row in rows)


def test_a_layer_that_is_excluded_keeps_its_weights() -> None:
    model = small_models.gan("plain").eval()
    done = shared(model, ShareConfig(exclude=("generator.last",)))
    assert torch.equal(done.model.generator.last.weight, model.generator.last.weight)
    assert "excluded" in done.skipped["generator.last"]


def test_sharing_twice_does_nothing_the_second_time() -> None:
    once = share(small_models.gan("plain").eval(), clusters=8)
    with pytest.raises(NiwakiError, match=r"sharing changed nothing.*no more than 8 different weights"):
        share(once, clusters=8)
    share(once, clusters=4)


@pytest.mark.parametrize("wrong", [{"clusters": 1}, {"clusters": 257}, {"per": "model"}, {"cluster": 4}])
def test_wrong_settings(wrong: dict) -> None:
    with pytest.raises(CallError):
        ShareConfig(**wrong)


def test_not_after_quantize() -> None:
    from niwaki.compression import QuantizeConfig

    assert "integers" in ShareConfig().refusal([QuantizeConfig()])
    assert ShareConfig().refusal([]) == ""
