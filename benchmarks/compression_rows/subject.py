"""A trained model with its data and its judges, and the samples that every row is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import GenerativeModel
from niwaki.core.store import hash_json, hash_tensors
from niwaki.data import Dataset
from niwaki.deployment import export_graphs, package
from niwaki.models.io import save_model
from niwaki.workflow.judges import ask, judges
from niwaki.workflow.measure import weight_bytes
from niwaki.workflow.reporter import Quiet
from niwaki_runtime.samplers import Autoregressive

__all__ = ["Subject"]

Say = Callable[[str], None]


@dataclass
class Subject:
    """What is compressed.

    directory: gets everything that is made here
    cache:     of the feature extractors
    n:         pairs of samples that a verdict rests on
    steps:     of the training in plans: what a fine-tuning of this model takes
    batch:     of the same
    quick:     whether this is a try-out, with little training
    """

    name: str
    model: GenerativeModel
    dataset: Dataset
    directory: Path
    cache: Path
    n: int
    steps: int
    batch: int
    seed: int = 0
    quick: bool = False

    @property
    def tokens(self) -> bool:
        """Whether its samples are token sequences: bits per byte and distinct n-grams judge them."""
        return isinstance(self.model.sampler(), Autoregressive)

    @property
    def diffusion(self) -> bool:
        return self.model.sampler().kind == "diffusion"

    @cached_property
    def key(self) -> str:
        """Of the weights, the data and the number of pairs: rows of another key are made anew."""
        weights = hash_tensors(self.model.state_dict())
        return hash_json([weights, self.dataset.fingerprint, self.n, self.seed])

    @cached_property
    def asked(self) -> tuple[Any, np.ndarray | None]:
        """What the samples are asked to be, and their classes."""
        return ask(self.model.conditions, self.dataset, self.n)

    @cached_property
    def extractors(self) -> list[Any]:
        wanted = ("classifier", "random")
        return judges(self.dataset, wanted, seed=self.seed, cache=self.cache, reporter=Quiet())

    @cached_property
    def before(self) -> np.ndarray:
        """Samples of the uncompressed model in torch, float32; kept, for some take minutes."""
        file = self.directory / f"before-{self.key[:16]}.npy"
        if file.exists():
            return np.load(file, allow_pickle=False)
        made = self.model.sample(self.n, seed=self.seed, condition=self.asked[0], batch=64)
        x = made.float().numpy() if made.is_floating_point() else made.numpy()
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, x, allow_pickle=False)
        return x

    @cached_property
    def saved(self) -> Path:
        """The float model on disk, for processes that load it themselves."""
        return save_model(self.model, self.directory / "float")

    @cached_property
    def graphs(self) -> dict[str, Path]:
        """The exported float graphs: what the peers that work on ONNX start from."""
        return export_graphs(self.model, self.directory / "float" / "graphs")

    @cached_property
    def bundle(self) -> Path:
        """The float bundle: how the model samples, said once for all peers."""
        return package(self.model, self.graphs, self.directory / "float" / "model.niwaki")

    @cached_property
    def bytes(self) -> int:
        """Of the float weights that sampling needs: what the ratios are against."""
        return weight_bytes(self.model)
