"""The runtime alone: its command line, and no torch anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from niwaki_runtime import archive, load
from niwaki_runtime.__main__ import main

Make = Callable[[str], Path]
BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "niwaki", "onnx"):
            raise ImportError(name + " is not on this device")

sys.meta_path.insert(0, Blocker())
"""
SAMPLE = """
import numpy as np
import niwaki_runtime
out = {}
for path in sys.argv[2:]:
    for engine in ("openvino", "onnxruntime"):
        bundle = niwaki_runtime.load(path, engine=engine, precision="exact")
        out[f"{bundle.sampler.kind} {engine}"] = bundle.sample(5, seed=2)
assert not {"torch", "niwaki", "onnx"} & set(sys.modules)
np.savez(sys.argv[1], **out)
"""


def test_no_torch_is_imported(bundle: Make, tmp_path: Path) -> None:
    kinds = ["one_shot", "diffusion", "autoregressive"]
    paths = [bundle(kind) for kind in kinds]
    command = [sys.executable, "-c", BLOCKED + SAMPLE, str(tmp_path / "out.npz"), *map(str, paths)]
    subprocess.run(command, check=True, timeout=120)
    out = np.load(tmp_path / "out.npz")
    for kind, path in zip(kinds, paths, strict=True):
        here = load(path, engine="onnxruntime").sample(5, seed=2)
        for engine in ("openvino", "onnxruntime"):
            np.testing.assert_allclose(out[f"{kind} {engine}"], here, atol=1e-5)


def test_importing_the_errors_does_not_import_numpy() -> None:
    """What the workshop's command line needs for `--help` costs nothing."""
    code = "import sys, niwaki_runtime.errors; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_command_line(bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = archive.pack(bundle("diffusion"), tmp_path / "packed.niwaki")
    out = tmp_path / "deep" / "samples.npz"
    call = [
        "sample",
        str(path),
        "-n",
        "5",
        "--seed",
        "2",
        "--condition",
        "1",
        "--set",
        "steps=3",
        "--out",
        str(out),
    ]
    assert main(call) == 0
    expected = load(path).sample(5, seed=2, condition=1, steps=3)
    np.testing.assert_array_equal(np.load(out)["samples"], expected)
    assert main([*call[:-1], str(tmp_path / "s.npy"), "--condition", "label=1"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy"), expected)
    capsys.readouterr()
    assert main(["info", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["programs"]["sample"]["sampler"]["kind"] == "diffusion"


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--condition", "9"], 2, "outside 0 … 2"),
        (["--set", "stepz=3"], 2, "did you mean 'steps'"),
        (["--set", "steps"], 2, "name=value"),
        (["--engine", "onnxruntim"], 2, "did you mean 'onnxruntime'"),
        (["--out", "samples.png"], 2, ".npz or .npy"),
        (["-n", "-4"], 2, "negative"),
    ],
)
def test_bad_calls(
    arguments: list[str],
    status: int,
    text: str,
    bundle: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = bundle("diffusion")
    assert main(["sample", str(path), "--out", str(tmp_path / "s.npz"), *arguments]) == status
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "s.npz").exists()


def test_a_broken_bundle_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path / "absent.niwaki")]) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_in_a_fresh_environment(engine: str, bundle: Make, tmp_path: Path) -> None:
    """Installed alone with one engine, it loads a bundle and samples; torch is nowhere to be found."""
    venv.create(tmp_path / "venv", with_pip=True)
    binary = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    root = Path(__file__).parents[2]
    install = [str(binary / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    constraints = root / "constraints.txt"
    if constraints.exists():
        install += ["-c", str(constraints)]
    subprocess.run([*install, f"{root / 'runtime'}[{engine}]"], check=True, timeout=600)
    path = archive.pack(bundle("one_shot"), tmp_path / "packed.niwaki")
    found = subprocess.run([str(binary / "python"), "-c", "import torch"], capture_output=True, timeout=120)
    assert b"No module named 'torch'" in found.stderr
    out = tmp_path / "samples.npy"
    command = [
        str(binary / "niwaki-runtime"),
        "sample",
        str(path),
        "-n",
        "4",
        "--precision",
        "exact",
        "--out",
        str(out),
    ]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert engine in told.stdout
    np.testing.assert_allclose(np.load(out), load(path, precision="exact").sample(4), atol=1e-5)
