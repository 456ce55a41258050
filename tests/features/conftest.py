from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from niwaki.data import DataConfig, Dataset, load


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small operations on a busy machine wait longer for their second thread than they take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load(DataConfig(source="digits"))
