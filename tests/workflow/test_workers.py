"""Several processes train one run; the first one alone works in its directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from niwaki.api.train import train
from niwaki.compression import FinetuneConfig
from niwaki.core.contract import CallError, NiwakiError
from niwaki.recipe import recipe_from
from niwaki.training.checkpoint import list_checkpoints
from niwaki.workflow.workers import place_among_processes, workers

BOTH: dict[str, Any] = {
    "name": "both",
    "data": {"source": "digits"},
    "model": {"name": "vae", "width": 4, "latent": 2, "hidden": 8},
    "train": {
        "steps": 6, "batch": 8, "devices": 2, "device": "cpu", "schedule": "constant", "log_every": 2,
        "checkpoint_every": 3,
    },
}  # fmt: skip


def weights(path: Path) -> bytes:
    return (path / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_devices_give_the_same_bits_from_python_the_command_line_torchrun_and_resumed(
    tmp_path: Path,
) -> None:
    import yaml

    file = tmp_path / "both.yaml"
    file.write_text(yaml.safe_dump(BOTH))
    train(recipe_from(BOTH), out=tmp_path / "python")  # the same process, twice: its group ends with it
    train(recipe_from({**BOTH, "train": {**BOTH["train"], "steps": 3}}), out=tmp_path / "longer")
    train(tmp_path / "longer", ["train.steps=6"], resume=True)
    for words in (["-m", "niwaki"], ["-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "niwaki"]):
        out = tmp_path / str(len(words))
        done = subprocess.run(
            [sys.executable, *words, "train", str(file), "--out", str(out)],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert weights(out) == weights(tmp_path / "python")
    assert weights(tmp_path / "longer") == weights(tmp_path / "python")
    assert [p.name for p in list_checkpoints(tmp_path / "python" / "checkpoints")] == [
        "step-0000003",
        "step-0000006",
    ]
    with pytest.raises(CallError, match=r"train\.devices was 2 and is 1"):
        train(tmp_path / "longer", ["train.devices=1", "train.steps=9"], resume=True)


def test_a_worker_that_cannot_start_is_told_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("niwaki.workflow.workers.sys.executable", "/bin/false")
    with (
        pytest.raises(NiwakiError, match="could not be started: it ended without a word"),
        workers(tmp_path, 3),
    ):
        raise AssertionError("nothing is trained alone")
    assert "LOCAL_RANK" not in os.environ


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, 0),
        ({"RANK": "3"}, 0),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "1", "RANK": "0"}, 0),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4", "RANK": "3"}, 3),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, 1),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, 0),
    ],
)
def test_which_of_the_processes_this_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], place: int
) -> None:
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert place_among_processes() == place


def test_what_trains_within_a_step_takes_one_device() -> None:
    with pytest.raises(ValueError, match="a step of a plan trains on one device"):
        FinetuneConfig.model_validate({"train": {"devices": 2}})
