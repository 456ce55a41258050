"""The small graphs as files and as bundles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from runtime.small_graphs import PARTS, manifest

from niwaki_runtime.manifest import write_manifest


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[[str], Path]:
    """A bundle directory around one of the small graphs."""

    def make(kind: str) -> Path:
        model, entry, _ = PARTS[kind]
        path = tmp_path / f"{kind}.niwaki"
        path.mkdir()
        onnx.save(model(), path / entry.file)
        write_manifest(path, manifest(kind))
        return path

    return make


@pytest.fixture
def onnx_file(tmp_path: Path) -> Callable[[str], Path]:
    """One of the small graphs as a file."""

    def make(kind: str) -> Path:
        model, entry = PARTS[kind][:2]
        onnx.save(model(), tmp_path / entry.file)
        return tmp_path / entry.file

    return make
