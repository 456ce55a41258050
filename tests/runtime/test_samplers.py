"""Samplers as data, in numpy and in torch alike: guidance, cascades, tokens in a row, JSON there and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.backend import TorchBackend
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import (
    Autoregressive,
    Cascade,
    Diffusion,
    Noise,
    NumpyBackend,
    OneShot,
    Sampler,
    State,
    StyleBased,
    sampler_from_json,
)

TABLE = np.array([[0.5, -0.25], [-1.0, 2.0], [0.125, 1.0], [3.0, -3.0]], np.float32)
NOTHING = 3


class Rows:
    """x₀ = table[label], whatever x is."""

    state = ()

    def __call__(self, x: np.ndarray, t: np.ndarray, label: np.ndarray) -> np.ndarray:
        self.calls = getattr(self, "calls", 0) + 1
        return TABLE[label]


def guided(**options: Any) -> Diffusion:
    return Diffusion(
        (2,), steps=1, prediction="x0", clip=0.0, conditions=("label",), null={"label": NOTHING}, **options
    )


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_guidance_is_linear_in_its_weight(weight: float, batched: bool) -> None:
    sampler, rows = guided(guidance=weight, guidance_batched=batched), Rows()
    label = np.array([0, 2, 1])
    x = sampler({"denoiser": rows}, Noise(NumpyBackend(), 0, 0, 3), {"label": label})
    np.testing.assert_allclose(x, TABLE[NOTHING] + weight * (TABLE[label] - TABLE[NOTHING]), atol=1e-5)
    assert rows.calls == (1 if weight in (0.0, 1.0) or batched else 2)


def test_what_has_no_null_is_asked_both_times() -> None:
    asked: list[np.ndarray] = []

    def graph(x: np.ndarray, t: np.ndarray, label: np.ndarray, picture: np.ndarray) -> np.ndarray:
        asked.append(picture)
        return x

    sampler = dataclasses.replace(guided(guidance=2.0), conditions=("label", "picture"))
    picture = np.ones((3, 4), np.float32)
    sampler(
        {"denoiser": graph},
        Noise(NumpyBackend(), 0, 0, 3),
        {"label": np.zeros(3, np.int64), "picture": picture},
    )
    np.testing.assert_array_equal(asked[0], np.ones((6, 4)))


def test_guidance_without_a_null_is_refused() -> None:
    with pytest.raises(CallError, match="null"):
        Diffusion((2,), guidance=2.0, conditions=("label",))


def test_conditions_are_encoded_once() -> None:
    calls: list[np.ndarray] = []

    def encoder(label: np.ndarray) -> np.ndarray:
        calls.append(label)
        return TABLE[label]

    def denoiser(x: np.ndarray, t: np.ndarray, code: np.ndarray) -> np.ndarray:
        return code

    sampler = guided(guidance=2.0).override(encoders={"label": "encoder"}, steps=7)
    label = np.array([1, 0])
    graphs = {"encoder": encoder, "denoiser": denoiser}
    x = sampler(graphs, Noise(NumpyBackend(), 0, 0, 2), {"label": label})
    assert [c.tolist() for c in calls] == [[1, 0], [NOTHING, NOTHING]]
    np.testing.assert_allclose(x, TABLE[NOTHING] + 2.0 * (TABLE[label] - TABLE[NOTHING]), atol=1e-4)


class Network(torch.nn.Module):
    """The same arithmetic for torch and numpy."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.mix = torch.randn(12, 12, generator=g) / 3
        self.table = torch.randn(4, 3, 2, 2, generator=g)

    def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(x.flatten(1) @ self.mix).reshape(x.shape)
        return h + t.reshape(-1, 1, 1, 1) / 1000 + self.table[label]


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpmpp_2m"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_numpy_and_torch_agree(solver: str, guidance: float) -> None:
    sampler = Diffusion(
        (3, 2, 2), solver=solver, steps=9, conditions=("label",), null={"label": NOTHING}, guidance=guidance
    )
    network, label = Network(), np.array([0, 1, 2, 0, 1])

    def on_device(*inputs: np.ndarray) -> np.ndarray:
        return network(*map(torch.from_numpy, inputs)).numpy()

    on_device.state = ()  # type: ignore[attr-defined]
    there = sampler({"denoiser": on_device}, Noise(NumpyBackend(), 4, 10, 5), {"label": label})
    here = sampler({"denoiser": network}, Noise(TorchBackend(), 4, 10, 5), {"label": torch.from_numpy(label)})
    assert here.dtype == torch.float32
    assert there.dtype == np.float32
    np.testing.assert_allclose(there, here.numpy(), atol=2e-5)


