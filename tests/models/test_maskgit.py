"""A masked prior of codes: it says what is hidden from all that shows, and writes each code once."""

from __future__ import annotations

import pytest
import torch
from model_cases import DIGITS, TALL, batch, context, make
from torch import Tensor

from niwaki.models.registry import build
from niwaki.models.vae import VqVae
from niwaki_runtime.programs import CODEC
from niwaki_runtime.samplers import Masked, Noise

BOOKS = {"one": {}, "three": {"books": 3}, "levelled": {"codebook": "levelled", "dim": 3}}


def stirred(**changes: object) -> VqVae:
    model = make("vqvae", DIGITS, prior="masked", **changes).eval()
    assert isinstance(model, VqVae)
    rng = torch.Generator().manual_seed(1)
    for weight in model.prior.parameters():
        weight.data += 0.2 * torch.randn(weight.shape, generator=rng)
    return model


def codes_of(model: VqVae, n: int, **changes: object) -> Tensor:
    sampler = model.sampler().parts()[0].override(**changes)
    asked = {"class": torch.arange(n)}
    with torch.no_grad():
        return sampler(model.graphs(), Noise(model.backend(), 3, 0, n), asked)


@pytest.mark.parametrize("changes", BOOKS.values(), ids=BOOKS)
def test_every_code_is_said_from_all_others(changes: dict) -> None:
    model = stirred(**changes)
    fed: list[Tensor] = []
    model.prior.token.register_forward_hook(lambda m, i, out: fed.append(out.requires_grad_(True)) or out)
    logits = model.prior(torch.randint(0, 64, (1, model.length)), torch.tensor([3]))
    for place in (0, model.length - 1):
        (grad,) = torch.autograd.grad(logits[0, place].sum(), fed[0], retain_graph=True)
        assert (grad[0].abs().sum(1) > 0).all()


@pytest.mark.parametrize("changes", BOOKS.values(), ids=BOOKS)
def test_samples_hold_no_mask_and_take_the_steps_that_were_asked_for(changes: dict) -> None:
    model = stirred(**changes)
    writing = model.sampler().parts()[0]
    assert isinstance(writing, Masked)
    assert (writing.steps, writing.order, writing.schedule) == (8, "halton", "cosine")
    for order in ("halton", "random", "confidence", "independent"):
        codes = codes_of(model, 5, order=order)
        assert codes.shape == (5, model.length)
        assert 0 <= int(codes.min()) <= int(codes.max()) < 64


def test_samples_are_the_pictures_of_the_codes() -> None:
    model = stirred()
    x = model.sample(5, seed=3, condition=torch.arange(5))
    with torch.no_grad():
        torch.testing.assert_close(model.decode(codes_of(model, 5)), x)


def test_the_loss_is_the_bound_per_code() -> None:
    """Of a prior that says all codes alike it is log K, whatever is hidden."""
    model = stirred()
    for weight in model.prior.head.parameters():
        weight.data.zero_()
    loss = model.loss("prior", batch(DIGITS), context())
    assert loss.keys() == {"bound"}
    assert float(loss["bound"].detach()) == pytest.approx(torch.tensor(64.0).log().item(), abs=1e-5)


def test_there_is_no_codec_of_codes_that_are_said_in_any_order() -> None:
    assert CODEC not in stirred().programs()
    assert CODEC in make("vqvae", DIGITS).programs()


def test_the_preset_takes_grids_of_any_shape_and_fewer_places_than_steps() -> None:
    assert make("maskgit", TALL).sampler().parts()[0].grid == (8, 4)
    model = build("maskgit", {"width": 8, "prior_width": 16, "grid": 2}, DIGITS)
    assert model.sampler().parts()[0].steps == 4
