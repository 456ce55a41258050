"""Real digits with their extractors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.mixtures import mixtures
from threadpoolctl import threadpool_limits

from niwaki.data import DataConfig, Dataset, load
from niwaki.features import build, classifier


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small operations on a busy machine wait longer for their second thread than they take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def one_thread_session() -> None:
    torch.set_num_threads(1)


@dataclass
class Digits:
    dataset: Dataset
    extractors: list[Any]
    samples: np.ndarray
    labels: np.ndarray
    others: np.ndarray


@pytest.fixture(scope="session")
def digits(one_thread_session: None, tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """A stand-in for a good generator: mixtures of neighbouring training digits of one class."""
    dataset = load(DataConfig(source="digits"))
    patch = pytest.MonkeyPatch()
    patch.setattr(classifier, "_steps", lambda n: 120)  # its accuracy is tested in tests/features
    extractors = build(["classifier", "random"], dataset, cache=tmp_path_factory.mktemp("cache"))
    patch.undo()
    x, y = dataset.train.values().numpy(), dataset.train.y.numpy()
    rng = np.random.default_rng(0)
    samples, labels = mixtures(x, y, 800, rng)
    others, _ = mixtures(x, y, 800, rng)
    return Digits(dataset, extractors, samples, labels, others)
