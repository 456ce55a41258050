"""What a denoiser says when it is led: by what it says without conditions, or by a weaker one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from niwaki_runtime.samplers.backend import Array, Noise, Runner, outputs

if TYPE_CHECKING:
    from niwaki_runtime.samplers.diffusion import Diffusion

__all__ = ["guided_output", "limited"]


def guided_output(
    sampler: Diffusion, graphs: Mapping[str, Runner], noise: Noise, conditions: Mapping[str, Array]
) -> Callable[..., tuple[Array, ...]]:
    """(x, t, w, further inputs) → the network's outputs, the first of them guided:
    out(∅) + w (out(c) − out(∅)) (Ho & Salimans 2022, Equation 6, where w − 1 is called w).

    t is what the network is told of the time, and `more` are inputs after the conditions; outputs after the
    first are those given the conditions. Where the sampler names a `guide`, that one is asked with the
    same conditions in the place of out(∅) (Karras et al. 2024, "Guiding a diffusion model with a bad version
    of itself", Equation 3). At w = 1 and w = 0 one of the two is asked alone. Conditions are encoded here,
    once.
    """
    graph, backend, n = graphs[sampler.graph], noise.backend, noise.n
    guide = graphs[sampler.guide] if sampler.guide else graph

    def encode(values: Mapping[str, Array]) -> list[Array]:
        found: list[Array] = []
        for name in sampler.conditions:
            encoder = sampler.encoders.get(name)
            found += outputs(values[name] if encoder is None else graphs[encoder](values[name]))
        return found

    def clock(t: float, rows: int) -> Array:
        return backend.asarray(np.full(rows, t, dtype=np.float32))

    asked = encode(conditions)
    if sampler.guidance == 1.0:
        return lambda x, t, w, *more: outputs(graph(x, clock(t, n), *asked, *more))
    empty = asked
    if not sampler.guide:
        # What has no null value (a picture to enlarge, say) is asked both times.
        null = sampler.null
        empty = encode({k: v * 0 + null[k] if k in null else v for k, v in conditions.items()})
    both = None
    if sampler.guidance_batched and not sampler.guide:
        xp = backend.namespace(asked[0])
        both = [xp.concat([c, e], axis=0) for c, e in zip(asked, empty, strict=True)]

    def output(x: Array, t: float, w: float, *more: Array) -> tuple[Array, ...]:
        if w == 1.0:
            return outputs(graph(x, clock(t, n), *asked, *more))
        if w == 0.0:
            return outputs(guide(x, clock(t, n), *empty, *more))
        if both is not None:
            xp = backend.namespace(x)
            twins = [xp.concat([v, v], axis=0) for v in (x, *more)]
            out, *rest = outputs(graph(twins[0], clock(t, 2 * n), *both, *twins[1:]))
            led, free, rest = out[:n], out[n:], [v[:n] for v in rest]
        else:
            free = outputs(guide(x, clock(t, n), *empty, *more))[0]
            led, *rest = outputs(graph(x, clock(t, n), *asked, *more))
        return free + w * (led - free), *rest

    return output


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
