"""Which version of the user's own code a run was made with."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["code_version"]

_SECONDS = 5.0


@lru_cache(maxsize=8)
def code_version(folder: Path | None = None) -> dict[str, Any]:
    """`commit` of the git checkout around a folder (default: where the process works) and whether files under
    its care were `changed` since; empty where there is no checkout, no commit or no git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": bool(changed)}


def _git(folder: Path | None, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
