"""The documentation that every CPython carries: the texts of `help()`, and the docstrings of its library."""

from __future__ import annotations

import ast
import platform
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

__all__ = ["documents", "modules", "parsed", "version"]

_LEFT_OUT = ("test", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "ensurepip", "site-packages", "this")


def version() -> str:
    """What the texts depend on."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def documents(docstrings: bool = True) -> Iterator[str]:
    """One text per topic of `help()`, then one per module: its docstrings, each under the name it belongs to.

    Nothing is imported: docstrings are read from the sources.
    """
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]
    for path, module in modules() if docstrings else ():
        yield _docstrings(path, module)


def modules() -> Iterator[tuple[Path, str]]:
    """Source and name of every public module of the standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        public = not any(p in _LEFT_OUT or (p.startswith("_") and p != "__init__") for p in parts)
        if public and parts[0] in sys.stdlib_module_names and "test" not in parts[-1]:
            yield path, ".".join(p for p in parts if p != "__init__")


def parsed(path: Path) -> ast.Module | None:
    """The tree of a source; None where it has none: some files are there to be wrong."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, OSError):
        return None


def _docstrings(path: Path, module: str) -> str:
    tree = parsed(path)
    if tree is None:
        return ""
    found = []

    def walk(node: ast.AST, name: str) -> None:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                found.append(f"{name}\n{text}")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                walk(child, f"{name}.{child.name}")

    walk(tree, module)
    return "\n\n".join(found)
