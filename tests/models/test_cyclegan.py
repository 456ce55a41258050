"""CycleGAN: its losses in closed form, what it starts as, and its programs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_cases import DIGITS, context, make
from torch import nn

from niwaki import models
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.core.contract import Batch, CallError, DataSpec, GenerativeModel
from niwaki.data import Split
from niwaki.data.inputs import split_inputs
from niwaki.deployment import export_graphs, package, parity
from niwaki.models.gan.losses import least_squares
from niwaki_runtime import load

TWO = DataSpec({"x": DIGITS.x, "x_b": DIGITS.x}, ("x_b",))


def two(n: int = 6, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    return Batch({k: 2 * torch.rand((n, 1, 8, 8), generator=rng) - 1 for k in TWO})


def split(n: int = 12) -> Split:
    rng = torch.Generator().manual_seed(1)
    x, b = (torch.randint(0, 17, (m, 1, 8, 8), generator=rng, dtype=torch.uint8) for m in (n, n + 3))
    return Split.of(TWO, x, x_b=b)


def cyclegan(**changes: object) -> GenerativeModel:
    return make("cyclegan", TWO, **changes)


class Affine(nn.Module):
    """x → w x + b, so that every loss can be computed by hand."""

    def __init__(self, w: float, b: float) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(w)), nn.Parameter(torch.tensor(b))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w * x + self.b


def test_least_squares_is_the_mean_squared_distance_from_the_target() -> None:
    values = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    assert float(least_squares(values, 1.0)) == (1 + 0 + 1 + 4) / 4
    assert float(least_squares(values, 0.0)) == (0 + 1 + 4 + 9) / 4


def test_losses_are_those_of_the_paper() -> None:
    model = cyclegan(cycle=7.0, identity=3.0)
    model.ab, model.ba = Affine(0.5, 0.1), Affine(1.5, -0.2)
    model.critic_a, model.critic_b = Affine(2.0, 0.0), Affine(-1.0, 0.3)
    data = two()
    a, b = data.x, data["x_b"]
    fake_b, fake_a = 0.5 * a + 0.1, 1.5 * b - 0.2
    ctx = context()
    found = model.loss("translate", data, ctx)
    cycle = (1.5 * fake_b - 0.2 - a).abs().mean() + (0.5 * fake_a + 0.1 - b).abs().mean()
    same = (0.5 * b + 0.1 - b).abs().mean() + (1.5 * a - 0.2 - a).abs().mean()
    torch.testing.assert_close(found["cycle"], 7.0 * cycle)
    torch.testing.assert_close(found["identity"], 3.0 * same)
    torch.testing.assert_close(found["adversarial_ab"], (-fake_b + 0.3 - 1).square().mean())
    torch.testing.assert_close(found["adversarial_ba"], (2 * fake_a - 1).square().mean())
    for told in (ctx, context()):  # with the translations of the phase before, and without
        critics = model.loss("criticise", data, told)
        torch.testing.assert_close(critics["real_a"], 0.5 * (2 * a - 1).square().mean())
        torch.testing.assert_close(critics["fake_a"], 0.5 * (2 * fake_a).square().mean())
        torch.testing.assert_close(critics["real_b"], 0.5 * (0.3 - b - 1).square().mean())
        torch.testing.assert_close(critics["fake_b"], 0.5 * (0.3 - fake_b).square().mean())


def test_translators_start_near_the_identity() -> None:
    model = models.build("cyclegan", {}, TWO).eval()
    x = two()["x"]
    with torch.no_grad():
        moved = model.ab(x) - torch.tanh(2.0 * x)
    assert float(moved.abs().max()) < 0.1


def test_without_identity_there_is_no_such_term() -> None:
    assert "identity" not in cyclegan(identity=0.0).loss("translate", two(), context())


def test_sample_is_the_way_there_and_nothing_is_drawn() -> None:
    model = cyclegan().eval()
    x = two()["x"]
    there = model.run("translate_ab", 6, inputs={"x": x}, seed=1)
    assert torch.equal(model.sample(6, seed=2, condition={"x": x}), there)
    with torch.no_grad():
        torch.testing.assert_close(there, model.ab(x))
        torch.testing.assert_close(model.run("translate_ba", 6, inputs={"x_b": x}), model.ba(x))
    with pytest.raises(CallError, match="'x' must be given"):
        model.sample(2)


def test_data_without_a_second_domain_are_refused() -> None:
    with pytest.raises(CallError, match="no column 'x_b'"):
        make("cyclegan", DIGITS)
    other = DataSpec({"x": DIGITS.x, "x_b": DataSpec.of("image", (1, 16, 16)).x}, ("x_b",))
    with pytest.raises(CallError, match="one shape"):
        make("cyclegan", other)


def test_each_translator_is_calibrated_on_its_own_domain() -> None:
    model, data = cyclegan().eval(), split()
    seen = calibration_inputs(model, 10, condition=split_inputs(model, data))
    assert set(seen) == {"ab"}, "the way back needs a graph that is not shipped"
    model.shipped = ("sample", "translate_ab", "translate_ba")
    seen = calibration_inputs(model, 10, condition=split_inputs(model, data))
    assert set(seen) == {"ab", "ba"}
    for graph, column in (("ab", "x"), ("ba", "x_b")):
        rows = {x.tobytes() for x in data.columns[column].values().numpy()}
        assert len(seen[graph]) == 10
        assert all(call[column][0].tobytes() in rows for call in seen[graph])


@pytest.mark.slow
def test_a_bundle_translates_both_ways(tmp_path: Path) -> None:
    model, data = cyclegan().eval(), split()
    model.shipped = ("sample", "translate_ab", "translate_ba")
    bundle = package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "two.niwaki")
    report = parity(model, bundle, n=4, split=data)
    assert set(report["programs"]) == {"translate_ab", "translate_ba"}
    assert report["passed"], report
    assert set(load(bundle).programs()) == {"sample", "translate_ab", "translate_ba"}
