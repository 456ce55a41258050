"""Channels rescaled between layers: the same function in float, equal ranges, kept only where it helps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compression import small_models
from torch import Tensor, nn

from niwaki.compression import QuantizeConfig
from niwaki.compression.forward import outputs
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.quantization.convert import quantize_model
from niwaki.compression.quantization.links import Link, find_links, rescale
from niwaki.compression.quantization.norms import fold_norms
from niwaki.compression.quantization.scaling import (
    equalizing,
    input_reach,
    scale_where_it_helps,
    smoothing,
)
from niwaki.core.contract import GenerativeModel


class Chain(nn.Module):
    """Every kind of link, and every kind of pair that is none."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act
        self.start = nn.Linear(12, 8 * 16)  # → reshape → up: a factor per channel of 16 positions
        self.one = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 12, 4, 2, 1, groups=2)
        self.grouped = nn.Conv2d(12, 8, 3, padding=1, groups=4)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.flat = nn.Linear(8 * 16 * 16, 24)  # a channel becomes 256 positions
        self.norm = nn.LayerNorm(24)
        self.query, self.key = nn.Linear(24, 24), nn.Linear(24, 24)
        self.skip, self.after, self.last = nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, 64)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = F.interpolate(self.act(self.start(z).unflatten(1, (8, 4, 4))), scale_factor=2.0)
        h = self.act(self.up(self.act(self.one(h))))
        h = self.norm(self.flat(self.act(self.depth(self.act(self.grouped(h)))).flatten(1)))
        h = torch.sigmoid(self.query(h)) * self.key(h)
        h = self.skip(F.silu(h))
        h = h + self.after(self.act(h))  # read by what is added to it, too
        return torch.tanh(self.last(h)).unflatten(1, (1, 8, 8))


LINKS = {
    "start → one": 8,
    "one → up": 8,
    "up → grouped": 12,
    "grouped → depth": 8,
    "depth → flat": 8,
    "norm → query + key": 24,
}
ACTS: dict[str, Callable[[], Any]] = {
    "relu": nn.ReLU,
    "functional": lambda: F.relu,
    "leaky": lambda: nn.LeakyReLU(0.2),
    "prelu": nn.PReLU,
}


def chain(act: str = "relu") -> GenerativeModel:
    torch.manual_seed(0)
    model = small_models.gan()
    model.generator = Chain(ACTS[act]())
    return model.eval()


def gap(model: GenerativeModel, wanted: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(outputs(model), wanted, strict=True))


@pytest.mark.parametrize("act", ACTS)
def test_links_are_found_through_activations_and_hold_in_float(act: str) -> None:
    model = chain(act)
    state, wanted = copy.deepcopy(model.state_dict()), outputs(model)
    found = find_links(model)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())  # the trial left no trace
    assert {one.text.replace("generator.", ""): one.width for one in found} == LINKS
    for link in found:
        rescale(model, link, torch.rand(link.width) * 4 + 0.2)
    assert gap(model, wanted) < 1e-4
    assert not torch.equal(model.generator.up.weight, state["generator.up.weight"])


@pytest.mark.parametrize("act", ["sigmoid", "silu", "gelu", "bias"])
def test_other_activations_make_no_link(act: str) -> None:
    model = chain("functional")
    model.generator.act = (lambda x: F.relu(x + 0.1)) if act == "bias" else getattr(F, act, torch.sigmoid)
    names = [link.source for link in find_links(model)]
    assert names == ["generator.norm"]


def ranges(layer: nn.Module, axis: int) -> Tensor:
    return layer.weight.detach().abs().movedim(axis, 0).flatten(1).amax(1)


def test_equalized_channels_have_equal_ranges_on_both_sides() -> None:
    model = chain()
    with torch.no_grad():
        model.generator.one.weight.mul_(torch.logspace(-2, 2, 8)[:, None, None, None])
        model.generator.one.weight[3] = 0.0  # a dead channel
    link = Link("generator.start", ("generator.one",), 8)
    wanted = outputs(model)
    factors = equalizing(model, link)
    assert factors is not None
    rescale(model, link, factors)
    assert gap(model, wanted) < 1e-4
    made = ranges(model.generator.start, 0).reshape(8, 16).amax(1)
    ratio = made / ranges(model.generator.one, 1)
    torch.testing.assert_close(
        ratio, ratio[:1].expand(8), rtol=1e-4, atol=0
    )  # one ratio for all: a common factor is free
    link = Link("generator.one", ("generator.up",), 8)
    factors = equalizing(model, link)
    assert factors is not None
    assert float(factors[3]) == 1.0
    assert equalizing(model, Link("generator.norm", ("generator.query",), 24)) is None


def test_smoothing_moves_what_alpha_says_from_inputs_to_weights() -> None:
    model = chain()
    with torch.no_grad():
        model.generator.norm.weight[5] = 50.0
    link = Link("generator.norm", ("generator.query", "generator.key"), 24)
    items, wanted = calibration_inputs(model, 16), outputs(model)

    def reach() -> Tensor:
        return input_reach(model, items, link.readers)["generator.key"]

    def weights() -> Tensor:
        return torch.stack([ranges(model.get_submodule(n), 1) for n in link.readers]).amax(0)

    x, w = reach(), weights()
    factors = smoothing(model, link, input_reach(model, items, link.readers), 0.75)
    assert factors is not None
    wanted_factors = x**0.75 / w**0.25
    torch.testing.assert_close(factors, wanted_factors / wanted_factors.log().mean().exp(), rtol=1e-4, atol=0)
    rescale(model, link, factors)
    assert gap(model, wanted) < 1e-4
    torch.testing.assert_close(reach(), x / factors, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights(), w * factors, rtol=1e-4, atol=0)
    assert smoothing(model, link, {}, 0.5) is None


def config(**settings: Any) -> QuantizeConfig:
    return QuantizeConfig(**{"backend": "niwaki", "calibration": 32, **settings})


def error(model: GenerativeModel, **settings: Any) -> tuple[float, tuple[str, ...]]:
    made = quantize_model(model, config(**settings))
    wanted, got = (m.sample(64, seed=1).float() for m in (model, made.model))
    return float((wanted - got).square().mean() / wanted.var()), made.notes


def uneven(norms: bool) -> GenerativeModel:
    """As networks are with scales that training drove apart: the channels of a link differ a hundredfold."""
    model = chain()
    for link in find_links(model):
        if link.source.endswith("norm") and not norms:
            continue
        torch.manual_seed(len(link.source))
        rescale(model, link, 10.0 ** (2.0 * torch.rand(link.width) - 1.0))
    return model


@pytest.mark.parametrize("settings", [{"equalize": True}, {"smooth": 0.5}, {"equalize": True, "smooth": 0.5}])
def test_uneven_channels_are_repaired_and_the_notes_say_where(settings: dict[str, Any]) -> None:
    model = uneven(norms="smooth" in settings)  # only smoothing knows what comes out of a norm
    before, _ = error(model, bits=6)
    after, notes = error(model, bits=6, **settings)
    assert after < 0.5 * before
    told = [note for note in notes if "→" in note]
    assert told
    assert all(note.startswith(("equalized generator.", "smoothed generator.")) for note in told)


def test_what_does_not_help_is_taken_back() -> None:
    model = chain()
    fold_norms(model)
    state = copy.deepcopy(model.state_dict())
    items = calibration_inputs(model, 16)
    kept = scale_where_it_helps(model, items, copy.deepcopy, equalize=True, smooth=0.5)
    assert kept == ()  # nothing was rounded, so nothing could be gained
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
