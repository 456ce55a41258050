"""The page from a stranger's generator to a bundle within a budget, carried out as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs.doc_scripts import DOCS, script

import niwaki_runtime

PAGE = DOCS / "device.md"
blocks = script("blocks")


def test_the_generator_of_the_page_is_a_module_of_its_own() -> None:
    files = [block for block in blocks.blocks(PAGE.read_text(encoding="utf-8")) if block.file]
    (block,) = files
    assert block.file == "outside.py"
    compile(block.code, block.file, "exec")


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path) -> None:
    done = blocks.run(PAGE, tmp_path)
    assert done.returncode == 0, done.stdout
    bundle = tmp_path / "small" / "small.niwaki"
    assert bundle.stat().st_size * 7 <= 212_000  # what the weights take in float32
    assert niwaki_runtime.load(bundle).sample(4, seed=0, condition=3).shape == (4, 1, 8, 8)
