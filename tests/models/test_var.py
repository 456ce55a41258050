"""Next-scale prediction: each scale says what coarser ones left, sees those, and is written in one call."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model_cases import DIGITS, TALL, batch, make
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.models.vae.codebooks import CODEBOOKS
from niwaki.models.vae.scales import MultiScaleCodebook
from niwaki.models.vae.var import Var
from niwaki_runtime.samplers import NextScale, Noise, sampler_from_json

KINDS = ["averaged", "learned"]
SIZES = ((1, 1), (2, 2), (4, 4))


def stirred(**changes: object) -> Var:
    model = make("var", DIGITS, **changes).eval()
    assert isinstance(model, Var)
    rng = torch.Generator().manual_seed(1)
    for weight in model.prior.parameters():
        weight.data += 0.2 * torch.randn(weight.shape, generator=rng)
    return model


def book_of(kind: str = "averaged", codes: int = 9, dim: int = 3) -> MultiScaleCodebook:
    torch.manual_seed(0)
    return MultiScaleCodebook(CODEBOOKS[kind](codes, dim, 0.4), dim, SIZES)


def slowly(book: MultiScaleCodebook, h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Numbers of each scale, and the sum after each `(n, dim, 4, 4)`, by Algorithm 1 of the paper."""
    left, known, numbers, sums = h.movedim(-1, 1), torch.zeros_like(h.movedim(-1, 1)), [], []
    for i, size in enumerate(SIZES):
        rows = F.adaptive_avg_pool2d(left, size).movedim(1, -1).flatten(1, 2)
        numbers.append(torch.cdist(rows, book.book.entries()[None]).argmin(-1))
        e = book.book.entries()[numbers[-1]].movedim(-1, 1).unflatten(2, size)
        e = F.interpolate(e, SIZES[-1], mode="bicubic", align_corners=False)
        e = 0.5 * e + 0.5 * book.smooth[i](e)
        left, known = left - e, known + e
        sums.append(known)
    return numbers, sums


@pytest.mark.parametrize("kind", KINDS)
def test_each_scale_finds_what_is_nearest_to_the_rest(kind: str) -> None:
    book, h = book_of(kind), torch.randn(5, 4, 4, 3)
    numbers, sums = slowly(book, h)
    found = book.search(h)
    assert torch.equal(found, torch.cat(numbers, 1))
    q, again, _ = book(h)
    assert torch.equal(again, found)
    torch.testing.assert_close(q, sums[-1].movedim(1, -1), atol=1e-5, rtol=1e-5)
    for k in (1, 2, 3):
        told = book.look_up(found, k).unflatten(1, (4, 4))
        torch.testing.assert_close(told, sums[k - 1].movedim(1, -1), atol=1e-5, rtol=1e-5)


