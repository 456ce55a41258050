"""The forecaster: its scores, its scaling, its distributions, and the same paths from a bundle."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import FORECASTS, batch, context, make
from torch import Tensor

from niwaki import data
from niwaki.core.contract import CallError, DataSpec, GenerativeModel, Real, ValueSpec
from niwaki.deployment import export_graphs, package
from niwaki.evaluation.metrics.forecasts import crps_ensemble, pinball
from niwaki.models.autoregressive.heads import normal_of, trained_head
from niwaki.training import TrainConfig, fit
from niwaki_runtime import load as load_bundle

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
HEADS = ["quantiles", "gaussian", "mixture"]


def spec(channels: int = 1, past: int = 16, future: int = 4) -> DataSpec:
    x, before = (ValueSpec("series", (channels, t), "CT", Real(-math.inf, math.inf)) for t in (future, past))
    return DataSpec({"x": x, "past": before})


def said(model: GenerativeModel, past: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval().parameters_of(past)


def raw(n: int, count: int, seed: int = 0) -> Tensor:
    return torch.randn(n, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_quantiles_rise_whatever_the_network_says() -> None:
    head = trained_head("quantiles", LEVELS, 0)
    numbers = 20 * raw(500, head.raw)
    q = head.parameters(numbers, torch.zeros(500).double(), torch.ones(500).double())
    assert (q.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("name", HEADS)
def test_the_device_inverts_the_function_that_training_integrates(name: str) -> None:
    """F(F⁻¹(u)) = u, with F of the training head and F⁻¹ of the runtime's."""
    head = trained_head(name, LEVELS, 3)
    parameters = head.parameters(raw(200, head.raw), raw(200, 1, 1)[:, 0], torch.full((200,), 2.0).double())
    u = np.random.default_rng(0).uniform(0.06, 0.94, 200)  # within the outermost levels
    x = head.drawn.quantile(parameters.numpy(), u)
    found = head.probability(parameters, torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), u, atol=1e-6)


def test_the_loss_of_quantiles_is_twice_the_mean_pinball_loss() -> None:
    head = trained_head("quantiles", LEVELS, 0)
    q = head.parameters(raw(50, head.raw), torch.zeros(50).double(), torch.ones(50).double())
    truth = raw(50, 1, 1)[:, 0]
    wanted = 2 * np.mean([pinball(q[:, i].numpy(), truth.numpy(), t) for i, t in enumerate(LEVELS)], axis=0)
    found = head.loss(q, truth, torch.tensor(1.0).double())
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_of_the_losses_are_those_of_their_formulas(name: str) -> None:
    head = trained_head(name, LEVELS, 2)
    truth = raw(3, 1, 1)[:, 0]
    unit = torch.tensor(1.5).double()

    def loss(numbers: Tensor) -> Tensor:
        return head.loss(head.parameters(numbers, truth * 0 + 0.1, truth * 0 + 0.7), truth, unit)

    assert torch.autograd.gradcheck(loss, (raw(3, head.raw).requires_grad_(),))


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_likelihoods_are_densities(name: str) -> None:
    """exp(−loss) integrates to 1, and to F."""
    head = trained_head(name, LEVELS, 3)
    parameters = head.parameters(raw(1, head.raw), torch.zeros(1).double(), torch.ones(1).double())
    x = torch.linspace(-60, 60, 200_001).double()
    density = torch.exp(-head.loss(parameters.expand(len(x), -1), x, torch.tensor(1.0).double()))
    assert float(torch.trapezoid(density, x)) == pytest.approx(1.0, abs=1e-6)
    half = len(x) // 2
    below = float(torch.trapezoid(density[: half + 1], x[: half + 1]))
    assert below == pytest.approx(float(head.probability(parameters, x[half : half + 1])), abs=1e-6)


