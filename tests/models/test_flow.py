"""RealNVP: exact inverse, exact density, before and after its conditioners are pruned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import DIGITS, POINTS, batch, context, make
from torch.distributions import Normal

import niwaki_runtime
from niwaki.compression import prune
from niwaki.core.contract import Batch, DataSpec, GenerativeModel
from niwaki.data import DataConfig, load
from niwaki.data.inputs import make_inputs
from niwaki.deployment import export_graphs, package
from niwaki.models.flow.layers import ActNorm, Coupling
from niwaki.models.flow.marginals import Marginals
from niwaki.models.flow.masks import coupling_masks
from niwaki.models.flow.transforms import Affine
from niwaki.models.registry import build
from niwaki_runtime import bundle as bundle_module

PLANE = DataSpec.of("vector", (2,), low=-2.0, high=2.0, classes=2)


def stirred(model: GenerativeModel, size: float = 0.3) -> GenerativeModel:
    """Weights away from the identity, as training makes them."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn(p.shape) / (p.shape[-1] ** 0.5 if p.ndim > 1 else 1.0))
    return model.eval()


def real(n: int) -> Batch:
    """Test digits."""
    return Batch({name: c.values()[:n] for name, c in load(DataConfig(source="digits")).test.columns.items()})


def begun(model: GenerativeModel) -> GenerativeModel:
    """With the histograms and shares of real digits, in the model's own precision."""
    split = load(DataConfig(source="digits")).train
    x, y = split.values().to(model.log_prior.dtype), split.columns["class"].values()
    with torch.no_grad():
        model.begin_stage(context(), lambda k: Batch({"x": x[k::32], "class": y[k::32]}))
    return model


