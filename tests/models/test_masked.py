"""Masked diffusion of tokens: the bound is a bound, and samples follow the network, by enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from model_cases import batch, context, make
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, ValueSpec
from niwaki.models.autoregressive import MaskedDiffusion
from niwaki.nn.masking import hide, masked_nll
from niwaki_runtime.specs import Tokens

TINY = DataSpec({"x": ValueSpec("text", (3,), "T", Tokens(3))})
TEXT = DataSpec.of("text", (16,), levels=12)
WORDS = DataSpec({"x": ValueSpec("text", (24,), "T", Tokens(7)), "class": ValueSpec.label(3)})
PLACES = [c for k in (1, 2, 3) for c in itertools.combinations(range(3), k)]
"""Every set of masked places of `TINY`."""


def stirred(spec: DataSpec, **changes: object) -> MaskedDiffusion:
    """Far from uniform."""
    model = make("masked", spec, **changes).eval()
    assert isinstance(model, MaskedDiffusion)
    rng = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.4 * torch.randn(weight.shape, generator=rng)
    return model


def every_sequence() -> Tensor:
    return torch.tensor(list(itertools.product(range(3), repeat=3)))


def log_p(model: MaskedDiffusion, x: Tensor, places: tuple[int, ...]) -> Tensor:
    """log p of each token `(n, T)` where `places` are masked."""
    shown = x.clone()
    shown[:, list(places)] = model.mask
    with torch.no_grad():
        each = torch.log_softmax(model.logits(shown).double(), -1)
    return each.gather(-1, x.unsqueeze(-1)).squeeze(-1)


def by_orders(model: MaskedDiffusion, x: Tensor) -> Tensor:
    """log p(x | σ) of all orders σ, one token a step: `(orders, n)`."""
    found = []
    for order in itertools.permutations(range(3)):
        parts = [log_p(model, x, order[i:])[:, place] for i, place in enumerate(order)]
        found.append(torch.stack(parts).sum(0))
    return torch.stack(found)


def exact_bound(model: MaskedDiffusion, x: Tensor) -> Tensor:
    """E_k L/k Σ log p over all sets of masked places, each k equally likely."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for places in PLACES:
        k = len(places)
        weight = 1 / 3 / math.comb(3, k) * 3 / k
        total += weight * log_p(model, x, places)[:, list(places)].sum(1)
    return total


def test_one_token_a_step_in_random_order_is_a_distribution_and_the_bound_lies_below_it() -> None:
    model, x = stirred(TINY), every_sequence()
    orders = by_orders(model, x)
    exact = torch.logsumexp(orders, 0) - math.log(6)
    assert float(exact.exp().sum()) == pytest.approx(1.0, abs=1e-6)
    bound = exact_bound(model, x)
    torch.testing.assert_close(bound, orders.mean(0), atol=1e-6, rtol=0)  # any-order, its mean over orders
    assert (bound <= exact + 1e-9).all()
    assert float((exact - bound).max()) > 1e-3  # and not because the orders agree


def test_the_weight_of_k_masks_is_the_integral_of_continuous_time() -> None:
    """∫₀¹ 1/t P(exactly these k are masked) dt, by quadrature."""
    model, x = stirred(TINY), every_sequence()
    t = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    total = torch.zeros(len(x), dtype=torch.float64)
    for places in PLACES:
        k = len(places)
        weight = float((t ** (k - 1) * (1 - t) ** (3 - k)).mean())
        total += weight * log_p(model, x, places)[:, list(places)].sum(1)
    torch.testing.assert_close(total, exact_bound(model, x), atol=1e-6, rtol=0)


def test_log_prob_estimates_the_bound_without_bias() -> None:
    model, x = stirred(TINY), every_sequence()
    n = 200
    rows = x.repeat_interleave(n, 0)
    found = model.run("log_prob", len(rows), inputs={"x": rows}, draws=3).double().reshape(len(x), n)
    error = (found.mean(1) - exact_bound(model, x)).abs()
    assert (error <= 4.5 * found.std(1) / math.sqrt(n) + 1e-6).all()


def test_the_loss_estimates_the_bound_without_bias() -> None:
    model, n = stirred(TINY), 9000
    x = torch.tensor([[0, 2, 1]]).repeat(n, 1)
    with torch.no_grad():
        loss = model.loss("nll", batch(TINY).replaced(x=x), context())["bound"]
    expected = -exact_bound(model, x[:1]) / 3
    assert float(loss) == pytest.approx(float(expected), rel=0.01)