def test_trained_quantiles_are_those_of_the_noise_and_its_score_is_least() -> None:
    """White noise around its window's mean: the quantiles that are learned are the normal ones."""
    rng = np.random.default_rng(0)
    table = torch.from_numpy(rng.normal(5.0, 2.0, (3000, 1, 20)).astype(np.float32))
    split = data.Split.of(spec(), table[:, :, 16:], past=table[:, :, :16])
    torch.manual_seed(0)
    model = make("forecaster", spec(), dropout=0.0, levels=LEVELS, width=4, hidden=8)
    config = TrainConfig(steps=250, batch=128, lr=1e-2, ema=0.0, checkpoint_every=0, precision="fp32")
    fit(model, split, config, seed=0)
    q = said(model, split.columns["past"].data[:500])[:, 0].mean((0, 1))
    wanted = 5.0 + 2.0 * normal_of(torch.tensor(LEVELS))
    torch.testing.assert_close(q, wanted, atol=0.35, rtol=0)
    assert float(model.correlation) < 0.2  # the noise of neighbouring steps has none
    past = split.columns["past"].data[:200].numpy()
    paths = model.run("forecast", 200 * 40, inputs={"past": np.repeat(past, 40, 0)}).numpy()
    score = crps_ensemble(paths.reshape(200, 40, 1, 4), split.x[:200].numpy()).mean()
    assert score == pytest.approx(2.0 / math.sqrt(math.pi), rel=0.06)  # CRPS of N(μ, σ²) for itself: σ/√π


@pytest.mark.parametrize("level", [0.0, 3.5, -2e6])
def test_constant_windows_give_finite_forecasts_and_gradients(level: float) -> None:
    model = make("forecaster", spec())
    past = torch.full((4, 1, 16), level)
    assert torch.isfinite(said(model, past)).all()
    rows = batch(spec(), 4).replaced(past=past, x=torch.full((4, 1, 4), level))
    model.train()
    sum(model.loss("forecast", rows, context()).values()).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    first = [rows.replaced(past=past)] * 8
    model.begin_stage(context(), lambda k: first[k])  # data that never change at all
    assert torch.isfinite(said(model, past)).all()
    assert np.isfinite(model.run("forecast", 4, inputs={"past": past}).numpy()).all()


def test_forecasts_follow_the_unit_of_the_series() -> None:
    """a·past + b gives a·future + b, where the data's unit is changed with it."""
    model = make("forecaster", spec(channels=2))
    torch.nn.init.normal_(model.linear.weight, std=0.1)
    past = torch.randn(5, 2, 16, generator=torch.Generator().manual_seed(0))
    before = said(model, past)
    model.centre.mul_(8.0).add_(3.0)
    model.spread.mul_(8.0)
    torch.testing.assert_close(said(model, 8.0 * past + 3.0), 8.0 * before + 3.0, atol=1e-4, rtol=1e-5)


