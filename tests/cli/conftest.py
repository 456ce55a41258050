"""Calls of the command line, in this process and in a fresh one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from niwaki.cli.main import status

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits"},
    "model": {"name": "dcgan", "width": 8, "features": 16, "latent": 8},
    "train": {"steps": 6, "batch": 32, "log_every": 2, "checkpoint_every": 3, "ema": 0.5},
}


@dataclass(frozen=True)
class Said:
    """What a call left: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture
def niwaki(capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a verb in this process."""

    def call(*words: object) -> Said:
        capsys.readouterr()
        code = status([str(w) for w in words])
        found = capsys.readouterr()
        return Said(code, found.out, found.err)

    return call


@pytest.fixture(scope="session")
def fresh() -> Call:
    """Calls a verb in a fresh process."""

    def call(*words: object, **environment: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "niwaki.cli", *map(str, words)],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=300,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a trained model. Tests only read it."""
    from niwaki.api.train import train
    from niwaki.recipe import recipe_from

    return train(recipe_from(TINY), out=tmp_path_factory.mktemp("trained") / "run").path
