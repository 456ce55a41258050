"""Encoders as extractors: trained on a data set's own training split, or taken from a run; and kept on
disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from niwaki.core.contract import CallError, DataSpec, NiwakiError
from niwaki.core.store import hash_json, kept_json, read_json, read_tensors
from niwaki.data import Dataset
from niwaki.features.budget import Announce, affordable_steps
from niwaki.features.encoders import Encoder, build_encoder, registered_encoder
from niwaki.features.extractor import NetworkExtractor, Progress
from niwaki.features.fitting import fitted
from niwaki.features.probe import knn_accuracy, linear_accuracy
from niwaki.features.units import has_units
from niwaki.models.io import ENCODER, fill, save_model

__all__ = [
    "EncoderExtractor",
    "Probe",
    "is_encoder",
    "load_encoder",
    "probe",
    "probe_encoder",
    "run_encoder",
    "save_encoder",
    "train_encoder",
]

_VERSION = 1
"""Raised when an architecture or its training changes: part of the hash that the cache goes by."""

_NEIGHBOURS = 20

Probe = dict[str, dict[str, float] | None]
"""`{"linear": {"validation": 0.97, "test": 0.96}, "knn": …}`, accuracies 0 … 1; None where there are no
labels."""


class EncoderExtractor(NetworkExtractor):
    """A trained encoder as an extractor.

    probe: what a linear classifier and 20 neighbours make of its features, by split
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        *,
        settings: dict[str, Any],
        cache: Path | None,
        device: str = "auto",
    ) -> None:
        super().__init__(
            name, encoder.spec, encoder, dim=encoder.dim, settings=settings, cache=cache, device=device
        )
        self.probe: Probe = {"linear": None, "knn": None}


def train_encoder(
    name: str,
    dataset: Dataset,
    *,
    cache: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> EncoderExtractor:
    """The extractor `name` for a data set: from the cache, or trained now on the training split alone.

    announce: told how long the training will take, before it begins
    Raises CallError for samples that the encoder cannot look at.
    """
    kind = registered_encoder(name)
    kind.refuse(dataset.spec)
    config = kind.Config()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(name, config, dataset.spec)
    steps = min(
        encoder_steps(len(dataset.train), kind.batch),
        affordable_steps(encoder, dataset.spec, kind.batch, views=kind.views),
    )
    settings = {
        "version": _VERSION,
        "seed": seed,
        "steps": steps,
        "batch": kind.batch,
        "lr": kind.lr,
        "config": config.model_dump(mode="json"),
        **({"units": True} if has_units(dataset.spec) else {}),
    }
    key = hash_json([name, settings, dataset.fingerprint, dataset.spec.to_json()])[:24]
    path = cache / "features" / f"{name}-{key}.safetensors" if cache else None
    fitted(
        encoder, name, dataset, path=path,
        train={"steps": steps, "batch": kind.batch, "lr": kind.lr}, seed=seed, device=device,
        progress=progress, announce=announce,
    )  # fmt: skip
    made = EncoderExtractor(name, encoder, settings=settings, cache=cache, device=device)
    made.probe = _kept_probe(made, dataset, cache)
    return made


def run_encoder(
    directory: Path, dataset: Dataset, *, cache: Path | None = None, device: str = "auto"
) -> EncoderExtractor:
    """The encoder of a run (or of a model directory) as an extractor, named by the directory.

    Raises CallError where its samples have another shape than the data, or both have bounds and these differ;
    NiwakiError where it is broken.
    """
    encoder = load_encoder(directory)
    here, there = dataset.spec, encoder.spec
    ends = (here.low, here.high), (there.low, there.high)
    differ = ends[0] != ends[1] and all(math.isfinite(end) for pair in ends for end in pair)
    if here.shape != there.shape or differ:
        raise CallError(
            f"the encoder in {directory} is for samples of shape {tuple(there.shape)} in "
            f"{there.low:g} … {there.high:g}, the data have {tuple(here.shape)} in "
            f"{here.low:g} … {here.high:g}"
        )
    settings = {"encoder": encoder.name, "config": encoder.config.model_dump(mode="json")}
    made = EncoderExtractor(directory.name, encoder, settings=settings, cache=cache, device=device)
    made.probe = _kept_probe(made, dataset, cache)
    return made


def probe(extractor: NetworkExtractor, dataset: Dataset) -> Probe:
    """Accuracy of a linear probe and of 20 nearest neighbours, fitted to the training split, by split; None
    where there are no labels, or too few of them."""
    y = dataset.train.y
    if y is None or len(torch.unique(y)) < 2 or len(dataset.train) < _NEIGHBOURS:
        return {"linear": None, "knn": None}
    train, labels = extractor.of_split(dataset, "train"), y.cpu().numpy()
    linear, knn = {}, {}
    for name in ("validation", "test"):
        split = dataset.split(name)
        if split.y is not None and len(split):
            test, answers = extractor.of_split(dataset, name), split.y.cpu().numpy()
            linear[name] = linear_accuracy(train, labels, test, answers)
            knn[name] = knn_accuracy(train, labels, test, answers, k=_NEIGHBOURS)
    return {"linear": linear, "knn": knn}


def probe_encoder(encoder: Encoder, dataset: Dataset) -> Probe:
    """`probe` of an encoder that was just trained, on the CPU."""
    return probe(EncoderExtractor(encoder.name, encoder, settings={}, cache=None, device="cpu"), dataset)


def encoder_steps(samples: int, batch: int) -> int:
    """A hundred and fifty passes over a small set, at most 3000 steps over a large one; of large samples
    fewer, as `affordable_steps` says."""
    return int(min(3000, max(600, 150 * samples // batch)))


def save_encoder(encoder: Encoder, directory: Path | str) -> Path:
    """Write `model.json` and `model.safetensors` into `directory`; returns it."""
    return save_model(encoder, directory)


def is_encoder(directory: Path) -> bool:
    """Whether an encoder was saved in `directory`, or in its `model/`."""
    file = next(
        (f for f in (directory / "model.json", directory / "model" / "model.json") if f.is_file()), None
    )
    record = None if file is None else read_json(file)
    return isinstance(record, dict) and record.get("kind") == ENCODER


def load_encoder(directory: Path | str) -> Encoder:
    """The encoder saved in `directory` (a run's, or its `model/`), in eval mode, on the CPU.

    Raises NiwakiError where a file is missing, broken, or holds no encoder.
    """
    directory = Path(directory)
    directory = directory / "model" if (directory / "model").is_dir() else directory
    record = read_json(directory / "model.json")
    if not isinstance(record, dict) or record.get("kind") != ENCODER:
        raise NiwakiError(f"{directory / 'model.json'} does not describe an encoder")
    encoder = build_encoder(record["name"], record["config"], DataSpec.from_json(record["spec"]))
    weights = read_tensors(directory / "model.safetensors")
    for name, value in encoder.units.state_dict().items():  # encoders of before there were units saw none
        weights.setdefault(f"units.{name}", value)
    fill(encoder, weights, directory / "model.safetensors")
    return encoder.eval()


def _kept_probe(extractor: EncoderExtractor, dataset: Dataset, cache: Path | None) -> Probe:
    """`probe`, from the cache where it was taken before."""
    key = hash_json([extractor.fingerprint, dataset.fingerprint])[:24]
    path = cache / "features" / f"{extractor.name}-probe-{key}.json" if cache else None
    found: Probe = kept_json(path, lambda: probe(extractor, dataset))
    return found