def test_the_end_of_the_past_sees_all_of_it_and_covariates_of_both_times_matter() -> None:
    model = make("forecaster", FORECASTS).eval()
    rows = batch(FORECASTS, 2)
    past = (rows["past"] / 1e6).requires_grad_()
    covariates = rows["covariates"].clone().requires_grad_()
    h = model.enter(torch.cat([past, covariates[..., :13]], 1))
    for block in model.blocks:
        h = block(h)
    (seen,) = torch.autograd.grad(h[..., -1].square().sum(), past, retain_graph=True)
    assert (seen.abs().sum((0, 1)) > 0).all()
    (early,) = torch.autograd.grad(h[..., 5].square().sum(), past)
    assert (early[..., 6:] == 0).all(), "a convolution looks ahead"
    (known,) = torch.autograd.grad(model.parameters_of(past, covariates).square().sum(), covariates)
    assert (known.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize("season", [1, 4, 16])
def test_it_begins_as_the_last_season(season: int) -> None:
    """What the network says at first is added to the last season, step for step."""
    model = make("forecaster", spec(), season=season, head="gaussian").eval()
    torch.nn.init.zeros_(model.say.weight)
    torch.nn.init.zeros_(model.say.bias)
    past = torch.randn(3, 1, 16, generator=torch.Generator().manual_seed(0))
    wanted = past[..., [16 - season + h % season for h in range(4)]]
    torch.testing.assert_close(said(model, past)[..., 0], wanted, atol=1e-5, rtol=1e-5)
    with pytest.raises(CallError, match="does not fit into a past of 16"):
        make("forecaster", spec(), season=17)


@pytest.mark.parametrize("level", [1, 3])
def test_a_trend_is_gone_on_with_by_its_rise_since_the_season_before(level: int) -> None:
    """A season on a straight line is forecast exactly before anything was learnt."""
    model = make("forecaster", spec(), season=5, level=level, head="gaussian").eval()
    torch.nn.init.zeros_(model.say.weight)
    torch.nn.init.zeros_(model.say.bias)
    t = torch.arange(20.0)
    whole = (0.3 * t + torch.sin(2 * math.pi * t / 5))[None, None]
    torch.testing.assert_close(said(model, whole[..., :16])[..., 0], whole[..., 16:], atol=1e-4, rtol=1e-4)
    for wrong in ({"season": None}, {"season": 14}):
        with pytest.raises(CallError, match="needs a season, and both within the past of 16 steps"):
            make("forecaster", spec(), level=level if wrong["season"] is None else 3, **wrong)


@pytest.mark.slow
def test_channels_of_a_path_agree_as_their_ranks_did() -> None:
    """Two channels of white noise that share most of it: drawn paths have the same correlation."""
    rng = np.random.default_rng(0)
    table = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], (2000, 20)).transpose(0, 2, 1)
    split = data.Split.of(
        spec(channels=2),
        torch.from_numpy(table[:, :, 16:].astype(np.float32)),
        past=torch.from_numpy(table[:, :, :16].astype(np.float32)),
    )
    torch.manual_seed(0)
    model = make("forecaster", spec(channels=2), dropout=0.0, head="gaussian", width=4, hidden=8)
    config = TrainConfig(steps=150, batch=128, lr=1e-2, ema=0.0, checkpoint_every=0, precision="fp32")
    fit(model, split, config, seed=0)
    past = split.columns["past"].data[:1].numpy()
    paths = model.eval().run("forecast", 4000, inputs={"past": np.repeat(past, 4000, 0)}).numpy()
    assert np.corrcoef(paths[:, 0, 0], paths[:, 1, 0])[0, 1] == pytest.approx(0.8, abs=0.08)
    assert model.sampler().to_json()["factor"]


@pytest.mark.parametrize(
    "name", [n if n == "quantiles" else pytest.param(n, marks=pytest.mark.slow) for n in HEADS]
)
def test_a_bundle_draws_the_same_paths(name: str, tmp_path: Path) -> None:
    model = make("forecaster", FORECASTS, head=name).eval()
    model.correlation.fill_(0.7)
    rows = batch(FORECASTS, 3)
    asked = {"past": (rows["past"] / 1e6).numpy(), "covariates": rows["covariates"].numpy()}
    bundle = load_bundle(
        package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "f.niwaki"), precision="exact"
    )
    assert list(bundle.programs()) == ["sample", "forecast"]
    wanted = model.run("forecast", 3, seed=4, inputs=asked).numpy()
    np.testing.assert_allclose(bundle.run("forecast", 3, seed=4, inputs=asked), wanted, atol=1e-4)
    with pytest.raises(CallError, match="'past' must be given"):
        bundle.run("forecast", 1, inputs={"covariates": asked["covariates"][:1]})


def test_data_without_a_past_are_refused() -> None:
    with pytest.raises(CallError, match=r"amounts over time \(C, T\) from a column 'past'"):
        make("forecaster", DataSpec.of("series", (2, 8)))
    wrong = DataSpec({**FORECASTS.columns, "covariates": FORECASTS["past"]})
    with pytest.raises(CallError, match="must cover the past and the future, 19 steps, not 13"):
        make("forecaster", wrong)
