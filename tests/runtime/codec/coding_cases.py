"""Small models with latents as plain functions, and samples of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki_runtime.samplers import BitsBack

LEVELS, SIZE = 17, 20


def model(groups: tuple[int, ...], seed: int = 0) -> tuple[dict[str, Any], BitsBack]:
    """p(x | u) by a random network, q(u | x) with every group's mean leaning on the groups before it."""
    rng = np.random.default_rng(seed)
    latents = sum(groups)
    w = rng.normal(size=(latents, SIZE, 4)) * 0.6
    c, v = rng.normal(size=(4, LEVELS)) * 1.5, rng.normal(size=(SIZE, latents)) * 0.2
    t = rng.normal(size=(latents, latents)) * 0.1
    plan = BitsBack(groups=groups)

    def likelihood(u: np.ndarray) -> tuple[np.ndarray]:
        return (np.tanh(np.einsum("nu,usk->nsk", u, w)) @ c,)

    def posterior(u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = x.reshape(len(x), -1) @ v
        mean = own.copy()
        for start, stop in plan.bounds():
            mean[:, start:stop] += u[:, :start] @ t[:start, start:stop]
        return mean, -1.5 + 0.4 * np.tanh(own)

    return {"posterior": posterior, "likelihood": likelihood}, plan


def samples(graphs: dict[str, Any], plan: BitsBack, n: int, seed: int = 1) -> np.ndarray:
    """Levels `(n, SIZE)` of the model itself."""
    rng = np.random.default_rng(seed)
    weights = graphs["likelihood"](rng.normal(size=(n, plan.latents)))[0]
    p = np.exp(weights - weights.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return (p.cumsum(-1) < rng.random((n, SIZE, 1))).sum(-1).clip(0, LEVELS - 1)


def seen(levels: np.ndarray) -> np.ndarray:
    return -1.0 + 2.0 * levels / (LEVELS - 1)
