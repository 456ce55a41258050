"""What a denoiser says when it is led: by what it says without conditions, under others, or by a weaker
one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from niwaki_runtime.samplers.backend import Array, Noise, Runner, outputs

if TYPE_CHECKING:
    from niwaki_runtime.samplers.diffusion import Diffusion

__all__ = ["free_share", "guided_output", "limited"]


def guided_output(
    sampler: Diffusion, graphs: Mapping[str, Runner], noise: Noise, conditions: Mapping[str, Array]
) -> Callable[..., tuple[Array, ...]]:
    """(x, t, weights, further inputs) → the network's outputs, the first of them guided:
    out(∅) + Σ wᵢ (out(cᵢ) − out(∅)), of one condition as Ho & Salimans 2022, Equation 6 (where w − 1 is
    called w), of several as Liu et al. 2022, "Compositional visual generation", Section 4; a
    negative weight leads away from its condition.

    t is what the network is told of the time, and `more` are inputs after the conditions; outputs after the
    first are those given the first condition that is asked. Where the sampler names a `guide`, that one is
    asked with the same condition in the place of out(∅) (Karras et al. 2024, "Guiding a diffusion model with
    a bad version of itself", Equation 3). What counts 0 times is not asked. Conditions are encoded here,
    once.
    """
    graph, backend, n = graphs[sampler.graph], noise.backend, noise.n
    guide = graphs[sampler.guide] if sampler.guide else graph

    def encode(values: Mapping[str, Array], names: tuple[str, ...] = sampler.conditions) -> list[Array]:
        found: list[Array] = []
        for kind, name in zip(sampler.conditions, names, strict=True):
            encoder = sampler.encoders.get(kind)
            found += outputs(values[name] if encoder is None else graphs[encoder](values[name]))
        return found

    def clock(t: float, rows: int) -> Array:
        return backend.asarray(np.full(rows, t, dtype=np.float32))

    asked = [encode(conditions), *(encode(conditions, names) for names in sampler.also)]
    empty = asked[0]
    if not sampler.guide and not sampler.only_asked:
        # What has no null value (a picture to enlarge, say) is asked every time.
        null = sampler.null
        empty = encode({k: v * 0 + null[k] if k in null else v for k, v in conditions.items()})
    inputs = [*asked, empty]
    joined: dict[tuple[int, ...], list[Array]] = {}

    def together(chosen: tuple[int, ...]) -> list[Array]:
        """The conditions of several calls, one below the other."""
        if chosen not in joined:
            columns = zip(*(inputs[k] for k in chosen), strict=True)
            joined[chosen] = [backend.namespace(c[0]).concat(list(c), axis=0) for c in columns]
        return joined[chosen]

    def output(x: Array, t: float, weights: tuple[float, ...], *more: Array) -> tuple[Array, ...]:
        shares = (*weights, free_share(weights))
        chosen = tuple(k for k, share in enumerate(shares) if share)
        if len(chosen) > 1 and sampler.guidance_batched and not sampler.guide:
            xp, m = backend.namespace(x), len(chosen)
            several = [xp.concat([v] * m, axis=0) for v in (x, *more)]
            made = outputs(graph(several[0], clock(t, m * n), *together(chosen), *several[1:]))
            said = {k: tuple(v[i * n : (i + 1) * n] for v in made) for i, k in enumerate(chosen)}
        else:
            last = len(asked)
            said = {
                k: outputs((guide if k == last else graph)(x, clock(t, n), *inputs[k], *more)) for k in chosen
            }
        out, *rest = said[chosen[0]]
        if len(chosen) == 1 and shares[chosen[0]] == 1.0:
            return out, *rest
        if len(asked) in said:
            free = said[len(asked)][0]
            led = sum((weights[k] * (said[k][0] - free) for k in chosen[:-1]), start=free)
        else:
            led = sum((weights[k] * said[k][0] for k in chosen[1:]), start=weights[chosen[0]] * out)
        return led, *rest

    return output


def free_share(weights: Iterable[float]) -> float:
    """How often out(∅) counts beside conditions of these weights; 0 where they add up to 1, but for
    rounding."""
    share = 1.0 - math.fsum(weights)
    return 0.0 if abs(share) < 1e-12 else share


def limited(x0: Array, bound: float, share: float, noise: Noise) -> Array:
    """x₀ within ±bound; where `share` is above 0 by dynamic thresholding (Saharia et al. 2022, "Imagen",
    Section 2.3): of a sample whose |x₀| has the quantile s > bound at `share`, x₀ is clipped to ±s and scaled
    by bound/s, so that it is not pressed flat."""
    if share <= 0.0:
        return x0.clip(-bound, bound)  # the method: the namespaces' functions cost ten times as much
    xp, n = noise.backend.namespace(x0), x0.shape[0]
    size = xp.sort(xp.abs(x0).reshape(n, -1), axis=1)
    place = share * (size.shape[1] - 1)
    low = int(place)
    high = min(low + 1, size.shape[1] - 1)
    found = (size[:, low] + (place - low) * (size[:, high] - size[:, low])).clip(bound)
    found = found.reshape(n, *(1,) * (x0.ndim - 1))
    return xp.minimum(xp.maximum(x0, -found), found) * (bound / found)
