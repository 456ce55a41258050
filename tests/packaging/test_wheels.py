"""The wheels, installed where there is no checkout: recipes come with them; the runtime alone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("hatchling")


def pip(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)],
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name, built without a network."""
    out = tmp_path_factory.mktemp("wheels")
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, ".", "./runtime")
    return {path.name.partition("-")[0]: path for path in out.glob("*.whl")}


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("installed")
    pip("install", "-q", "--no-deps", "--no-index", "--target", out, *wheels.values())
    return out


def python(code: str, *folders: Path, cwd: Path) -> str:
    """Run in an interpreter that sees these folders and the libraries here, not the checkout: `.pth` files,
    by which an editable installation is found, count in its own folders alone."""
    paths = [*map(str, folders), sysconfig.get_paths()["purelib"]]
    done = subprocess.run(
        [getattr(sys, "_base_executable", sys.executable), "-c", code],
        capture_output=True, text=True, timeout=120, check=False, cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_recipe_is_found_by_its_name_without_a_checkout(installed, tmp_path):
    said = python(
        "import niwaki; print(niwaki.__file__); print(niwaki.load_recipe('digits-gan').name)",
        installed, cwd=tmp_path,
    )  # fmt: skip
    place, name = said.splitlines()
    assert Path(place).is_relative_to(installed)
    assert name == "digits-gan"


def test_all_that_is_no_code_is_in_the_wheel(installed):
    for package, source in (("niwaki", ROOT / "src"), ("niwaki_runtime", ROOT / "runtime" / "src")):
        tracked = subprocess.run(
            ["git", "ls-files", "."], cwd=source / package, capture_output=True, text=True, check=False
        ).stdout.split()
        if not tracked:
            pytest.skip("no checkout to compare with")
        missing = [name for name in tracked if not (installed / package / name).is_file()]
        assert missing == []


def test_the_browser_runtime_and_its_page_are_in_the_wheel_and_no_library(installed):
    """`niwaki export --target browser` copies them from there."""
    for part in ("src", "page"):
        files = {p.relative_to(ROOT / "browser") for p in (ROOT / "browser" / part).rglob("*") if p.is_file()}
        assert Path("src/index.js") in files or Path("page/index.html") in files
        assert [f for f in files if not (installed / "niwaki" / "browser" / f).is_file()] == []
    assert {p.name for p in (installed / "niwaki" / "browser").iterdir()} == {"src", "page"}


def test_the_command_line_answers(installed, tmp_path):
    said = python("from niwaki.cli import main; main(['--version'])", installed, cwd=tmp_path)
    assert said.startswith("niwaki ")


def test_the_runtime_alone_samples_without_torch_and_without_niwaki(wheels, tmp_path):
    pip("install", "-q", "--no-deps", "--no-index", "--target", tmp_path / "alone", wheels["niwaki_runtime"])
    code = (
        "import sys, niwaki_runtime; from importlib.util import find_spec; spec = find_spec('niwaki'); "
        "assert spec is None or spec.origin is None; assert 'torch' not in sys.modules; "
        "print(niwaki_runtime.__file__)"
    )
    assert Path(python(code, tmp_path / "alone", cwd=tmp_path)).is_relative_to(tmp_path / "alone")
