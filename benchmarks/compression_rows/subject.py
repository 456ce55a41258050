"""A trained model with its data and the judge that speaks first, and the evidence that every row is compared
with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from niwaki.core.contract import GenerativeModel, Runner
from niwaki.core.store import hash_json, hash_tensors, read_json, write_json
from niwaki.data import Dataset
from niwaki.deployment import export_graphs, package
from niwaki.deployment.weights import weight_bytes
from niwaki.evaluation import EvaluateConfig
from niwaki.evaluation.judges import Evidence, Judge
from niwaki.models.io import save_model
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.evidence import read_evidence, write_arrays
from niwaki.workflow.judging import Judgement, calibrate

__all__ = ["Subject"]

Say = Callable[[str], None]
METRICS = ("frechet", "precision", "coverage")
"""Of samples; judges of other things have figures of their own."""


@dataclass
class Subject:
    """What is compressed.

    directory: gets everything that is made here
    cache:     of the feature extractors
    n:         pairs of samples, or windows of text, that a verdict rests on
    steps:     of the training in plans: what a fine-tuning of this model takes
    batch:     of the same
    quick:     whether this is a try-out, with little training
    features:  the networks that look at samples, by name
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
    features: tuple[str, ...] = ("classifier", "random")

    @property
    def tokens(self) -> bool:
        """Whether its samples are sequences of tokens."""
        return self.model.spec.is_tokens

    @property
    def diffusion(self) -> bool:
        return self.model.sampler().kind == "diffusion"

    @cached_property
    def key(self) -> str:
        """Of the weights, the data and what is judged how: rows of another key are made anew."""
        weights = hash_tensors(self.model.state_dict())
        return hash_json([weights, self.dataset.fingerprint, self.seed, self.judge.name, self.context.config])

    @cached_property
    def context(self) -> EvaluationContext:
        config = EvaluateConfig(features=self.features, metrics=METRICS, n=self.n, seed=self.seed)
        return EvaluationContext(self.dataset, config, seed=self.seed, cache=self.cache)

    @property
    def extractors(self) -> list[Any]:
        """The networks that look at samples."""
        return self.context.extractors

    @cached_property
    def judge(self) -> Judge:
        """Of those that apply, the one that speaks first."""
        return self.context.judges(self.model)[0]

    def evidence(self, runner: Runner) -> Evidence:
        """What a runner does when the judge asks it about the test split."""
        return self.judge.evidence(runner, self.dataset, "test", self.n, self.seed)

    @cached_property
    def before(self) -> Evidence:
        """Of the uncompressed model in torch, float32; kept, for some take minutes."""
        record = self.directory / f"before-{self.key[:16]}.json"
        arrays = record.with_suffix(".npz")
        if record.exists():
            return read_evidence(arrays, read_json(record))
        found = self.evidence(self.model)
        write_arrays(arrays, found.arrays)
        write_json(record, {key: value for key, value in vars(found).items() if key != "arrays"})
        return found

    @cached_property
    def judgement(self) -> Judgement:
        """What the judge says of the uncompressed model."""
        return Judgement(self.judge, self.before, self.judge.evaluate(self.before, self.dataset))

    @cached_property
    def margins(self) -> dict[str, Any]:
        """Largest losses that count as none, measured before any row is made, and kept; `left_out` says why
        there are none."""
        file = self.directory / f"margins-{self.key[:16]}.json"
        if not file.exists():
            found = calibrate(self.context, self.model, self.judgement)
            write_json(file, found if isinstance(found, dict) else found.to_json())
        return dict(read_json(file))

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