def echo(z: np.ndarray) -> np.ndarray:
    return z


def test_the_legs_of_a_cascade_share_no_noise() -> None:
    """Nested cascades included: every leg sees its own draws."""
    seen: list[np.ndarray] = []

    def watch(z: np.ndarray) -> np.ndarray:
        seen.append(z)
        return z

    leg = OneShot((4,), "watch")
    inner = Cascade((leg, leg), ("a", "b"))
    outer = Cascade((inner, leg, Cascade((leg, inner), ("c", "d"))), ("e", "f"))
    outer({"watch": watch}, Noise(NumpyBackend(), 0, 0, 5), {})
    assert len(seen) == 6
    assert len(np.unique(np.stack(seen))) == 6 * 5 * 4


def test_a_cascade_hands_on_and_tells_its_progress() -> None:
    told: list[tuple[int, int]] = []
    prior = OneShot((4,), "prior")
    decoder = OneShot(None, "decoder", ("code", "label"))
    cascade = Cascade((prior, decoder), ("code",))

    def decode(code: np.ndarray, label: np.ndarray) -> np.ndarray:
        return 2 * code + label[:, None]

    noise, label = Noise(NumpyBackend(), 0, 3, 5), np.arange(5)
    graphs = {"prior": echo, "decoder": decode}
    x = cascade(graphs, noise, {"label": label}, progress=lambda i, n: told.append((i, n)))
    np.testing.assert_array_equal(x, 2 * noise.normal((4,)) + label[:, None])
    assert told == [(1, 2), (2, 2)]
    assert cascade.graphs_used() == ("prior", "decoder")


def test_a_cascade_overrides_the_legs_that_have_the_option() -> None:
    cascade = Cascade((Diffusion((2,)), OneShot((2,)), Diffusion((2,), steps=50)), ("a", "b"))
    changed = cascade.override(steps=3)
    assert isinstance(changed, Cascade)
    assert [getattr(leg, "steps", None) for leg in changed.legs] == [3, None, 3]
    assert cascade.override() is cascade
    with pytest.raises(CallError, match="did you mean 'steps'"):
        cascade.override(step=3)


class Counting:
    """logits that put all weight on token (sum of tokens so far) mod 5; the sum is the state."""

    state = (State("sum", "sum_next", (1, 1), dtype="float32"),)

    def __call__(self, token: Any, position: Any, total: Any) -> Any:
        total = total + token[:, None]
        logits = np.where(np.arange(5)[None] == (total + 1) % 5, 50.0, 0.0)
        return logits.astype(np.float32), total


def test_state_is_carried_from_token_to_token() -> None:
    x = Autoregressive(length=6, first=1, graph="g")({"g": Counting()}, Noise(NumpyBackend(), 0, 0, 2), {})
    total, expected, token = 0, [], 1
    for _ in range(6):
        total += token
        token = (total + 1) % 5
        expected.append(token)
    assert x.tolist() == [expected, expected]