def digits_model(**changes: object) -> GenerativeModel:
    return stirred(begun(make("realnvp", **changes)))


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("changes", [{}, {"coupling": "additive", "actnorm": False}], ids=["affine", "nice"])
def test_x_to_z_to_x_also_when_pruned(changes: dict[str, object], ratio: float) -> None:
    model = digits_model(**changes)
    before = sum(p.numel() for p in model.parameters())
    if ratio:
        model = prune(model, ratio=ratio, min_width=4, round_to=4)
        assert sum(p.numel() for p in model.parameters()) < 0.75 * before
    data = real(64)
    x, y = data.x, data["class"]
    torch.testing.assert_close(model.inverse(model.encode(x, y), y), x, atol=1e-5, rtol=0)
    z = torch.from_numpy(np.random.default_rng(0).uniform(-2, 2, (64, 64)))
    model = begun(model.double())
    torch.testing.assert_close(model.encode(model.inverse(z, y), y), z, atol=1e-9, rtol=0)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_the_log_determinant_is_that_of_the_jacobian(ratio: float) -> None:
    model = digits_model()
    if ratio:
        model = prune(model, ratio=ratio, min_width=4, round_to=4)
    model = begun(model.double())
    data = batch(DIGITS, n=3)
    x, y = data.x.double(), data["class"]
    logdet = model(x, y)[1]
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda row, i=i: model.encode(row[None], y[i : i + 1])[0], x[i]
        ).reshape(64, 64)
        expected = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(logdet[i], expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_the_density_sums_to_one_over_the_plane(ratio: float) -> None:
    model = stirred(make("realnvp", PLANE), 0.1)
    with torch.no_grad():
        model.marginals.fit(torch.tensor([[-1.0, 0.5], [0.1, 0.7], [1.5, -1.2]]))
        model.log_prior.copy_(torch.tensor([0.3, 0.7]).log())
    if ratio:
        model = prune(model, ratio=ratio, min_width=4, round_to=4)
    model.double()
    n = 320
    middle = -2.0 + 4.0 * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    plane = torch.cartesian_prod(middle, middle)
    with torch.no_grad():
        total = model.log_prob(plane).exp().sum() * (4.0 / n) ** 2
    assert float(total) == pytest.approx(1.0, abs=2e-3)


def test_samples_follow_the_density() -> None:
    """Shares of samples in the cells of a grid are the integrals of p over them."""
    model = stirred(make("realnvp", PLANE), 0.1)
    x = model.sample(20_000, seed=0).double().numpy()  # classes in turn: as many of each
    found = np.histogram2d(x[:, 0], x[:, 1], bins=6, range=[[-2, 2]] * 2)[0] / len(x)
    n = 240
    middle = -2.0 + 4.0 * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    with torch.no_grad():
        p = model.double().log_prob(torch.cartesian_prod(middle, middle)).exp().reshape(n, n)
    expected = p.reshape(6, 40, 6, 40).sum((1, 3)).numpy() * (4.0 / n) ** 2
    spread = np.sqrt(expected * (1 - expected) / len(x))
    assert (np.abs(found - expected) < 4.5 * spread + 1e-3).all()


def test_p_of_x_is_the_exact_mixture_over_classes() -> None:
    model = digits_model()
    x = batch(DIGITS, n=4).x
    each = torch.stack([model.class_log_prob(x, torch.full((4,), c)) for c in range(10)])
    expected = torch.logsumexp(each.double() + model.log_prior.double()[:, None], 0).float()
    torch.testing.assert_close(model.log_prob(x), expected, rtol=1e-5, atol=1e-4)
    assert float(model.log_prior.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert len(set(model.log_prior.tolist())) > 1  # shares of the training data, not equal ones


def test_a_coupling_moves_one_half_by_what_the_other_says() -> None:
    """z_B = x_B e^s + t, z_A = x_A, with the conditioner's own s and t."""
    mask = torch.tensor([True, False, True, False, False])
    layer = Coupling(mask, Affine(), width=8, depth=2, classes=0, dropout=0.0).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    z, logdet = layer(x)
    s, t = layer.conditioner(x[:, mask]).chunk(2, 1)
    s = 2.0 * torch.tanh(s / 2.0)
    torch.testing.assert_close(z[:, mask], x[:, mask])
    torch.testing.assert_close(z[:, ~mask], x[:, ~mask] * s.exp() + t)
    torch.testing.assert_close(logdet, s.sum(1))


def test_nice_keeps_volumes_but_for_its_last_scaling() -> None:
    model = build("nice", {"layers": 4, "width": 16}, DIGITS)
    norms = [m for m in model.flow if isinstance(m, ActNorm)]
    assert len(norms) == 1
    assert model.flow[-1] is norms[0]
    h = torch.randn(5, 64)
    total = sum(layer(h, torch.zeros(5).long())[1] for layer in model.flow)
    torch.testing.assert_close(total, norms[0].log_scale.sum().expand(5))


def test_activation_normalization_starts_with_mean_0_and_variance_1() -> None:
    x = 3.0 + 2.0 * torch.randn(500, 6)
    layer = ActNorm(6)
    with torch.no_grad():
        layer.begin(x)
    z, _ = layer(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(6), atol=2e-3, rtol=0)


def test_begin_stage_makes_values_normal_and_the_density_that_of_independent_pixels() -> None:
    """Couplings that do nothing yet leave −log₂ Π p(x_i): the bar of independent pixels."""
    levels = torch.randint(0, 17, (800, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    levels = (levels * levels) // 17  # not uniform
    x = levels / 8.0 - 1.0
    model = make("realnvp", conditional=False)
    with torch.no_grad():
        for layer in model.flow:
            if isinstance(layer, Coupling):
                layer.conditioner.output.weight.zero_()
        model.begin_stage(context(), lambda k: Batch({"x": x[k::32]}))
        z = model.encode(model.dequantise(x, torch.Generator().manual_seed(1)))
        found = -model.log_prob(model.dequantise(x, torch.Generator().manual_seed(2)))
    torch.testing.assert_close(z.mean(0), torch.zeros(64), atol=0.15, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(64), atol=0.1, rtol=0)
    counts = torch.stack([(levels == k).sum(0) for k in range(17)]).double() + 0.5
    p = (counts / counts.sum(0)).flatten(1).gather(0, levels.flatten(1))
    nats = -(p.log() - math.log(0.125)).flatten(1).sum(1)
    assert float(found.mean()) == pytest.approx(float(nats.mean()), rel=5e-3)


def test_marginals_are_the_probability_integral_transform() -> None:
    """Φ(y) is the histogram's distribution function, to the accuracy of the formula for Φ."""
    torch.manual_seed(0)
    data = torch.rand(400, 3) ** 2
    marginals = Marginals(3, 0.0, 1.0, 8)
    marginals.double().fit(data.double(), prior=0.5)
    x = torch.rand(200, 3, dtype=torch.float64)
    y, logdet = marginals(x)
    counts = torch.stack([torch.histc(data[:, i], 8, 0.0, 1.0) for i in range(3)], 1).double() + 0.5
    mass = counts / counts.sum(0)
    cell = (x * 8).floor().long()
    cdf = (mass.cumsum(0) - mass).gather(0, cell) + mass.gather(0, cell) * (x * 8 - cell)
    torch.testing.assert_close(Normal(0.0, 1.0).cdf(y), cdf, atol=3e-4, rtol=0)
    slope = torch.autograd.functional.jacobian(lambda v: marginals(v)[0].sum(0), x).diagonal(dim1=0, dim2=2)
    torch.testing.assert_close(slope.log().sum(1), logdet, atol=1e-9, rtol=0)
    torch.testing.assert_close(marginals.inverse(y), x, atol=1e-9, rtol=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 16, 8), (3, 4, 4), (2,), (5,), (4, 6)])
def test_masks_are_pairs_of_complements(shape: tuple[int, ...]) -> None:
    masks = coupling_masks(shape, 9)
    assert len(masks) == 9
    for first, second in zip(masks[::2], masks[1::2], strict=False):
        assert (first ^ second).all()
        assert 0 < first.sum() < first.size


def test_the_loss_is_the_likelihood_of_dequantised_levels() -> None:
    model = digits_model()
    data = batch(DIGITS)
    noisy = model.dequantise(data.x, context(3).rng)
    assert float((noisy - data.x).abs().max()) <= 0.5 * 0.125
    expected = -model.class_log_prob(noisy, data["class"]).mean() / 64
    torch.testing.assert_close(model.loss("nll", data, context(3))["nll"], expected)


def test_programs_do_what_methods_do() -> None:
    model = digits_model()
    data = batch(DIGITS, n=5)
    asked = {"x": data.x, "class": data["class"]}
    z = model.run("encode", 5, inputs=asked)
    torch.testing.assert_close(z, model.encode(data.x, data["class"]).detach())
    back = model.run("decode", 5, inputs={"z": z, "class": data["class"]})
    torch.testing.assert_close(back, data.x, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        model.run("log_prob", 5, inputs={"x": data.x}), model.log_prob(data.x).detach(), rtol=1e-4, atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fast", pytest.param("exact", marks=pytest.mark.slow)])
def test_a_bundle_says_log_prob_in_float32_however_it_samples(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounded to bfloat16, where an engine chooses that, a sum of many terms is off by nats."""
    model = stirred(digits_model()).eval()
    model.shipped = ("sample", "log_prob")
    bundle = package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "flow.niwaki")
    asked: dict[str, str] = {}
    opened = bundle_module.open_graph

    def watched(engine: str, path: Path, **options: Any) -> Any:
        asked[path.stem] = options["precision"]
        return opened(engine, path, **options)

    monkeypatch.setattr(bundle_module, "open_graph", watched)
    found = niwaki_runtime.load(bundle, precision=precision)
    called = {name: set(p.sampler.graphs_used()) for name, p in found.programs().items()}
    assert all(asked[graph] == "exact" for graph in called["log_prob"])
    assert all(asked[graph] == precision for graph in called["sample"])
    x = real(5)
    given = {name: x[name].numpy() for name in model.program("log_prob").inputs}
    wanted = model.run("log_prob", 5, inputs=given).numpy()
    np.testing.assert_allclose(found.run("log_prob", 5, inputs=given), wanted, rtol=1e-4, atol=1e-2)


def test_values_without_bounds_are_brought_to_their_own_scale_and_none_is_clipped() -> None:
    """Normal data far from 0: the flow begins as their normal density, exactly, and samples reach as far."""
    x = 5000.0 + 300.0 * torch.from_numpy(np.random.default_rng(0).standard_normal((4096, 3)))
    rows = Batch({"x": x, "class": torch.arange(4096) % 2})
    model = make("realnvp", POINTS).double()
    for layer in model.flow:  # the identity: what is left is the scale
        if isinstance(layer, Coupling):
            for p in layer.parameters():
                torch.nn.init.zeros_(p)
    with torch.no_grad():
        model.begin_stage(context(), lambda k: rows.map(lambda t: t[128 * k : 128 * (k + 1)]))
        given = torch.tensor([[5000.0, 5300.0, 4400.0]], dtype=torch.float64)
        scale = x.std(0, unbiased=False)
        expected = Normal(x.mean(0), scale).log_prob(given).sum(1)
        torch.testing.assert_close(model.log_prob(given), expected, atol=1e-2, rtol=0)
        z, y = torch.full((1, 3), 6.0, dtype=torch.float64), torch.zeros(1, dtype=torch.long)
        torch.testing.assert_close(model.decode(z, y), x.mean(0) + 6.0 * scale[None], rtol=1e-2, atol=0)


def test_latents_come_from_the_encoder_also_where_samples_are_of_the_same_kind() -> None:
    """Both are vectors without bounds here; what `decode` is given is still what `encode` makes."""
    model = make("realnvp", POINTS).eval()
    rows = {name: value.numpy() for name, value in batch(POINTS, 4).items()}
    given = make_inputs(model, "decode", 4, examples=rows)
    np.testing.assert_array_equal(given["z"], model.run("encode", 4, inputs=rows).numpy())