@pytest.mark.parametrize("steps", [3, 7])
def test_samples_follow_the_any_order_distribution(steps: int) -> None:
    model, n = stirred(TINY), 6000
    x = model.sample(n, seed=3, steps=steps)
    share = torch.bincount((x * torch.tensor([9, 3, 1])).sum(1), minlength=27).double() / n
    exact = (torch.logsumexp(by_orders(model, every_sequence()), 0) - math.log(6)).exp()
    assert ((share - exact).abs() <= 4.5 * (exact * (1 - exact) / n).sqrt()).all()


def test_hidden_counts_are_even_over_a_batch_and_places_are_uniform() -> None:
    x = torch.arange(8).expand(4000, 8)
    tokens, hidden = hide(x, 8, torch.Generator().manual_seed(0))
    counts = torch.bincount(hidden.sum(1), minlength=9)
    assert counts[0] == 0
    assert (counts[1:] - 500).abs().max() <= 1
    assert (hidden.double().mean(0) - 4.5 / 8).abs().max() < 0.03
    assert torch.equal(tokens, torch.where(hidden, 8, x))
    few, _ = hide(x[:4], 8, torch.Generator().manual_seed(1))
    assert torch.equal((few == 8).sum(1).sort().values // 2 - (few == 8).sum(1).min() // 2, torch.arange(4))


def test_only_masked_places_have_a_gradient() -> None:
    """MaskGIT-pytorch #14."""
    x = torch.randint(5, (6, 10), generator=torch.Generator().manual_seed(0))
    _, hidden = hide(x, 5, torch.Generator().manual_seed(2))
    logits = torch.randn(6, 10, 5, requires_grad=True)
    masked_nll(logits, x, hidden).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(-1) > 0, hidden)
    of_p = logits.softmax(-1) - torch.nn.functional.one_hot(x, 5)
    weight = (
        hidden / hidden.sum(1, keepdim=True) / 6
    )  # a sample weighs the same, however much of it is hidden
    torch.testing.assert_close(logits.grad, of_p.detach() * weight.unsqueeze(-1))


def test_every_place_sees_every_other() -> None:
    model = stirred(TEXT)
    fed: list[Tensor] = []
    model.embed.register_forward_hook(lambda m, i, out: fed.append(out.requires_grad_(True)) or out)
    out = model.logits(torch.randint(12, (1, 16)))
    for place in (0, 7, 15):
        (grad,) = torch.autograd.grad(out[0, place].sum(), fed[0], retain_graph=True)
        assert (grad[0].abs().sum(1) > 0).all()


def prompts(spec: DataSpec, n: int) -> Iterator[np.ndarray]:
    """Beginnings, ends, tokens anywhere, all, none."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, spec.levels, (n, *spec.shape))
    place = np.arange(spec.shape[0])
    for known in (place < 5, place > 9, rng.random(x.shape) < 0.4, place >= 0, place < 0):
        yield np.where(known, x, -1)


@pytest.mark.parametrize("order", ["random", "independent", "confidence"])
def test_given_tokens_stay_wherever_they_stand(order: str) -> None:
    model = stirred(WORDS)
    for prompt in prompts(WORDS, 4):
        x = model.run("continue", 4, inputs={"prompt": prompt, "class": 1}, order=order).numpy()
        assert np.array_equal(x[prompt >= 0], prompt[prompt >= 0])
        assert x.min() >= 0
        assert x.max() < 7


def test_a_prompt_without_tokens_is_a_sample() -> None:
    model = stirred(WORDS)
    x = model.run("continue", 3, seed=4, inputs={"prompt": np.full(24, -1), "class": 2})
    assert torch.equal(x, model.sample(3, seed=4, condition=2))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 12, "heads": 4}, "heads of an even width"),
        ({"sampling": {"order": "halton"}}, "grid"),
        ({"sampling": {"schedule": "sine"}}, "schedule"),
        ({"sampling": {"order": "left"}}, "order"),
        ({"sampling": {"steps": 0}}, "at least 1"),
        ({"sampling": {"spread": -1.0}}, "spread"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(CallError, match=said):
        make("masked", TEXT, **changes).sampler()
