"""Scripts that no other test imports: everything that they name is there, and each says what it is for."""

from __future__ import annotations

import ast
import importlib
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("benchmarks", "docs") for path in (ROOT / folder).rglob("*.py"))
SCRIPTS = [p for p in FILES if p.parent.name in ("benchmarks", "docs") and "__main__" in p.read_text()]
PACKAGES = ("niwaki", "niwaki_runtime", "compression_rows", "faulting", "fuzzing", "peers", "sanity_checks")


def names(tree: ast.AST) -> list[tuple[int, str, str | None]]:
    """Line, module and name of every import from our own packages, also of those inside functions."""
    found: list[tuple[int, str, str | None]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.lineno, node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, None) for alias in node.names]
    return [f for f in found if f[1].partition(".")[0] in PACKAGES]


def resolves(module: str, name: str | None) -> bool:
    """Whether `from module import name`, or `import module`, would work."""
    try:
        found = importlib.import_module(module)
        if name is not None and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except ImportError:
        return False
    return True


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_a_name_that_is_gone_is_found() -> None:
    tree = ast.parse("def f():\n    from niwaki.data import load, lost\n\nimport niwaki.nowhere, os\n")
    assert [(line, name) for line, module, name in names(tree) if not resolves(module, name)] == [
        (4, None),
        (2, "lost"),
    ]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_everything_that_a_script_imports_from_us_is_there(path: Path) -> None:
    missing = [
        f"line {line}: {module}" + (f".{name}" if name else "")
        for line, module, name in names(ast.parse(path.read_text()))
        if not resolves(module, name)
    ]
    assert missing == []


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_every_script_says_what_it_is_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a peer that it compares with is not installed."""
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code in (0, None)
    title = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
    assert " ".join(title.split()[:6]) in " ".join(capsys.readouterr().out.split())
