"""SLURM by submitit, whose local executor stands in for a cluster; Ray on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from niwaki.core.contract import CallError
from niwaki.workflow.executors import executor, results
from niwaki.workflow.executors.clusters import RayExecutor, SlurmExecutor
from niwaki.workflow.searching.workers import try_in_worker

REFUSED = '{"opening": "nowhere.json", "attempt": null}'


def test_without_slurm_there_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CallError, match="no `sbatch`"):
        executor("slurm", 2, folder=tmp_path, seconds=60)


@pytest.mark.slow
def test_jobs_answer(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    jobs = SlurmExecutor(2, tmp_path, 300, cluster="local")
    try:
        found = results(jobs, try_in_worker, [REFUSED] * 2, lambda done, total: None)
    finally:
        jobs.shutdown()
    assert [("refused" in str(one)) for one in found] == [True, True]


@pytest.mark.slow
def test_ray_answers() -> None:
    pytest.importorskip("ray")
    cluster = RayExecutor(1)
    try:
        found = results(cluster, try_in_worker, [REFUSED], lambda done, total: None)
    finally:
        cluster.shutdown()
    assert "refused" in str(found[0])
