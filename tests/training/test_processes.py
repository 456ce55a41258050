"""Four processes train as one does: bit for bit where sums do not depend on their order, and nearly so where
they do."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch
from processes import STEPS, together
from torch import Tensor

from niwaki.core.store import read_json, read_jsonl, read_tensors
from niwaki.training.checkpoint import list_checkpoints

pytestmark = pytest.mark.slow


def last(directory: Path) -> dict[str, Tensor]:
    return read_tensors(list_checkpoints(directory / "checkpoints")[-1] / "state.safetensors")


def losses(directory: Path, name: str) -> list[float]:
    return [line[name] for line in read_jsonl(directory / "metrics.jsonl")]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings of four processes and of one, in `exact-4`, `exact-1`, `near-4` and `near-1`."""
    root = tmp_path_factory.mktemp("processes")
    asked = [(name, world, root / f"{name}-{world}") for name in ("exact", "near") for world in (4, 1)]
    assert together(*asked) == [[0] * world for _, world, _ in asked]
    return root


def test_four_processes_give_the_bits_of_one_where_sums_are_exact(ends: Path) -> None:
    four, one = last(ends / "exact-4"), last(ends / "exact-1")
    assert four.keys() == one.keys()
    assert {name.split("/")[0] for name in one} == {"model", "ema", "optimizer", "sums"}
    for name in one:
        if not name.startswith("sums/"):  # each of its own samples, which are averaged when they are read
            assert torch.equal(four[name], one[name]), name
    norms = [losses(ends / name, "fit/gradient_norm") for name in ("exact-4", "exact-1")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)  # the mean over processes is taken in float32


def test_four_processes_train_nearly_as_one_does_where_sums_round(ends: Path) -> None:
    four, one = last(ends / "near-4"), last(ends / "near-1")
    for name in (n for n in one if not n.startswith("sums/")):
        torch.testing.assert_close(four[name], one[name], rtol=1e-5, atol=1e-5)
    assert losses(ends / "near-4", "fit/square") == pytest.approx(
        losses(ends / "near-1", "fit/square"), rel=1e-5
    )


def test_the_processes_share_every_batch_without_overlap(ends: Path) -> None:
    ranks = [read_json(ends / "exact-4" / f"seen-{rank}.json") for rank in range(4)]
    whole = read_json(ends / "exact-1" / "seen-0.json")
    assert len(whole) == STEPS
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == whole
