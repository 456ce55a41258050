"""Residual VQ: each book says what those before it left over."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from model_cases import DIGITS, batch, context, make
from torch import Tensor

from niwaki.core.contract import CallError, Context
from niwaki.deployment import export_graphs, package, parity
from niwaki.models.registry import build
from niwaki.models.vae.codebooks import CODEBOOKS
from niwaki.models.vae.residual import ResidualCodebook

KINDS = ["learned", "averaged"]


def books_of(kind: str = "learned", books: int = 3, codes: int = 6, dim: int = 3, beta: float = 0.4):
    torch.manual_seed(0)
    book = ResidualCodebook([CODEBOOKS[kind](codes, dim, beta) for _ in range(books)])
    return book, torch.randn(5, 2, 2, dim, requires_grad=True)


def slowly(book: ResidualCodebook, row: Tensor) -> tuple[list[int], Tensor]:
    """Numbers and vector of one feature, by the definition."""
    numbers, told = [], torch.zeros_like(row)
    for one in book.books:
        far = (row - told - one.entries()).square().sum(1)
        numbers.append(int(far.argmin()))
        told = told + one.entries()[numbers[-1]]
    return numbers, told


@pytest.mark.parametrize("kind", KINDS)
def test_each_book_finds_what_is_nearest_to_the_rest(kind: str) -> None:
    book, h = books_of(kind)
    q, numbers, _ = book(h)
    assert torch.equal(numbers, book.search(h))
    for row, mine, told in zip(
        h.detach().reshape(-1, 3), numbers.reshape(-1, 3), q.reshape(-1, 3), strict=True
    ):
        expected, vector = slowly(book, row)
        assert mine.tolist() == expected
        torch.testing.assert_close(told.detach(), vector.detach(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(book.look_up(numbers), q, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_falls_with_each_book(kind: str) -> None:
    """After the books were begun by k-means on what those before them left over."""
    book, _ = books_of(kind, books=4)
    h = torch.randn(400, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        book.begin(h, torch.Generator().manual_seed(0))
        numbers = book.search(h)
        errors = [float((h - book.look_up(numbers[:, :k])).square().mean()) for k in (1, 2, 3, 4)]
    assert all(b < 0.8 * a for a, b in pairwise(errors)), errors


def test_gradients_of_encoder_and_books_in_closed_form() -> None:
    """L = ⟨w, q⟩ + Σᵢ β mean‖rᵢ − sg eᵢ‖² + mean‖sg rᵢ − eᵢ‖², rᵢ = h − sg(e₁ + … + eᵢ₋₁):
    ∂L/∂h = w + Σᵢ 2β (rᵢ − eᵢ)/size; ∂L/∂e of book i is Σ 2 (e − rᵢ)/size over what chose it."""
    book, h = books_of(beta=0.4)
    w = torch.randn(5, 2, 2, 3)
    q, numbers, terms = book(h)
    ((w * q).sum() + sum(terms.values())).backward()
    left, expected = h.detach().clone(), w.clone()
    for i, one in enumerate(book.books):
        e = one.table.detach()[numbers[..., i]]
        expected += 2 * 0.4 * (left - e) / h.numel()
        moved = torch.zeros_like(one.table)
        moved.index_add_(0, numbers[..., i].flatten(), 2 * (e - left).reshape(-1, 3) / h.numel())
        torch.testing.assert_close(one.table.grad, moved, atol=1e-6, rtol=1e-4)
        left = left - e
    torch.testing.assert_close(h.grad, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_said_by_fewer_books_moves_those_alone(kind: str) -> None:
    book, h = books_of(kind)
    book.train()
    used = torch.tensor([1, 1, 1, 1, 2])
    q, numbers, terms = book(h, used)
    (q.sum() + sum(terms.values())).backward()
    with torch.no_grad():
        for i, k in enumerate(used):
            torch.testing.assert_close(q[i], book.look_up(numbers[i, ..., :k]), atol=1e-6, rtol=1e-5)
    assert [float(b.used.sum()) for b in book.books] == [20, 4, 0]
    assert torch.equal(book.books[1].used, torch.bincount(numbers[4, ..., 1].flatten(), minlength=6).float())
    if kind == "learned":
        assert float(book.books[2].table.grad.abs().sum()) == 0.0
    else:
        before = book.books[2].table.clone()
        book.update()
        assert torch.equal(book.books[2].table, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_number_round_trips_also_in_bf16(kind: str, dtype: torch.dtype) -> None:
    """Books a hundred times finer each: the sum of any three vectors is read as those three. In bf16 alone,
    with eight bits, the third would be lost."""
    book, _ = books_of(kind, codes=4)
    with torch.no_grad():
        for i, one in enumerate(book.books):
            one.table.copy_(torch.eye(4, 3) * 10.0 ** (-2 * i))
    numbers = torch.cartesian_prod(*[torch.arange(4)] * 3)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
        assert torch.equal(book.search(book.look_up(numbers)), numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_dead_codes_of_each_book_move_to_what_is_left_over(kind: str) -> None:
    book, _ = books_of(kind, books=2)
    h = torch.randn(40, 3, generator=torch.Generator().manual_seed(3))
    book.train()
    book(h[:3])
    dead = [one.used == 0 for one in book.books]
    assert all(d.any() and not d.all() for d in dead)
    first = book.books[0]
    left = h - first.look_up(first.search(h)).detach()
    with torch.no_grad():
        book.revive(h, torch.Generator().manual_seed(0))
    for one, gone, source in zip(book.books, dead, (h, left), strict=True):
        near = torch.cdist(one.entries().detach()[gone], source).amin(1)
        assert float(near.max()) < 1e-3
        assert float(one.used.sum()) == 0.0


def test_perplexity_is_logged_for_each_book() -> None:
    model = build("residual-vq", {"width": 8, "prior_width": 16}, DIGITS)
    ctx = context()
    model.loss("codes", batch(DIGITS, n=16), ctx)
    found = [float(ctx.logged[f"perplexity_{i}"]) for i in (1, 2, 3)]
    assert all(1.0 <= p <= 32.0 for p in found)
    ctx = context()
    make("vqvae").loss("codes", batch(DIGITS), ctx)
    assert set(ctx.logged) == {"perplexity"}


def test_codes_stand_book_by_book_at_each_place_and_fewer_books_decode() -> None:
    model = build("residual-vq", {"width": 8, "prior_width": 16}, DIGITS).eval()
    x = batch(DIGITS, n=3).x
    codes = model.encode(x)
    assert codes.shape == (3, 48)
    numbers = model.codebook.search(model.features(x)).reshape(3, 16, 3)
    assert torch.equal(codes.reshape(3, 16, 3), numbers)
    for books in (1, 2, 3, None):
        e = model.codebook.look_up(numbers[..., :books]).reshape(3, 4, 4, -1)
        torch.testing.assert_close(model.decode(codes, books), model._draw(e))


def test_how_many_books_say_a_sample_is_drawn_from_the_contexts_generator() -> None:
    model = build("residual-vq", {"width": 8, "prior_width": 16, "quantizer_dropout": 1.0}, DIGITS).train()
    draws = [
        model._books_used(3000, torch.Generator().manual_seed(s), torch.device("cpu"))[0] for s in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    shares = torch.bincount(draws[0], minlength=4) / 3000
    torch.testing.assert_close(shares, torch.tensor([0.0, 1, 1, 1]) / 3, atol=0.03, rtol=0)
    assert model.eval()._books_used(3, torch.Generator(), torch.device("cpu")) == ()


def test_begin_and_revival_reach_every_book_of_the_model() -> None:
    model = build("residual-vq", {"width": 8, "prior_width": 16, "revive": 2}, DIGITS).train()
    before = [one.table.clone() for one in model.codebook.books]
    with torch.no_grad():
        ctx = Context(0, 0.0, "codes", {}, torch.Generator().manual_seed(0))
        model.begin_stage(ctx, lambda k: batch(DIGITS, n=16, seed=k))
        assert all(not torch.equal(a.table, b) for a, b in zip(model.codebook.books, before, strict=True))
        began = [one.table.clone() for one in model.codebook.books]
        model.prepare(batch(DIGITS, n=16), Context(2, 0.1, "codes", {}, torch.Generator().manual_seed(0)))
    assert all(not torch.equal(a.table, b) for a, b in zip(model.codebook.books, began, strict=True))


def test_finite_scalar_quantization_has_no_residual_books() -> None:
    with pytest.raises(CallError, match="leaves nothing to further books"):
        build("fsq", {"books": 2}, DIGITS)


@pytest.mark.slow
def test_a_bundle_writes_reads_and_draws_as_the_model_does(tmp_path: Path) -> None:
    model = build("residual-vq", {"width": 8, "prior_width": 16, "prior_layers": 1}, DIGITS).eval()
    model.shipped = ("sample", "encode", "decode")
    bundle = package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "rvq.niwaki")
    report = parity(model, bundle, n=5, seed=2)
    assert report["passed"], report
