"""DeepAR: step by step equals teacher forcing, no step sees a later one, masks hide what is missing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import FORECASTS, GAPS, SERIES, batch, context, make
from torch import Tensor

from niwaki import data
from niwaki.core.contract import DataSpec, GenerativeModel, Real, ValueSpec
from niwaki.deployment import export_graphs, package
from niwaki.training import TrainConfig, fit
from niwaki_runtime import load as load_bundle

HEADS = ["quantiles", "gaussian", "mixture"]
FREE = DataSpec({"x": ValueSpec("series", (2, 12), "CT", Real(-math.inf, math.inf))})
SPECS = {"whole": FREE, "bounded": SERIES, "forecasts": FORECASTS, "gaps": GAPS}


def stirred(spec: DataSpec, **settings: object) -> GenerativeModel:
    torch.manual_seed(1)
    model = make("deepar", spec, **{"width": 12, "depth": 2, "lags": 3, "dropout": 0.0, **settings}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.centre.add_(0.2)
        model.spread.mul_(1.5)
    return model


def inputs(spec: DataSpec, n: int = 3) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """Past and future in one, their mask, and the conditions."""
    rows = batch(spec, n)
    columns = {k: v / 1e6 if k == "past" and spec is FORECASTS else v for k, v in rows.items()}
    given = [columns[k] for k in ("past", "past_mask", "covariates", "static") if k in columns]
    if "past" not in columns:
        return columns["x"], None, given
    mask = None
    if "past_mask" in columns:
        given[1] = (given[1] > 0.4).float()
        mask = torch.cat([given[1], torch.ones_like(columns["x"])], 2)
    return torch.cat([columns["past"], columns["x"]], 2), mask, given


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("name", SPECS)
def test_reading_and_stepping_say_what_teacher_forcing_says(name: str, cell: str) -> None:
    spec = SPECS[name]
    model = stirred(spec, cell=cell)
    x, mask, given = inputs(spec)
    with torch.no_grad():
        whole = model.parameters_of(x, mask, *given)
        state = [torch.zeros(3, *s.shape[1:]) for s in model.carried()]
        said = []
        begin = model.past
        if begin:
            first, *state = model.read(*given, *state)
            said.append(first)
        for t in range(begin + len(said), x.shape[2]):
            value = x[..., t - 1] if t else torch.zeros(3, model.channels)
            now, *state = model.step(value, torch.tensor([t]), *given, *state)
            said.append(now)
    torch.testing.assert_close(torch.stack(said, 2), whole[:, :, begin:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_no_value_is_told_of_a_later_one(name: str) -> None:
    """By gradients, in train mode. The scale of a window comes from its past, which the future is told."""
    spec = SPECS[name]
    model = stirred(spec).train()
    x, mask, given = inputs(spec)
    x = x.clone().requires_grad_()
    said = model.parameters_of(x, mask, *given)
    for t in range(model.past, x.shape[2]):
        (seen,) = torch.autograd.grad(said[:, :, t].square().sum(), x, retain_graph=True)
        assert (seen[..., t:] == 0).all()
        assert t == 0 or seen[..., t - 1].abs().sum() > 0


def test_what_was_not_measured_changes_nothing() -> None:
    for name in ("deepar", "forecaster"):
        torch.manual_seed(0)
        model = make(name, GAPS).eval()
        rows = batch(GAPS, 4)
        rows = rows.replaced(
            past_mask=(rows["past_mask"] > 0.4).float(), x_mask=(rows["x_mask"] > 0.4).float()
        )
        other = rows.replaced(
            past=torch.where(rows["past_mask"] > 0, rows["past"], torch.tensor(77.0)),
            x=torch.where(rows["x_mask"] > 0, rows.x, torch.tensor(-55.0)),
        )
        first, second = (model.loss("forecast", r, context()) for r in (rows, other))
        assert {k: float(v) for k, v in first.items()} == pytest.approx(
            {k: float(v) for k, v in second.items()}
        )
        asked = [{k: r[k].numpy() for k in ("past", "past_mask", "static")} for r in (rows, other)]
        made = [model.run("forecast", 4, seed=1, inputs=given).numpy() for given in asked]
        np.testing.assert_allclose(made[0], made[1], atol=1e-5)
        seen = rows.replaced(past=rows["past"] + 1.0)
        assert float(model.loss("forecast", seen, context())[model.config.head]) != pytest.approx(
            float(first[model.config.head])
        )


def test_static_numbers_matter() -> None:
    for name in ("deepar", "forecaster"):
        torch.manual_seed(0)
        model = make(name, GAPS).eval()
        rows = batch(GAPS, 2)
        asked = {k: rows[k].numpy() for k in ("past", "past_mask", "static")}
        first = model.run("forecast", 2, seed=1, inputs=asked).numpy()
        second = model.run("forecast", 2, seed=1, inputs={**asked, "static": asked["static"] + 1}).numpy()
        assert np.abs(first - second).max() > 1e-5


@pytest.mark.parametrize("name", ["deepar", "forecaster"])
def test_constant_windows_with_gaps_give_finite_losses_and_gradients(name: str) -> None:
    model = make(name, GAPS).train()
    rows = batch(GAPS, 4)
    mask = torch.zeros_like(rows["past_mask"])
    mask[..., :2] = 1.0
    rows = rows.replaced(
        past=torch.full_like(rows["past"], 3.5), x=torch.full_like(rows.x, 3.5), past_mask=mask
    )
    model.begin_stage(context(), lambda k: rows)
    loss = sum(model.loss("forecast", rows, context()).values())
    loss.backward()  # type: ignore[union-attr]
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.isfinite(loss)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head"), [("whole", "quantiles"), ("forecasts", "gaussian"), ("gaps", "mixture")]
)
def test_a_bundle_makes_the_same_series_at_any_batch(name: str, head: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    model = stirred(spec, head=head)
    model.agreement.copy_(torch.tensor([[1.0, 0.7], [0.7, 1.0]]))
    rows = batch(spec, 5)
    unit = 1e6 if spec is FORECASTS else 1.0  # whose values without bounds are tried far from 0
    asked = {k: (rows[k] / (unit if k == "past" else 1.0)).numpy() for k in model.conditions}
    bundle = load_bundle(
        package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "f.niwaki"), precision="exact"
    )
    whole = model.run("sample", 5, seed=4, inputs=asked or None).numpy()
    np.testing.assert_allclose(bundle.run("sample", 5, seed=4, inputs=asked or None), whole, atol=2e-3)
    part = {k: v[3:] for k, v in asked.items()}
    np.testing.assert_allclose(
        model.run("sample", 2, seed=4, start=3, inputs=part or None).numpy(), whole[3:], atol=1e-5
    )


@pytest.mark.slow
def test_it_learns_an_autoregression_of_two_channels_that_agree() -> None:
    """x_t = 0.8 x_{t−1} + e: samples have its variance, autocorrelation, and its channels' correlation."""
    rng = np.random.default_rng(0)
    noise = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], (1500, 60)).transpose(0, 2, 1)
    x = np.zeros_like(noise)
    for t in range(1, 60):
        x[..., t] = 0.8 * x[..., t - 1] + noise[..., t]
    spec = DataSpec({"x": ValueSpec("series", (2, 20), "CT", Real(-math.inf, math.inf))})
    split = data.Split.of(spec, torch.from_numpy(x[..., 40:].astype(np.float32)))
    torch.manual_seed(0)
    model = make("deepar", spec, head="gaussian", width=12, depth=1, lags=1, dropout=0.0)
    config = TrainConfig(steps=300, batch=128, lr=1e-2, ema=0.0, checkpoint_every=0, precision="fp32")
    fit(model, split, config, seed=0)
    made = model.eval().sample(1500, seed=0).numpy().astype(np.float64)
    deviation = 1 / math.sqrt(1 - 0.64)
    assert made.std() == pytest.approx(deviation, rel=0.08)
    assert np.corrcoef(made[..., 1:].ravel(), made[..., :-1].ravel())[0, 1] == pytest.approx(0.8, abs=0.04)
    assert np.corrcoef(made[:, 0].ravel(), made[:, 1].ravel())[0, 1] == pytest.approx(0.6, abs=0.06)
