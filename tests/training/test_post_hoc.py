"""Averages of any length are made after the training, as near to the tracked ones as their profiles are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from training_toys import Regression

from niwaki.training import TrainConfig, fit
from niwaki.training.averages import build_average, exponent_of
from niwaki.training.post_hoc import coefficients, gram, reconstruct, snapshot_steps
from niwaki_runtime.errors import CallError

STEPS, TRACKED = 240, (0.05, 0.10)
KEPT = [(t, length) for t in sorted(snapshot_steps(STEPS, 16)) for length in TRACKED]


def profile(t, length):
    """Share of the weights after each of STEPS steps, by the recursion itself."""
    found = np.zeros(STEPS)
    for n in range(t):
        d = build_average({"name": "power", "length": length}, 0.0)(n, STEPS)
        found *= d
        found[n] += 1 - d
    return found


def test_steps_are_spread_evenly_and_end_with_the_last():
    assert snapshot_steps(10, 4) == {3, 5, 8, 10}
    assert snapshot_steps(3, 16) == {1, 2, 3}


def test_inner_products_are_those_of_the_recursions():
    rows = np.stack([profile(*one) for one in KEPT])
    np.testing.assert_allclose(gram(KEPT, KEPT), rows @ rows.T, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    ("length", "most"), [(0.05, 1e-6), (0.10, 1e-6), (0.075, 0.01), (0.15, 0.03), (0.2, 0.05)]
)
def test_profiles_of_other_lengths_are_nearly_met(length, most):
    found, error = coefficients(KEPT, (STEPS, length))
    rows, wanted = np.stack([profile(*one) for one in KEPT]), profile(STEPS, length)
    apart = np.linalg.norm(found @ rows - wanted) / np.linalg.norm(wanted)
    assert error == pytest.approx(apart, abs=1e-7)
    assert apart < most
    assert found.sum() == pytest.approx(1.0, abs=0.01)
    best = np.linalg.lstsq(rows.T, wanted, rcond=None)[0]
    assert apart <= 1.001 * np.linalg.norm(best @ rows - wanted) / np.linalg.norm(wanted) + 1e-7


class Recorded(Regression):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__()
        self.path = []

    def flat(self):
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()

    def after_step(self, ctx):
        self.path.append(self.flat().double())


CONFIG = TrainConfig(
    steps=60, batch=8, lr=0.02, ema=0, checkpoint_every=20, post_hoc={"snapshots": 12}, precision="fp32"
)


def direct(path, length):
    edges = np.arange(len(path) + 1) / len(path)
    return torch.from_numpy(np.diff(edges ** (exponent_of(length) + 1))) @ torch.stack(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from niwaki.core.contract import DataSpec
    from niwaki.data import Split

    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(7))
    split = Split.of(DataSpec.of("vector", (4,)), x)
    directory, model = tmp_path_factory.mktemp("post_hoc"), Recorded()
    said = []
    result = fit(model, split, CONFIG, seed=1, directory=directory, validation=split, note=said.append)
    return directory, model, result, split, said


@pytest.mark.parametrize("length", [0.03, 0.05, 0.08, 0.15, 0.25])
def test_a_reconstruction_is_the_directly_tracked_average_within_its_error(trained, length):
    """|Σ (Σ cᵢpᵢ − p)(s)·θ(s)| ≤ ‖Σ cᵢpᵢ − p‖·‖θ‖ for every weight (Cauchy & Schwarz)."""
    directory, model, *_ = trained
    values = reconstruct(directory / "averages" / "main", [length])[length]
    made = torch.cat([values[n].flatten() for n, _ in model.named_parameters()]).double()
    kept = [(t, a) for t in sorted(snapshot_steps(60, 12)) for a in TRACKED]
    found, error = coefficients(kept, (60, length))
    norm = float(gram([(60, length)], [(60, length)])[0, 0]) ** 0.5
    path = torch.stack(model.path)
    rounding = 1e-6 * float(np.abs(found).sum()) * path.abs().amax()
    assert ((made - direct(model.path, length)).abs() <= error * norm * path.norm(dim=0) + rounding).all()


def test_the_length_of_the_lowest_held_out_loss_is_what_the_model_has(trained):
    directory, model, result, _, said = trained
    (choice,) = [one for one in result.chosen if one["name"] == "post_hoc"]
    lengths = CONFIG.post_hoc.lengths
    made = reconstruct(directory / "averages" / "main", lengths)
    assert choice["value"] in lengths
    for name, value in model.named_parameters():
        assert torch.equal(value, made[choice["value"]][name])
    assert choice["text"] in said
    losses = dict(part.split(": ") for part in choice["text"].partition("(")[2].rstrip(")").split(", "))
    assert min(losses, key=lambda k: float(losses[k])) == f"{choice['value']:g}"


def test_it_goes_on_from_a_checkpoint_bit_for_bit_and_chooses_the_same(trained, tmp_path):
    class Stopped(Exception):
        pass

    def stop(step, measured):
        if step == 40:
            raise Stopped

    _, whole, result, split, _ = trained
    with pytest.raises(Stopped):
        fit(Recorded(), split, CONFIG, seed=1, directory=tmp_path, validation=split, on_validation=stop)
    for _ in range(2):  # the second call finds it completed
        resumed = Recorded()
        again = fit(resumed, split, CONFIG, seed=1, directory=tmp_path, validation=split, resume=True)
        assert again.chosen == result.chosen
        assert torch.equal(resumed.flat(), whole.flat())


def test_without_held_out_data_the_weights_stay_and_that_is_said(trained, tmp_path):
    _, whole, _, split, _ = trained
    model, said = Recorded(), []
    fit(model, split, CONFIG, seed=1, directory=tmp_path, note=said.append)
    torch.testing.assert_close(model.flat().double(), whole.path[-1], rtol=0, atol=0)
    assert any("no loss on held-out data" in text for text in said)


def test_what_cannot_be_is_refused(tmp_path, vectors):
    with pytest.raises(CallError, match="holds no averages"):
        reconstruct(tmp_path, [0.1])
    with pytest.raises(CallError, match=r"above 0 and below 0\.289, not 0\.4"):
        reconstruct(tmp_path, [0.4])
    with pytest.raises(CallError, match="both choose the last weights"):
        fit(Recorded(), vectors, TrainConfig(post_hoc={}, keep_best=True), seed=0)
