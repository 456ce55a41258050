"""The page from a stranger's generator to a bundle within a budget, carried out as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import niwaki_runtime

PAGE = (Path(__file__).parents[2] / "docs" / "device.md").read_text(encoding="utf-8")


def test_the_generator_of_the_page_is_a_module_of_its_own(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    assert code.startswith("# outside.py")
    compile(code, "outside.py", "exec")


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
    module, device = (code for language, code in blocks if language == "python")
    (tmp_path / "outside.py").write_text(module)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    commands = [line for language, code in blocks if not language for line in code.splitlines() if line]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        called = [sys.executable, *(words[1:] if words[0] == "python" else ["-m", "niwaki.cli", *words[1:]])]
        done = subprocess.run(called, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([sys.executable, "-c", device], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    bundle = tmp_path / "small" / "small.niwaki"
    assert bundle.stat().st_size * 7 <= 212_000  # what the weights take in float32
    assert niwaki_runtime.load(bundle).sample(4, seed=0, condition=3).shape == (4, 1, 8, 8)