def test_what_a_place_is_told_is_the_sum_of_coarser_scales_at_its_size() -> None:
    book, h = book_of(), torch.randn(5, 4, 4, 3)
    numbers, sums = slowly(book, h)
    told = book.told(torch.cat(numbers, 1)).split(book.counts, 1)
    assert not told[0].any()
    for i in (1, 2):
        expected = F.adaptive_avg_pool2d(sums[i - 1], SIZES[i]).movedim(1, -1).flatten(1, 2)
        torch.testing.assert_close(told[i], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_terms_move_what_they_are_for(kind: str) -> None:
    """The commitment the encoder's map alone, the other the convolutions and the learned vectors."""
    book, h = book_of(kind).train(), torch.randn(5, 4, 4, 3, requires_grad=True)
    q, _, terms = book(h)
    (passed,) = torch.autograd.grad(q.sum(), h, retain_graph=True)
    torch.testing.assert_close(passed, torch.ones_like(h))  # straight through
    weights = list(book.parameters())
    at_h = torch.autograd.grad(terms["commitment"], [h, *weights], retain_graph=True, allow_unused=True)
    assert at_h[0] is not None
    assert all(g is None for g in at_h[1:])
    sums = slowly(book, h.detach())[1]
    expected = sum(2 * 0.4 * (h.detach() - s.movedim(1, -1).detach()) / h.numel() / 3 for s in sums)
    torch.testing.assert_close(at_h[0], expected, atol=1e-6, rtol=1e-4)
    rest = torch.autograd.grad(terms["smoothing"], [h, *weights], allow_unused=True)
    assert rest[0] is None
    assert all(g is not None and g.abs().sum() > 0 for g in rest[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_falls_with_each_scale_from_the_start(kind: str) -> None:
    book = book_of(kind, codes=32)
    smooth = torch.randn(200, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    h = F.interpolate(smooth, (4, 4), mode="bilinear").movedim(1, -1)
    with torch.no_grad():
        book.begin(h, torch.Generator().manual_seed(0))
        numbers = book.search(h)
        sums = [book.look_up(numbers, k).view_as(h) for k in (1, 2, 3)]
    errors = [float((h - s).square().mean()) for s in sums]
    assert all(
        later < 0.8 * before for before, later in itertools.pairwise([float(h.square().mean()), *errors])
    )


def test_codes_that_nobody_chose_are_moved() -> None:
    book, h = book_of(codes=32), torch.randn(50, 4, 4, 3)
    with torch.no_grad():
        book.book.table[:20] += 100.0
        book.revive(h, torch.Generator().manual_seed(0))
        assert float(book.book.table[:20].abs().max()) < 20


@pytest.mark.parametrize("training", [False, True])
def test_a_scale_sees_itself_and_coarser_ones_by_gradients(training: bool) -> None:
    model = stirred(prior_dropout=0.2)
    prior = model.prior.train(training)
    told = torch.randn(1, model.length, model.config.dim, requires_grad=True)
    torch.manual_seed(0)
    logits = prior(told, torch.tensor([3]))
    scale = torch.tensor([0] + [1] * 4 + [2] * 16)
    for place in range(model.length):
        (grad,) = torch.autograd.grad(logits[0, place].sum(), told, retain_graph=True)
        assert torch.equal(grad[0].abs().sum(1) > 0, scale <= scale[place])


def test_logits_of_a_scale_do_not_depend_on_codes_from_it_on() -> None:
    """Though it sees all of its places: what it is told there comes from coarser scales."""
    model, starts = stirred(), (0, 1, 5, 21)
    codes, y = torch.randint(0, 64, (2, 21)), torch.tensor([1, 2])
    with torch.no_grad():
        logits = model.prior(model.codebook.told(codes), y)
        for start, end in itertools.pairwise(starts):
            other = codes.clone()
            other[:, start:] = torch.randint(0, 64, other[:, start:].shape)
            again = model.prior(model.codebook.told(other), y)
            torch.testing.assert_close(again[:, :end], logits[:, :end])
            if end < 21:
                assert (again[:, end:] - logits[:, end:]).abs().max() > 1e-3


def test_writing_scale_by_scale_equals_reading_all_at_once() -> None:
    model = stirred()
    codes, y = torch.randint(0, 64, (3, 21)), torch.tensor([1, 2, 3])
    graph = model.graphs()["prior"]
    state = [torch.from_numpy(s.zeros(3)) for s in graph.state]
    rows, start = [], 0
    with torch.no_grad():
        for scale, count in enumerate((1, 4, 16)):
            fed = codes.clone()
            fed[:, start:] = 0
            logits, *news = graph(fed, torch.tensor([scale]), y, *state)
            for held, new in zip(state, news, strict=True):
                end = min(start + new.shape[2], held.shape[2])
                held[:, :, start:end] = new[:, :, : end - start]
            rows.append(logits[:, :count])
            start += count
        whole = model.prior(model.codebook.told(codes), y)
    torch.testing.assert_close(torch.cat(rows, 1), whole, atol=1e-5, rtol=1e-4)


def test_a_sample_takes_one_call_per_scale_and_greedy_ones_are_the_argmax() -> None:
    model, y = stirred(), np.arange(4)
    assert model.sampler().legs[0].evaluations() == 3
    greedy = model.sampler().legs[0].override(temperature=0.0)
    calls: list[int] = []
    graph = model.graphs()["prior"]

    class Counted:
        state = graph.state

        def __call__(self, codes: Tensor, scale: Tensor, *rest: Tensor):
            calls.append(int(scale))
            return graph(codes, scale, *rest)

    with torch.no_grad():
        noise = Noise(model.backend(), 0, 0, 4)
        codes = greedy({"prior": Counted()}, noise, {"class": torch.from_numpy(y)})
        logits = model.prior(model.codebook.told(codes), torch.from_numpy(y))
    assert calls == [0, 1, 2]
    assert torch.equal(codes, logits.argmax(-1))


def test_a_coarse_picture_needs_the_first_scales_alone() -> None:
    model = stirred()
    codes = model.encode(batch(DIGITS).x)
    other = codes.clone()
    other[:, 5:] = 0
    with torch.no_grad():
        torch.testing.assert_close(model.decode(codes, scales=2), model.decode(other, scales=2))
        torch.testing.assert_close(model.decode(codes, scales=3), model.decode(codes))


def test_a_grid_that_is_no_square_has_scales_of_its_shape() -> None:
    model = make("var", TALL)
    assert model.codebook.sizes == ((2, 1), (4, 2), (8, 4))
    assert model.sample(2, condition=1).shape == (2, 2, 16, 8)


@pytest.mark.parametrize("scales", [(), (0, 4), (2, 1, 4), (1, 2), (1, 8), (1, 4, 4)])
def test_scales_that_do_not_grow_to_the_grid_are_refused(scales: tuple[int, ...]) -> None:
    with pytest.raises(CallError, match="scales must grow up to 4"):
        make("var", DIGITS, scales=scales)


def test_the_sampler_is_plain_data() -> None:
    sampler = NextScale((1, 4), "prior", ("class",), top_k=3)
    assert sampler_from_json(json.loads(json.dumps(sampler.to_json()))) == sampler
    for counts in ((), (1, 0)):
        with pytest.raises(CallError, match="places"):
            NextScale(counts)
