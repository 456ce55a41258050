"""Samples that several processes share have the bits of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.api.sample import sample
from niwaki.core.contract import CallError, GenerativeModel, NiwakiError
from niwaki.data import load
from niwaki.data.config import DataConfig
from niwaki.models.io import save_model
from niwaki.models.registry import build
from niwaki.training.launching import machines
from niwaki.workflow.sharing.division import divided, serve, share_of, stop_serving
from niwaki.workflow.sharing.messages import Channel

SEED, N, BATCH = 3, 10, 3


def model() -> GenerativeModel:
    """A conditional model, of whose samples each follows from noise and a class."""
    spec = load(DataConfig.model_validate({"source": "digits"})).spec
    torch.manual_seed(0)
    return build("ddpm", {"widths": [8, 8], "blocks": 1, "groups": 4, "sampling": {"steps": 2}}, spec)


@pytest.mark.parametrize(("n", "size", "world"), [(29, 4, 3), (8, 4, 4), (1000, 256, 3), (5, 1, 5)])
def test_every_sample_has_one_process_and_batches_stay_whole(n: int, size: int, world: int) -> None:
    shares = [share_of(rank, world, n, size) for rank in range(world)]
    assert [i for share in shares for i in share] == list(range(n))
    assert all(share.start % size == 0 for share in shares if share)
    assert max(map(len, shares)) - min(map(len, shares)) <= 2 * size - 1


class Post(Channel):
    """Messages between the processes of a test, which are all in this one: whoever is asked works at once."""

    def __init__(self, runners: dict[int, Any]) -> None:
        self.runners = runners
        self.asked: list[Any] = []
        self.answers: list[Any] = []

    def send(self, to: int, about: Any, arrays: Any = None) -> None:
        if to == 0:
            self.answers.append((about, arrays or {}))
            return
        self.asked.append((about, arrays or {}))
        if about:
            self.asked.append(({}, {}))
            serve(self.runners[to], self)

    def receive(self, origin: int) -> Any:
        return self.asked.pop(0) if origin == 0 else self.answers.pop(0)


def test_a_divided_run_has_the_bits_of_one() -> None:
    runner = model()
    post = Post({1: runner, 2: runner})
    shared = divided(runner, 3, post)
    classes = np.arange(N) % 7
    seen: list[tuple[int, int]] = []
    for options in ({"start": 5}, {"inputs": classes, "steps": 1, "guidance": 2.0}):
        alone = runner.run("sample", N, seed=SEED, batch=BATCH, **options)
        found = shared("sample", N, seed=SEED, batch=BATCH, progress=lambda *a: seen.append(a), **options)
        assert found.dtype == alone.dtype
        assert np.array_equal(found, alone)
    assert seen[-1] == (N, N)
    assert [done for done, _ in seen] <= [N] * len(seen)
    runner.even_batches = True  # the last batch is filled up, as one process does
    assert np.array_equal(
        shared("sample", N, seed=SEED, batch=BATCH), runner.run("sample", N, seed=SEED, batch=BATCH)
    )
    stop_serving(3, post)
    assert post.asked == [({}, {})] * 2


def test_what_goes_wrong_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, broken = model(), model()
    monkeypatch.setattr(broken, "run", lambda *a, **k: 1 / 0)
    with pytest.raises(NiwakiError, match=r"process 1 of 2 failed: .*division by zero"):
        divided(runner, 2, Post({1: broken}))("sample", N, batch=BATCH)


def test_a_model_in_memory_cannot_be_shared() -> None:
    with pytest.raises(CallError, match="a model in memory cannot be handed to other processes"):
        sample(model(), 8, devices=2)


@pytest.mark.parametrize(
    ("environment", "devices", "found"),
    [
        ({}, 4, (1, 4)),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}, 16, (2, 8)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "16", "SLURM_NNODES": "4"}, 16, (4, 4)),
    ],
)
def test_how_many_machines_there_are(
    environment: dict[str, str], devices: int, found: tuple[int, int]
) -> None:
    assert machines(devices, environment) == found


def test_another_number_of_processes_than_asked_for_is_refused() -> None:
    started = {"SLURM_PROCID": "3", "SLURM_NTASKS": "16", "SLURM_NNODES": "4"}
    with pytest.raises(CallError, match="devices is 8, but SLURM has started 16 processes"):
        machines(8, started)
    with pytest.raises(CallError, match="16 processes on 3 machines"):
        machines(16, {**started, "SLURM_NNODES": "3"})


@pytest.mark.slow
def test_four_processes_make_the_samples_of_one(tmp_path: Path) -> None:
    save_model(model(), tmp_path / "model")
    alone, shared = (
        sample(tmp_path / "model", N, seed=SEED, batch=BATCH, devices=devices) for devices in (1, 4)
    )
    assert np.array_equal(alone.x, shared.x)
    assert all(np.array_equal(alone.condition[name], shared.condition[name]) for name in alone.condition)
