"""Small trainables on which the trainer's promises can be stated exactly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(
    0, str(Path(__file__).parent)
)  # `training_toys` is shared with the processes that tests start

from niwaki.core.contract import DataSpec
from niwaki.data import Split


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """The tensors here are tiny, and sums over them follow from the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def vectors() -> Split:
    """96 vectors of length 4."""
    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(7))
    return Split.of(DataSpec.of("vector", (4,)), x)


@pytest.fixture
def images() -> Split:
    """64 images of 3×8×8 in uint8."""
    x = torch.randint(0, 256, (64, 3, 8, 8), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)
    return Split.of(DataSpec.of("image", (3, 8, 8)), x)
