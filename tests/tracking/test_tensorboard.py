"""A run tracked by TensorBoard, read back by TensorBoard's own reader."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import niwaki

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

SMALL = {
    "model.width": 8,
    "train.steps": 60,
    "train.batch": 32,
    "train.warmup": 0,
    "train.log_every": 10,
    "train.checkpoint_every": 30,
    "track": ["tensorboard"],
}


def read(run):
    events = accumulator.EventAccumulator(str(run / "tracking" / "tensorboard"))
    return events.Reload()


def logged(run, name):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[name]) for line in lines if name in line]


def test_a_training_is_there_with_its_curves_its_samples_and_its_record(tmp_path):
    run = niwaki.train("digits-vae", SMALL, out=tmp_path / "run").path
    events = read(run)
    for name in ("validation/loss", "elbo/reconstruction"):
        steps, values = zip(*logged(run, name), strict=True)
        assert tuple(one.step for one in events.Scalars(name)) == steps
        assert [one.value for one in events.Scalars(name)] == pytest.approx(list(values))
    assert [one.step for one in events.Images("samples")] == [30, 60]
    record = events.Tensors("train/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| steps | 60 |" in record
    assert not any(name.startswith("train/") for name in events.Tags()["scalars"])
    assert "digits-vae" in events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()


def test_a_killed_training_leaves_readable_files_and_goes_on_in_them(tmp_path):
    run = tmp_path / "run"
    call = [f"{key}={json.dumps(value)}" for key, value in SMALL.items()]
    command = [sys.executable, "-m", "niwaki", "train", "digits-vae", "--out", str(run), *call]
    command += ["train.steps=600", "train.checkpoint_every=100"]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while child.poll() is None and len(logged_or_none(run)) < 15:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    read(run)
    niwaki.train(
        "digits-vae", SMALL | {"train.steps": 600, "train.checkpoint_every": 100}, out=run, resume=True
    )
    found = [one.step for one in read(run).Scalars("elbo/reconstruction")]
    assert found == [step for step, _ in logged(run, "elbo/reconstruction")]


def logged_or_none(run):
    try:
        return logged(run, "elbo/reconstruction")
    except (OSError, ValueError):
        return []
