"""Something on disk that samples, as plain data: this process and a fresh one open it the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compression_rows.torchao_networks import networks
from niwaki.deployment import bundle_bytes
from niwaki.deployment.baselines import compiled_bf16, eager_float32
from niwaki.models.io import load_model
from niwaki_runtime.bundle import Bundle, inspect, load
from niwaki_runtime.engines import open_graph

__all__ = ["Artefact", "NumpyRunner", "opened", "way_of"]


@dataclass(frozen=True)
class Artefact:
    """What a row made.

    kind:     `bundle`; `graphs`, an engine's own files; `torch`, a network that is made anew from a saved
              model
    path:     the bundle; the directory of the files; the directory of the saved model
    engine:   `openvino`, `onnxruntime`; of `torch`: `eager`, `compiled` or a way of `torchao_networks`
    files:    of `graphs`: graph → file in `path`
    sampling: of `graphs` and `torch`: a bundle of the same model, whose sampler, ports and conditions hold
    """

    kind: str
    path: str
    engine: str
    files: dict[str, str] = field(default_factory=dict)
    sampling: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def bytes(self) -> int | None:
        """On disk; None where it is made in memory and is nowhere."""
        return None if self.kind == "torch" else bundle_bytes(self.path)


class NumpyRunner:
    """A function of tensors, called with arrays as an engine is."""

    def __init__(self, call: Callable[..., Any], state: tuple[Any, ...]) -> None:
        self._call, self.state = call, state

    def __call__(self, *arrays: np.ndarray) -> Any:
        # Copies: the sampler may write into a cache that a compiled graph has kept.
        with torch.no_grad():
            out = self._call(*(torch.from_numpy(np.array(a)) for a in arrays))
        if isinstance(out, tuple | list):
            return tuple(_array(o) for o in out)
        return _array(out)


def _array(x: torch.Tensor) -> np.ndarray:
    return x.float().numpy() if x.is_floating_point() else x.numpy()


def opened(artefact: Artefact, threads: int = 2) -> Bundle:
    """Ready to sample from, with the same sampler and noise for every kind.

    Its graphs can also be called one by one, as `bits per byte` needs.
    """
    if artefact.kind == "bundle":
        return load(artefact.path, engine=artefact.engine, threads=threads)
    manifest = inspect(Path(artefact.sampling))
    if artefact.kind == "graphs":
        graphs: dict[str, Any] = {
            name: open_graph(
                artefact.engine,
                Path(artefact.path) / file,
                threads=threads,
                inputs=manifest.graphs[name].input_names,
                outputs=manifest.graphs[name].output_names,
                state=manifest.graphs[name].state,
            )
            for name, file in artefact.files.items()
        }
    else:
        torch.set_num_threads(threads)
        calls = networks(load_model(artefact.path), artefact.engine)
        graphs = {name: NumpyRunner(call, manifest.graphs[name].state) for name, call in calls.items()}
    return Bundle(Path(artefact.path), manifest, graphs, artefact.engine)


def way_of(artefact: Artefact, threads: int = 2, seed: int = 0) -> Callable[[int], Any]:
    """n → n samples in one batch: what is timed. The baselines are torch's own, as PROTOCOL.md says."""
    if artefact.kind == "torch" and artefact.engine in ("eager", "compiled"):
        model = load_model(artefact.path)
        return (eager_float32 if artefact.engine == "eager" else compiled_bf16)(model, seed=seed)
    found = opened(artefact, threads)
    return lambda n: found.sample(n, seed=seed, batch=n)
