"""Block after block, token after token: on blocks of which every step is plain."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import AutoregressiveFlow, Noise, NumpyBackend, State, sampler_from_json

TOKENS, WIDTH = 4, 2


class Block:
    """x_t = z_t + rate · Σ of the tokens that it has made, kept in its state, times the class."""

    state = (State("seen", "seen_new", (1, TOKENS, WIDTH)),)

    def __init__(self, rate: float) -> None:
        self.rate, self.steps = rate, []

    def __call__(
        self, before: np.ndarray, z: np.ndarray, step: np.ndarray, label: np.ndarray, seen: np.ndarray
    ) -> Any:
        t = int(step[0])
        self.steps.append(t)
        total = seen[:, :t].sum(1) + before
        return (z + self.rate * label[:, None] * total).astype(np.float32), before[:, None]


def whole(z: np.ndarray, label: np.ndarray, rate: float, backwards: bool) -> np.ndarray:
    """The same without state."""
    x = np.zeros_like(z)
    for t in range(TOKENS)[:: -1 if backwards else 1]:
        x[:, t] = z[:, t] + rate * label[:, None] * x.sum(1)
    return x


def sampler(**changes: Any) -> AutoregressiveFlow:
    return AutoregressiveFlow(
        **{
            "tokens": TOKENS,
            "width": WIDTH,
            "blocks": ("b", "a"),
            "backwards": (True, False),
            "conditions": ("label",),
            **changes,
        }
    )


def graphs() -> dict[str, Any]:
    return {"a": Block(0.5), "b": Block(-0.25), "end": lambda x: 10 * x}


LABEL = np.array([1, 2, 0])


def expected(z: np.ndarray) -> np.ndarray:
    x = whole(z.reshape(3, TOKENS, WIDTH), LABEL, -0.25, backwards=True)
    return 10 * whole(x, LABEL, 0.5, backwards=False).reshape(3, -1)


@pytest.mark.parametrize("given", [False, True])
def test_the_tokens_of_a_block_are_the_latents_of_the_next(given: bool) -> None:
    noise, made = Noise(NumpyBackend(), 7, 0, 3), graphs()
    z = noise.normal((TOKENS * WIDTH,))
    conditions = {"label": LABEL, "z": z}
    x = sampler(latent="z" if given else "")(made, noise, conditions)
    np.testing.assert_allclose(x, expected(z), rtol=1e-5, atol=1e-5)
    assert made["a"].steps == made["b"].steps == [0, 1, 2, 3]


def test_temperature_scales_what_is_drawn_and_not_what_is_given() -> None:
    noise = Noise(NumpyBackend(), 7, 0, 3)
    z = noise.normal((TOKENS * WIDTH,))
    drawn = sampler(temperature=0.5)(graphs(), noise, {"label": LABEL})
    np.testing.assert_allclose(drawn, expected(0.5 * z), rtol=1e-5, atol=1e-5)
    given = sampler(temperature=0.5, latent="z")(graphs(), noise, {"label": LABEL, "z": z})
    np.testing.assert_allclose(given, expected(z), rtol=1e-5, atol=1e-5)


def test_it_is_plain_data_and_says_what_it_uses() -> None:
    made = sampler(latent="z")
    assert sampler_from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.graphs_used() == ("b", "a", "end")
    assert made.conditions_used() == ("z", "label")
    assert sampler().conditions_used() == ("label",)


def test_evaluations_are_counted_as_they_are_made() -> None:
    seen: list[tuple[int, int]] = []
    sampler()(
        graphs(),
        Noise(NumpyBackend(), 7, 0, 3),
        {"label": LABEL},
        progress=lambda *done: seen.append(done),
    )
    count = sampler().evaluations()
    assert count == 2 * TOKENS + 1
    assert seen == [(i + 1, count) for i in range(count)]


@pytest.mark.parametrize(
    "changes", [{"blocks": ()}, {"backwards": (True,)}, {"tokens": 0}, {"width": 1 << 30}]
)
def test_blocks_without_directions_and_impossible_shapes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CallError, match=r"direction for each|no sample has it"):
        sampler(**changes)
