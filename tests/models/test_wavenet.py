"""WaveNet: steps are the network of training, at one price each; nothing later is seen."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import make

from niwaki.core.contract import DataSpec
from niwaki.models.autoregressive.wavenet import WaveNet
from niwaki_runtime.samplers import Autoregressive, Cascade
from niwaki_runtime.samplers.reading import carry

LENGTH = 21
SOUND = DataSpec.of("audio", (LENGTH,), classes=3)
CHANNEL = DataSpec.of("audio", (1, LENGTH))
UNSIGNED = DataSpec.of("series", (LENGTH,), low=0.0, high=5.0)
STORED = DataSpec.of("audio", (LENGTH,), levels=17)
SPECS = {"sound": SOUND, "one channel": CHANNEL, "unsigned": UNSIGNED, "stored": STORED}
each = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def stirred(spec: DataSpec, **changes: Any) -> WaveNet:
    model = make("wavenet", spec, **{"levels": 32, "layers": 3, "stacks": 2, **changes})
    assert isinstance(model, WaveNet)
    rng = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn(weight.shape, generator=rng)
    return model


def sounds(model: WaveNet, n: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return model.values_of(torch.randint(model.tokens, (n, LENGTH), generator=rng))


def labels(model: WaveNet, n: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.arange(n) % 3 for _ in model.conditions)


@each
def test_steps_are_the_network_of_training(spec: DataSpec) -> None:
    """Logit for logit, by the state that the sampler carries."""
    model = stirred(spec).eval()
    codes, asked = model.tokens_of(sounds(model, 3)), labels(model, 3)
    graph = model.graphs()["decode"]
    state: list[Any] = [torch.from_numpy(s.zeros(3)) for s in graph.state]
    with torch.no_grad():
        whole = model.logits(codes, *asked)
        token = torch.full((3,), model.tokens)
        for t in range(LENGTH):
            logits, *news = graph(token, torch.tensor([t]), *asked, *state)
            torch.testing.assert_close(logits, whole[:, t], atol=1e-5, rtol=1e-5)
            state = carry(state, news, graph.state, t)
            token = codes[:, t]


@pytest.mark.parametrize(("layers", "stacks"), [(1, 1), (2, 1), (3, 1), (2, 3), (4, 1)])
def test_a_step_sees_those_before_it_as_far_as_the_dilations_reach(layers: int, stacks: int) -> None:
    """By gradients, in training mode: all of them, and none after it."""
    model = stirred(CHANNEL, layers=layers, stacks=stacks, dropout=0.1).train()
    stream = torch.randn(1, LENGTH, model.config.width, requires_grad=True)
    torch.manual_seed(0)
    out = model.think(stream)
    reach = stacks * (2**layers - 1)
    for t in range(LENGTH):
        (grad,) = torch.autograd.grad(out[0, t].sum(), stream, retain_graph=True)
        seen = grad[0].abs().sum(1) > 0
        assert seen.nonzero().flatten().tolist() == list(range(max(0, t - reach), t + 1))


def test_a_label_reaches_every_step() -> None:
    model = stirred(SOUND).eval()
    codes = model.tokens_of(sounds(model, 1)).expand(3, -1)
    with torch.no_grad():
        logits = model.logits(codes, torch.arange(3))
    assert (logits.std(0) > 1e-4).any(-1).all()


@each
def test_the_density_is_that_of_codes_over_their_cells(spec: DataSpec) -> None:
    model = stirred(spec).eval()
    x, asked = sounds(model, 4), labels(model, 4)
    codes = model.tokens_of(x)
    with torch.no_grad():
        p = model.logits(codes, *asked).double().softmax(-1)
        said = p.gather(2, codes[..., None])[..., 0].log().sum(1)
        expected = said - model.codes.log_width.double()[codes].sum(1)
        torch.testing.assert_close(model.log_prob(x, *asked).double(), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("levels", [4, 7])
def test_the_density_integrates_to_one(levels: int) -> None:
    """Over all sounds of three steps: each combination of cells is a box in which it is constant."""
    model = stirred(DataSpec.of("audio", (3,), low=-2.0, high=1.0), levels=levels).eval()
    codes = torch.tensor(list(itertools.product(range(levels), repeat=3)))
    with torch.no_grad():
        density = model.log_prob(model.values_of(codes)).double()
    boxes = model.codes.log_width.double()[codes].sum(1)
    assert float((density + boxes).exp().sum()) == pytest.approx(1.0, abs=1e-5)


@each
def test_greedy_samples_are_the_argmax_of_the_whole_network(spec: DataSpec) -> None:
    model = stirred(spec).eval()
    asked = labels(model, 3)
    given = dict(zip(model.conditions, (a.numpy() for a in asked), strict=True))
    x = model.sample(3, seed=0, condition=given, temperature=0.0)
    assert x.shape == (3, *spec.shape)
    with torch.no_grad():
        codes = model.tokens_of(x)
        assert torch.equal(model.logits(codes, *asked).argmax(-1), codes)


def test_a_step_costs_the_same_whatever_came_before() -> None:
    """One call for each step, which gives back one row: as many numbers for a long sound as for a short."""
    for length in (21, 210):
        model = stirred(DataSpec.of("audio", (length,)))
        sampler = model.sampler()
        assert isinstance(sampler, Cascade)
        (reading, _) = sampler.legs
        assert isinstance(reading, Autoregressive)
        assert reading.evaluations() == length
        graph = model.graphs()["decode"]
        (held,) = graph.state
        assert held.shape == (1, length, 6, model.config.width)
        _, row = graph(*graph.example(2))
        assert row.shape == (2, 1, 6, model.config.width)


def test_the_codec_gives_back_the_values_of_the_codes() -> None:
    model = stirred(CHANNEL).eval()
    x = 0.9 * torch.sin(torch.arange(2.0 * LENGTH)).reshape(2, 1, LENGTH)
    codes = model.run("encode", 2, inputs={"x": x})
    np.testing.assert_array_equal(np.asarray(codes), model.tokens_of(x).numpy())
    assert (model.values_of(torch.as_tensor(codes)) - x).abs().max() < 2.0 / 16
