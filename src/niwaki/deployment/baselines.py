"""What a bundle is compared with: the same model in torch, as it comes and at its best."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.backend import TorchBackend
from niwaki.core.contract import GenerativeModel, Graph
from niwaki_runtime.samplers import Noise
from niwaki_runtime.specs import resolve

__all__ = ["Inputs", "compiled_bf16", "eager_float32", "made_once", "torch_threads"]

Sample = Callable[[int], Any]
"""n → n samples, end to end, with the model's own sampler."""

Inputs = Callable[[int], Any]
"""n → what n samples are asked for (`niwaki.data.inputs.make_inputs`)."""


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """torch on so many threads for the duration of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def eager_float32(model: GenerativeModel, *, seed: int = 0, inputs: Inputs | None = None) -> Sample:
    """The float32 eager model with its own sampler; `inputs` where samples must be asked for."""
    plain, made = copy.deepcopy(model).cpu().float().eval(), made_once(inputs)

    def sample(n: int) -> Tensor:
        return plain.sample(n, seed=seed, condition=made(n), batch=n)

    return sample


def made_once(inputs: Inputs | None) -> Inputs:
    """The inputs of each batch size, made once: making them is not what is timed."""
    known: dict[int, Any] = {}

    def made(n: int) -> Any:
        if inputs is not None and n not in known:
            known[n] = inputs(n)
        return known.get(n)

    return made


def compiled_bf16(
    model: GenerativeModel, *, seed: int = 0, inputs: Inputs | None = None, **options: Any
) -> Sample:
    """torch.compile in bf16 with frozen weights and channels_last: the fastest that torch itself offers.

    The networks are compiled, the sampler's loop is not (as everywhere in niwaki). Each batch size is
    compiled for itself.
    """
    import torch._inductor.config as inductor

    fast = copy.deepcopy(model).cpu().float().eval()
    for part in fast.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sampler, backend, made = fast.sampler(), TorchBackend("cpu"), made_once(inputs)
    graphs = {name: _Compiled(graph, options) for name, graph in fast.graphs().items()}

    def sample(n: int) -> Tensor:
        rows = {k: backend.asarray(v) for k, v in resolve(fast.conditions, made(n), 0, n).items()}
        with torch.no_grad(), inductor.patch(freezing=True):
            return sampler(graphs, Noise(backend, seed, 0, n), rows)

    return sample


class _Compiled:
    """A graph compiled under bf16 autocast; what it returns is float32 again, as the solvers want it."""

    def __init__(self, graph: Graph, options: dict[str, Any]) -> None:
        self.state = graph.state
        self._call = torch.compile(graph.module, dynamic=False, **options)

    def __call__(self, *inputs: Tensor) -> Any:
        images = (x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = self._call(*images)
        if isinstance(out, tuple | list):
            return tuple(o.float() if o.is_floating_point() else o for o in out)
        return out.float() if out.is_floating_point() else out
