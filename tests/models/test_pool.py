"""CycleGAN's pool of earlier images: what it hands on, and that a resumed training goes on with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import context, make
from test_cyclegan import TWO, split, two

from niwaki.models.gan.pool import ImagePool
from niwaki.training import TrainConfig, fit


def numbered(start: int, n: int) -> torch.Tensor:
    return torch.arange(start, start + n, dtype=torch.float32).view(n, 1, 1, 1)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_until_it_is_full_images_are_kept_and_handed_on() -> None:
    pool, draws = ImagePool(10, (1, 1, 1)), rng()
    for start in (0, 4):
        assert torch.equal(pool.exchange(numbered(start, 4), draws), numbered(start, 4))
    assert sorted(pool.images.flatten()[:8].tolist()) == list(range(8))
    assert int(pool.filled) == 8
    crossing = pool.exchange(numbered(8, 4), draws)  # two places are left: no image of the batch is lost
    assert torch.equal(crossing, numbered(8, 4))
    assert pool.images.flatten().tolist() == list(range(10))
    assert int(pool.filled) == 10


def test_a_full_pool_exchanges_half_and_none_is_lost_or_doubled() -> None:
    pool, draws, size, n = ImagePool(50, (1, 1, 1)), rng(), 50, 16
    pool.exchange(numbered(0, size), draws)
    exchanged, ages, at, rounds = 0, [], size, 4000
    for _ in range(rounds):
        inside = set(pool.images.flatten().tolist())
        fresh = numbered(at, n)
        out = pool.exchange(fresh, draws).flatten().tolist()
        given, now = set(fresh.flatten().tolist()), set(pool.images.flatten().tolist())
        assert len(set(out)) == n
        assert (inside | given) == (now | set(out)), "an image is handed on or in the pool"
        old = [image for image in out if image < at]
        assert all(out[i] in (at + i, out[i]) for i in range(n))
        exchanged += len(old)
        ages += [at + i - image for i, image in enumerate(out) if image < at]
        at += n
    share = exchanged / (rounds * n)
    assert share == pytest.approx(0.5, abs=0.01)
    # A place is asked for with chance n/size · ½ in each batch: what comes back is 1 / that batches old.
    mean = sum(ages) / len(ages) / n
    assert mean == pytest.approx(size / (0.5 * n), rel=0.05)


def test_every_place_is_exchanged_as_often_as_any_other() -> None:
    pool, draws = ImagePool(8, (1, 1, 1)), rng()
    pool.exchange(numbered(0, 8), draws)
    counts, at, rounds = torch.zeros(8), 8, 6000
    for _ in range(rounds):
        before = pool.images.clone()
        pool.exchange(numbered(at, 3), draws)
        counts += (pool.images != before).flatten().float()
        at += 3
    expected = rounds * 3 * 0.5 / 8
    assert torch.allclose(counts, torch.full((8,), expected), rtol=0.08)


def test_more_images_than_places_and_a_pool_of_none() -> None:
    pool, draws = ImagePool(3, (1, 1, 1)), rng()
    pool.exchange(numbered(0, 5), draws)
    assert pool.images.flatten().tolist() == [0, 1, 2]
    for k in range(20):
        out = pool.exchange(numbered(10 + 5 * k, 5), draws)
        assert torch.equal(out[3:], numbered(13 + 5 * k, 2)), "those beyond the places are handed on"
    assert torch.equal(ImagePool(0, (1, 1, 1)).exchange(numbered(0, 4), draws), numbered(0, 4))


def test_it_keeps_the_dtype_that_it_is_given_and_no_gradients() -> None:
    pool = ImagePool(4, (1, 1, 1))
    out = pool.exchange(numbered(0, 4).bfloat16().requires_grad_(True), rng())
    assert out.dtype == torch.bfloat16
    assert not out.requires_grad
    assert pool.images.dtype == torch.float32


def test_with_size_0_the_model_is_what_it_was() -> None:
    """No buffer and no draw: losses of the same seed are those of a critic that sees the newest images."""
    plain, none, some = (make("cyclegan", TWO, **of) for of in ({}, {"pool": 0}, {"pool": 4}))
    assert list(plain.state_dict()) == list(none.state_dict())
    assert {"pools.a.images", "pools.b.filled"} <= set(some.state_dict())
    data = two()
    for phase in ("translate", "criticise"):
        one, two_, three = (context() for _ in range(3))
        found = [m.loss(phase, data, c) for m, c in ((plain, one), (none, two_), (some, three))]
        assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
        assert torch.equal(one.rng.get_state(), two_.rng.get_state())
        if phase == "translate":
            assert torch.equal(one.rng.get_state(), three.rng.get_state())


def test_critics_see_images_of_the_pool() -> None:
    model: Any = make("cyclegan", TWO, pool=6)
    data = two(6)
    first = model.loss("criticise", data, context())
    assert torch.equal(model.pools["b"].images, model.ab(data.x).detach())
    model.pools["b"].images.fill_(1.0)
    later = model.loss("criticise", data, context())
    assert not torch.equal(later["fake_b"], first["fake_b"]), "about half of the images were the pool's"
    assert torch.equal(later["real_b"], first["real_b"])


@pytest.mark.parametrize("pool", [0, 5])
def test_a_resumed_training_ends_bit_for_bit_the_same(pool: int, tmp_path: Any) -> None:
    config = TrainConfig(steps=9, batch=4, checkpoint_every=4, log_every=1, precision="fp32", ema=0.5)

    class Stop(Exception):
        pass

    def stop(step: int, total: int, last: Any) -> None:
        if step == 6:
            raise Stop

    whole, cut, resumed = (make("cyclegan", TWO, pool=pool) for _ in range(3))
    fit(whole, split(), config, seed=0)
    with pytest.raises(Stop):
        fit(cut, split(), config, seed=0, directory=tmp_path, progress=stop)
    fit(resumed, split(), config, seed=0, directory=tmp_path, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
