"""What a network and its teacher are asked, so that answers can be compared: one rule per role of graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from niwaki.core.contract import Batch, Context, GenerativeModel, Graph, Port
from niwaki.nn.diffusion import TensorProcess, columns, last_estimate, noised
from niwaki_runtime.samplers import Diffusion, MeanFlow, Noise
from niwaki_runtime.samplers.backend import outputs

__all__ = ["RULES", "asked_conditions", "asks", "clean_of", "value_of"]

Asks = Callable[[GenerativeModel, str, Graph, Batch, Context], tuple[Tensor, ...] | None]
"""(teacher, name of the graph, graph, batch, ctx) → inputs that both are given; None where the rule does not
apply."""

RULES: dict[str, Asks] = {}


def asks(*roles: str) -> Callable[[Asks], Asks]:
    """Decorator: how graphs of these roles are compared."""

    def enter(function: Asks) -> Asks:
        for role in roles:
            RULES[role] = function
        return function

    return enter


@asks("generator", "decoder", "translator")
def on_latents(
    teacher: GenerativeModel, name: str, graph: Graph, batch: Batch, ctx: Context
) -> tuple[Tensor, ...]:
    """Fresh latents, and the batch's own classes and conditions: where the sampler will call it."""
    latent = any(s.draws_latents(name) for s in teacher.sampler().parts())
    return tuple(
        value_of(p, teacher, batch, ctx, noise=latent and i == 0) for i, p in enumerate(graph.inputs)
    )


@asks("denoiser")
def on_noised_data(
    teacher: GenerativeModel, name: str, graph: Graph, batch: Batch, ctx: Context
) -> tuple[Tensor, ...] | None:
    """x_t = α_t x₀ + σ_t ε of real x₀ at the t of training, some labels dropped where the sampler guides."""
    sampler = next(iter(teacher.sampler().parts_of(Diffusion, name)), None)
    clean = None if sampler is None else clean_of(teacher, sampler, batch)
    if sampler is None or clean is None:
        return None
    process, path = sampler.process, TensorProcess(sampler.process).to(batch.x.device)
    t = path.draw(len(batch), ctx.rng)
    a, s = (columns(level, clean) for level in path.levels(t))
    noise = torch.randn(clean.shape, generator=ctx.rng, device=clean.device)
    x = noised(clean, noise, a, s)
    asked = process.network_input(x, a, s), path.network_time(t)
    given = (*asked, *asked_conditions(teacher, sampler, graph, batch, ctx, 0.1))
    if not sampler.self_conditioning:
        return given
    known = process.conversion(sampler.prediction)
    return *given, last_estimate(graph, given, known, (x, a, s), sampler.clip, ctx.rng)


@asks("average_velocity")
def on_flow_maps(
    teacher: GenerativeModel, name: str, graph: Graph, batch: Batch, ctx: Context
) -> tuple[Tensor, ...] | None:
    """x_t = (1 − t) x₀ + t ε of real x₀, t and an earlier r: half of them one of the sampler's own steps, the
    others any."""
    sampler = next(iter(teacher.sampler().parts_of(MeanFlow, name)), None)
    if sampler is None or batch.x.shape[1:] != sampler.shape:
        return None
    n, device = len(batch), batch.x.device
    any_two = torch.rand((2, n), generator=ctx.rng, device=device)
    first = torch.randint(0, sampler.steps, (n,), generator=ctx.rng, device=device) / sampler.steps
    own = torch.arange(n, device=device) % 2 == 0
    t = torch.where(own, first + 1.0 / sampler.steps, any_two.amax(0))
    r = torch.where(own, first, any_two.amin(0))
    noise = torch.randn(batch.x.shape, generator=ctx.rng, device=device)
    asked = (value_of(port, teacher, batch, ctx, noise=False) for port in graph.inputs[3:])
    return noised(batch.x, noise, 1.0 - t, t), t, r, *asked


@torch.no_grad()
def clean_of(teacher: GenerativeModel, sampler: Diffusion, batch: Batch) -> Tensor | None:
    """What the denoiser's noise is added to: the samples, or their latents where it works on latents; None
    where the batch has neither."""
    if batch.x.shape[1:] == sampler.shape:
        return batch.x
    encode = teacher.programs().get("encode")
    if encode is None or encode.output.shape != sampler.shape:
        return None
    noise = Noise(teacher.backend(), 0, 0, len(batch))
    latents: Tensor = encode.sampler(teacher.graphs(), noise, {name: batch[name] for name in encode.inputs})
    return latents


def asked_conditions(
    teacher: GenerativeModel, sampler: Diffusion, graph: Graph, batch: Batch, ctx: Context, drop: float
) -> list[Tensor]:
    """The denoiser's conditions for the samples of a batch, encoded where the sampler encodes them.

    drop: share of those that have a null value which is replaced by it
    """
    n, device = len(batch), batch.x.device
    graphs, values = teacher.shipped_graphs(), list[Tensor]()
    ports = iter(graph.inputs[2 : len(graph.inputs) - int(sampler.self_conditioning)])
    for condition in sampler.conditions:
        encoder = graphs[sampler.encoders[condition]] if condition in sampler.encoders else None
        given = next(ports) if encoder is None else replace(encoder.inputs[0], name=condition)
        if encoder is not None:
            next(islice(ports, len(encoder.outputs) - 1, None))  # one for each of its outputs
        value = value_of(given, teacher, batch, ctx, noise=False)
        if condition in sampler.null:
            coins = torch.rand((n,), generator=ctx.rng, device=device) < drop
            value = torch.where(coins.reshape(-1, *[1] * (value.ndim - 1)), sampler.null[condition], value)
        values += outputs(value if encoder is None else encoder(value))
    return values


def value_of(port: Port, model: GenerativeModel, batch: Batch, ctx: Context, *, noise: bool) -> Tensor:
    """What an input is given: the batch's own where the batch has it, else random values of its kind."""
    n, device = len(batch), batch.x.device
    shape = tuple(n if axis == port.batch_axis else s for axis, s in enumerate(port.shape))
    if port.name in batch and any(port.name in program.inputs for program in model.programs().values()):
        return batch[port.name]
    if port.high:
        if len(shape) == 1 and "class" in batch and port.high - model.spec.classes in (0, 1):
            return batch["class"]
        return torch.randint(0, port.high, shape, generator=ctx.rng, device=device)
    if port.usual is not None:
        return torch.full(shape, port.usual, device=device)
    if not noise and port.shape[1:] == model.spec.shape:
        return batch.x
    return torch.randn(shape, generator=ctx.rng, device=device)
