"""Mixtures of experts: what is chosen, what that weighs, and how evenly it is used."""

from __future__ import annotations

import copy

import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.nn.layers.causal import BlockStyle, CausalBlock
from niwaki.nn.layers.experts import Experts, listening
from niwaki.nn.layers.feed_forward import FeedForward

KINDS: list[FeedForward] = ["squared_relu", "gelu", "swiglu"]
near = {"atol": 1e-6, "rtol": 1e-5}


def mixture(kind: FeedForward = "swiglu", count: int = 5, chosen: int = 2) -> Experts:
    torch.manual_seed(0)
    return Experts(8, 12, count, chosen, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", [1, 2, 5])
def test_equal_experts_are_one_network(kind: FeedForward, chosen: int) -> None:
    made = mixture(kind, chosen=chosen)
    for expert in made.experts:
        expert.load_state_dict(made.experts[0].state_dict())
    x = torch.randn(3, 7, 8)
    for mode in (True, False):
        torch.testing.assert_close(made.train(mode)(x), made.experts[0](x), **near)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("experts", [False, True])
def test_a_block_with_equal_experts_is_the_dense_block(kind: FeedForward, experts: bool) -> None:
    torch.manual_seed(0)
    dense = CausalBlock(8, 2, 12, style=BlockStyle(feed_forward=kind))
    mixed = CausalBlock(8, 2, 12, style=BlockStyle(feed_forward=kind, experts=4, chosen=2))
    known = dense.state_dict()
    for name, value in mixed.state_dict().items():
        plain = ".".join(name.split(".")[3:]) if name.startswith("experts.experts.") else name
        if plain in known:
            value.copy_(known[plain])
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(mixed.train(experts)(x), dense(x), **near)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_only_chosen_tokens_computed_is_all_computed_and_weighed(kind: FeedForward, chosen: int) -> None:
    made, x = mixture(kind, chosen=chosen), torch.randn(2, 9, 8)
    slow = torch.zeros(18, 8)
    for i, token in enumerate(x.flatten(0, 1)):
        p = made.router(token).softmax(0)
        for e in p.topk(chosen).indices:
            slow[i] += p[e] / p.topk(chosen).values.sum() * made.experts[e](token)
    for mode in (True, False):
        torch.testing.assert_close(made.train(mode)(x).flatten(0, 1), slow, **near)


def test_gradients_in_training_are_those_of_the_dense_form_and_reach_the_router() -> None:
    x, found = torch.randn(4, 9, 8), []
    for mode in (True, False):
        made = mixture().train(mode)
        made(x).square().sum().backward()
        found.append({name: p.grad for name, p in made.named_parameters()})
    assert float(found[0]["router.weight"].abs().sum()) > 0
    for name, g in found[0].items():
        torch.testing.assert_close(g, found[1][name], atol=1e-4, rtol=1e-4)


def test_the_balance_is_one_where_experts_are_used_evenly_and_their_number_where_one_is() -> None:
    even, x = mixture(count=4, chosen=1), torch.eye(4, 8).repeat(6, 1)[None]
    with torch.no_grad():
        even.router.weight.copy_(20.0 * torch.eye(4, 8))  # token i goes to expert i
    with listening([even]) as routed:
        even(x)
    assert routed[0].share.tolist() == [0.25] * 4
    assert routed[0].balance.item() == pytest.approx(1.0, abs=1e-4)
    with torch.no_grad():
        even.router.weight.copy_(torch.zeros(4, 8))
        even.router.weight[2] = 50.0
    with listening([even]) as routed:
        even(x)
    assert routed[0].share.tolist() == [0.0, 0.0, 1.0, 0.0]
    assert routed[0].balance.item() == pytest.approx(4.0, abs=1e-3)


def test_descending_on_the_balance_evens_the_use() -> None:
    made, x = mixture(count=4, chosen=1), torch.randn(8, 32, 8)
    with torch.no_grad():
        made.router.weight[1] += 2.0 * x.flatten(0, 1).mean(0) + 1.0
    optimizer, shares = torch.optim.Adam([made.router.weight], lr=0.02), []
    for _ in range(60):
        with listening([made]) as routed:
            made(x)
        shares.append(routed[0].share)
        optimizer.zero_grad()
        routed[0].balance.backward()
        optimizer.step()
    assert float(shares[-1].max()) < 0.4 < float(shares[0].max())


def test_nothing_that_was_heard_stays() -> None:
    made = mixture()
    with listening([made]):
        made(torch.randn(1, 3, 8))
    copy.deepcopy(made)
    assert made.heard is None


def test_more_cannot_be_chosen_than_there_are() -> None:
    with pytest.raises(CallError, match="of 2 experts 3"):
        Experts(8, 12, 2, 3, "gelu")


def test_the_block_is_that_of_mixtral() -> None:
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    config = mixtral.MixtralConfig(
        hidden_size=8, intermediate_size=12, num_local_experts=5, num_experts_per_tok=2
    )
    config._experts_implementation = "eager"
    theirs, ours = mixtral.MixtralSparseMoeBlock(config).eval(), mixture().eval()
    with torch.no_grad():
        theirs.gate.weight.copy_(ours.router.weight)
        for i, e in enumerate(ours.experts):
            theirs.experts.gate_up_proj[i] = torch.cat([e.gate.weight, e.up.weight])
            theirs.experts.down_proj[i] = e.down.weight
        x = torch.randn(3, 7, 8)
        torch.testing.assert_close(ours(x), theirs(x), **near)
        with listening([ours]) as routed:
            ours(x)
        loss = mixtral.load_balancing_loss_func((ours.router(x.flatten(0, 1)),), 5, 2)
        assert routed[0].balance.item() == pytest.approx(float(loss) / 2, rel=1e-5)  # theirs counts choices