def test_tokens_do_not_depend_on_the_batch() -> None:
    def flat(token: np.ndarray, position: np.ndarray) -> np.ndarray:
        return np.tile(np.linspace(0, 1, 11, dtype=np.float32), (len(token), 1))

    flat.state = ()  # type: ignore[attr-defined]
    sampler = Autoregressive(length=20, graph="g")
    together = sampler({"g": flat}, Noise(NumpyBackend(), 9, 0, 8), {})
    alone = sampler({"g": flat}, Noise(NumpyBackend(), 9, 5, 1), {})
    np.testing.assert_array_equal(together[5:6], alone)
    assert len(np.unique(together)) == 11


@pytest.mark.parametrize("backend", [NumpyBackend(), TorchBackend()], ids=["numpy", "torch"])
def test_a_style_based_generator_is_given_noise_of_its_own_and_its_truncation(backend: Any) -> None:
    sampler, label = StyleBased(4, 6, conditions=("label",), truncation=0.25), backend.asarray(np.arange(3))
    given: list[np.ndarray] = []

    def graph(*inputs: Any) -> Any:
        given[:] = [backend.numpy(x) for x in inputs]
        return inputs[0]

    whole = backend.numpy(sampler({"generator": graph}, Noise(backend, 7, 0, 3), {"label": label}))
    z, noise, condition, psi = given
    assert [x.shape for x in given] == [(3, 4), (3, 6), (3,), (3, 1)]
    assert psi.dtype == np.float32
    assert (psi == 0.25).all()
    np.testing.assert_array_equal(condition, np.arange(3))
    assert len(np.unique(np.concatenate([z, noise], axis=1))) == 30, "no number is used twice"
    sampler({"generator": graph}, Noise(backend, 7, 2, 1), {"label": label[2:]})
    np.testing.assert_array_equal(given[0], whole[2:])
    np.testing.assert_array_equal(given[1], noise[2:])
    with pytest.raises(CallError, match="no sample has it"):
        StyleBased(4, 0)
    with pytest.raises(CallError, match="did you mean 'truncation'"):
        sampler.override(truncate=0.5)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}])
def test_impossible_token_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CallError):
        Autoregressive(length=2).override(**wrong)


SAMPLERS = [
    OneShot((4, 1, 1), conditions=("label",), temperature=0.7),
    OneShot(None, "decoder", ("code",)),
    guided(guidance=3.0, solver="dpmpp_2m", spacing="leading"),
    Autoregressive(16, 2, top_k=4, top_p=0.9),
    StyleBased(4, 20, conditions=("label",), truncation=0.7),
    Cascade((Autoregressive(16), Cascade((OneShot((2,)), OneShot(None, "d", ("a",))), ("a",))), ("code",)),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.kind)
def test_json_there_and_back(sampler: Sampler) -> None:
    assert sampler_from_json(json.loads(json.dumps(sampler.to_json()))) == sampler


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"kind": "one_shoot"}, "did you mean 'one_shot'"),
        ({"kind": "diffusion", "shape": [1], "step": 3}, "did you mean 'steps'"),
        ({"kind": "diffusion", "shape": [1], "solver": "dimm"}, "did you mean 'ddim'"),
        ({"kind": "diffusion", "shape": [1], "schedule": "cosin"}, "did you mean 'cosine'"),
        ({"kind": "diffusion", "shape": [1], "spacing": "trail"}, "did you mean 'trailing'"),
        ({"kind": "diffusion", "shape": [1], "prediction": "eps"}, "epsilon"),
        ({"kind": "diffusion", "shape": [1], "steps": 2000}, "cannot be sampled in 2000 steps"),
        ({"kind": "cascade", "legs": []}, "at least one leg"),
    ],
)
def test_wrong_samplers_are_refused_with_the_nearest_name(record: dict[str, Any], text: str) -> None:
    with pytest.raises(CallError, match=text):
        sampler_from_json(record)


def test_temperature_scales_the_latents() -> None:
    noise = Noise(NumpyBackend(), 0, 0, 4)
    np.testing.assert_array_equal(
        OneShot((3,), temperature=0.5)({"generator": echo}, noise, {}), noise.normal((3,)) * 0.5
    )
