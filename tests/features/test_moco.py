"""The queue and the slow encoder of MoCo, step by step."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from features.toys import toy
from torch import Tensor

from niwaki.core.contract import Batch, Context
from niwaki.features.encoders import build_encoder
from niwaki.features.moco import Moco
from niwaki.training import TrainConfig, fit

SETTINGS = {"width": 16, "features": 8, "projection": 4, "queue": 10, "momentum": 0.9}


def moco(**changes: object) -> Moco:
    torch.manual_seed(0)
    made = build_encoder("moco", {**SETTINGS, **changes}, toy((6,)).spec)
    assert isinstance(made, Moco)
    return made


def context(step: int = 0) -> Context:
    return Context(step, 0.0, "main", {}, torch.Generator().manual_seed(step))


def keys(n: int, first: int) -> Tensor:
    """Rows that can be told apart: first, first + 1 …"""
    return (first + torch.arange(n, dtype=torch.float32))[:, None].expand(n, 4)


def test_the_queue_is_a_ring_of_the_newest_keys() -> None:
    model = moco()
    before = model.queue.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(10))
    model.enqueue(keys(4, 100))
    assert model.queue[:4, 0].tolist() == [100, 101, 102, 103]
    assert torch.equal(model.queue[4:], before[4:])
    assert int(model.end) == 4
    model.enqueue(keys(4, 104))
    model.enqueue(keys(4, 108))  # two at the end, two at the beginning, in the place of the oldest
    assert model.queue[:, 0].tolist() == [110, 111, 102, 103, 104, 105, 106, 107, 108, 109]
    assert int(model.end) == 2
    model.enqueue(keys(23, 200))  # more than it holds: the newest ten
    assert sorted(model.queue[:, 0].tolist()) == list(range(213, 223))


def test_negatives_are_the_keys_of_earlier_batches_alone() -> None:
    model = moco()
    batch = Batch({"x": toy((6,)).train.values()[:4]})
    before = model.queue.clone()
    with_random_queue = model.loss("contrast", batch, context())["info_nce"]
    own = model.queue[:4].clone()
    assert not torch.equal(own, before[:4]), "the batch's keys are in the queue now"
    torch.testing.assert_close(own.norm(dim=1), torch.ones(4))
    model.queue.copy_(before)  # as if the batch had never been seen: the same loss, so it was not used
    model.end.zero_()
    assert torch.equal(model.loss("contrast", batch, context())["info_nce"], with_random_queue)
    again = model.loss("contrast", batch, context())["info_nce"]
    assert not torch.equal(again, with_random_queue), "now its own keys are among the negatives"


def test_the_slow_encoder_follows_by_the_formula() -> None:
    model = moco().double()
    fast_ones = [*model.backbone.parameters(), *model.projector.parameters()]
    pairs = list(zip(model.key.parameters(), fast_ones, strict=True))
    assert all(torch.equal(slow, fast) for slow, fast in pairs), "it starts as a copy"
    with torch.no_grad():
        for _, fast in pairs:
            fast.add_(torch.randn_like(fast))
    expected = [0.9 * slow.detach() + (1 - 0.9) * fast.detach() for slow, fast in pairs]
    kept = [fast.detach().clone() for _, fast in pairs]
    model.after_step(context())
    for (slow, fast), wanted, same in zip(pairs, expected, kept, strict=True):
        torch.testing.assert_close(slow, wanted, atol=1e-14, rtol=0)
        assert torch.equal(fast, same)


def test_gradients_reach_the_fast_encoder_only() -> None:
    model = moco()
    model.loss("contrast", Batch({"x": toy((6,)).train.values()[:8]}), context())["info_nce"].backward()
    trained = [*model.backbone.parameters(), *model.projector.parameters()]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    assert all(p.grad is None and not p.requires_grad for p in model.key.parameters())


def test_queue_and_slow_encoder_are_kept_with_the_weights() -> None:
    model = moco()
    config = TrainConfig(steps=5, batch=8, precision="fp32", ema=0.0, checkpoint_every=0)
    fit(model, toy((6,)).train, config, seed=0)
    assert int(model.end) == 5 * 8 % 10
    state = model.state_dict()
    assert {"queue", "end", "key.0.0.weight"} <= state.keys()
    other = moco()
    other.load_state_dict(state)
    batch = Batch({"x": toy((6,)).train.values()[:4]})
    losses = [m.loss("contrast", batch, context(3))["info_nce"] for m in (model, other)]
    assert torch.equal(*losses)
    assert not torch.equal(model.backbone[0].weight, model.key[0][0].weight), "it lags behind"


def test_a_stopped_training_goes_on_to_the_same_queue(tmp_path: Path) -> None:
    config = TrainConfig(steps=6, batch=8, precision="fp32", ema=0.5, checkpoint_every=3)
    whole, halves = moco(), moco()
    fit(whole, toy((6,)).train, config, seed=0, directory=tmp_path)
    (last,) = (tmp_path / "checkpoints").glob("step-*6")
    shutil.rmtree(last)
    fit(halves, toy((6,)).train, config, seed=0, directory=tmp_path, resume=True)
    state = whole.state_dict()
    assert all(torch.equal(state[name], value) for name, value in halves.state_dict().items())
