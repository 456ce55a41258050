"""Gates and groups that training closes: their mathematics, and that what is cut is what was learned."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from compression import small_models
from torch import Tensor, nn

from niwaki.compression import FinetuneConfig, PruneConfig
from niwaki.compression.forward import outputs
from niwaki.compression.pruning.choice import chosen_couplings
from niwaki.compression.pruning.learned.gated import ChannelGates, Gated, WeightGates
from niwaki.compression.pruning.learned.hard_concrete import (
    HardConcrete,
    gate,
    hard_concrete,
    open_probability,
)
from niwaki.compression.pruning.learned.lasso import Shrinking, shrunk
from niwaki.compression.pruning.learned.training import learned_channels, learned_weights
from niwaki.compression.pruning.slots import slots
from niwaki.core.contract import Context, GenerativeModel, NiwakiError
from niwaki.data import Split

TUNE = FinetuneConfig(batch=32, precision="fp32", device="cpu", warmup=0)
SMALL = {"round_to": 1, "min_width": 2}


def split(n: int = 128) -> Split:
    rng = torch.Generator().manual_seed(1)
    x = torch.rand((n, 1, 8, 8), generator=rng) * 2 - 1
    return Split.of(small_models.IMAGE, x, torch.arange(n) % 10)


def tokens(model: GenerativeModel, n: int = 128) -> Split:
    return Split.of(model.spec, torch.randint(0, 7, (n, 5), generator=torch.Generator().manual_seed(1)))


def free(model: GenerativeModel) -> list:
    return chosen_couplings(model, PruneConfig(**SMALL))[0]


@pytest.mark.parametrize("log_alpha", [-3.0, -0.5, 0.0, 1.5, 4.0])
def test_the_expected_l0_norm_is_that_of_samples(log_alpha: float) -> None:
    u = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = hard_concrete(torch.tensor(log_alpha, dtype=torch.float64), u)
    assert float(z.min()) >= 0
    assert float(z.max()) <= 1
    p = float(open_probability(torch.tensor(log_alpha, dtype=torch.float64)))
    assert float((z != 0).double().mean()) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / len(u)))
    if -1 < log_alpha < 1:
        assert 0.05 < float((z == 1).double().mean()) < 0.95  # both ends have probability


def test_the_gradient_of_the_expected_norm_is_that_of_its_formula() -> None:
    """d/da σ(a − β log(−γ/ζ)) = p(1 − p); and of a mean over gates, against differences of Monte Carlo."""
    a = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    p = open_probability(a)
    (grad,) = torch.autograd.grad(p.sum(), a)
    torch.testing.assert_close(grad, (p * (1 - p)).detach())
    u = torch.rand(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i, value in enumerate((-1.0, 0.0, 2.0)):
        open_at = [
            float((hard_concrete(torch.tensor(value + e, dtype=torch.float64), u) != 0).double().mean())
            for e in (0.1, -0.1)
        ]
        assert (open_at[0] - open_at[1]) / 0.2 == pytest.approx(float(grad[i]), abs=5e-3)


def test_a_gate_lets_gradients_through_where_it_is_neither_open_nor_closed() -> None:
    a = torch.zeros(1000, dtype=torch.float64, requires_grad=True)
    u = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = hard_concrete(a, u)
    (grad,) = torch.autograd.grad(z.sum(), a)
    assert bool(((grad != 0) == ((z > 0) & (z < 1))).all())
    assert gate(torch.tensor([-9.0, 9.0])).tolist() == [0.0, 1.0]


def test_the_proximal_step_is_the_minimum_of_its_problem() -> None:
    """argmin ½‖x − g‖² + τ‖x‖ = g · max(0, 1 − τ/‖g‖), found here by brute force along g."""
    for size, tau in ((2.0, 0.5), (0.3, 0.5), (0.5, 0.5)):
        s = torch.linspace(0, 1, 100_001, dtype=torch.float64)
        best = s[(0.5 * ((s - 1) * size) ** 2 + tau * s * size).argmin()]
        assert float(shrunk(torch.tensor([size]), tau)) == pytest.approx(float(best), abs=1e-4)


def test_open_gates_change_nothing_and_closed_ones_hide_their_channels() -> None:
    model = small_models.gan("hard").eval()
    found = [c for c in free(model) if ChannelGates.gateable(model, c)]
    assert found
    before = outputs(model)
    both = Gated(copy.deepcopy(model), model, TUNE, {c.key: (c.units,) for c in found}, ratio=0.5, steps=10)
    gates = ChannelGates(both, found)
    both.eval()
    with torch.no_grad():
        for one in both.gates:
            one.theta.fill_(20.0 / one.pace)
            one.draw(None)
    for a, b in zip(before, outputs(both.student), strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        for one in both.gates:
            one.theta[::2] = -20.0 / one.pace
            one.draw(None)
    hidden = outputs(both.student)
    gates.settle()
    for a, b in zip(hidden, outputs(both.student), strict=True):
        torch.testing.assert_close(a, b)  # folded into the weights, without hooks
    assert not any(torch.equal(a, b) for a, b in zip(before, hidden, strict=True))


def test_one_shift_of_all_gates_meets_the_goal_and_keeps_their_order() -> None:
    model = small_models.gan()
    both = Gated(copy.deepcopy(model), model, TUNE, {"a": (50,), "b": (30,)}, ratio=0.7, steps=10)
    with torch.no_grad():
        for one in both.gates:
            one.theta.copy_(torch.randn(one.theta.shape) * 2 / one.pace)
    order = torch.cat([g.log_alpha for g in both.gates]).argsort()
    for share in (0.9, 0.3):
        both.shift_to(share)
        assert float(both.open_share().detach()) == pytest.approx(share, abs=2e-3)
    assert torch.equal(torch.cat([g.log_alpha for g in both.gates]).argsort(), order)
    assert both.goal(0.0) == 1.0
    assert both.goal(1.0) == pytest.approx(0.3)


def test_gates_learn_in_the_phase_that_the_teacher_teaches_only() -> None:
    model = small_models.gan()
    names = [n for n in slots(model)[0] if "conv1" in n]
    both = Gated(copy.deepcopy(model), model, TUNE, dict.fromkeys(names, (16, 16, 3, 3)), ratio=0.5, steps=10)
    gates = WeightGates(both, names)
    assert [("gates" in p.parameters) for p in both.phases()] == [False, True]
    both.train()
    ctx = Context(0, 0.1, "main", {}, torch.Generator().manual_seed(0))
    terms = both.loss("generator", split().batch(torch.arange(16)), ctx)
    assert "gates" in terms
    sum(terms.values()).backward()
    assert all(float(g.theta.grad.abs().sum()) > 0 for g in both.gates)
    with torch.no_grad():
        for one in both.gates:
            one.theta[0] = -20.0 / one.pace
    gates.settle()
    layer = both.student.generator.conv1
    assert isinstance(layer.weight, nn.Parameter)
    assert bool((layer.weight[0] == 0).all())
    assert set(dict(both.student.named_parameters())) == set(dict(model.named_parameters()))


def test_groups_close_exactly_as_many_as_planned_and_stay_closed() -> None:
    model = small_models.gan()
    found = free(model)
    both = Shrinking(copy.deepcopy(model), model, TUNE, found, ratio=0.5, weight=50.0)
    total = sum(c.units for c in found)
    for k in range(60):
        both.after_step(Context(k, k / 60, "main", {}, torch.Generator()))
        closed = sum(int(c.sum()) for c in both.closed)
        assert closed <= round(0.5 * total * min(1.0, k / 60 / 0.6))
    assert closed == round(0.5 * total)
    for coupling, gone in zip(both.couplings, both.closed, strict=True):
        norms = both.norms(coupling)
        assert bool((norms[gone] == 0).all())
        assert bool((norms[~gone] > 0).all())


@pytest.mark.parametrize("method", ["l0", "group_lasso"])
def test_what_training_closed_is_what_is_cut(method: str) -> None:
    model = small_models.gan()
    config = PruneConfig(method=method, train=60, ratio=0.5, tolerance=0.3, **SMALL)
    done, reached = learned_channels(model, model, split(), config, TUNE, seed=0)
    before, after = (sum(w[i] for w in done.widths.values()) for i in (0, 1))
    assert after == pytest.approx(0.5 * before, abs=len(done.widths))
    assert reached == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(done.model.generator.last.bias, model.generator.last.bias)  # it was trained on
    assert len({a / b for b, a in done.widths.values()}) > 1  # layers were found to differ
    assert {e.kind for e in done.model.surgery} == {"cut"}
    assert done.model.sample(2, seed=0).isfinite().all()


def test_single_weights_of_a_recurrent_model_are_learned_to_the_ratio() -> None:
    model = small_models.recurrent()
    config = PruneConfig(what="weights", method="l0", train=60, ratio=0.6, tolerance=0.35)
    done, reached = learned_weights(model, model, tokens(model), config, TUNE, seed=0)
    assert done.reached == pytest.approx(0.6, abs=1e-3)
    assert abs(reached - 0.6) <= 0.35
    counted = sum(int((s.weight == 0).sum()) for s in slots(done.model)[0].values())
    assert counted == done.zeros
    assert not any("parametrizations" in n for n in done.model.state_dict())


def test_training_that_does_not_come_close_is_an_error() -> None:
    model = small_models.gan()
    config = PruneConfig(method="l0", train=2, ratio=0.5, tolerance=0.01, **SMALL)
    with pytest.raises(NiwakiError, match=r"'l0' closed .* in 2 steps, and the ratio is 50%; raise 'train'"):
        learned_channels(model, model, split(), config, TUNE, seed=0)


def test_a_fresh_gate_is_open() -> None:
    one = HardConcrete((4,))
    z: Tensor = one.draw(None)
    assert bool((z > 0.9).all())
    assert float(open_probability(one.log_alpha.detach()).min()) > 0.95
