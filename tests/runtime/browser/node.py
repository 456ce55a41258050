"""The modules of `browser/`, called from tests through node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = Path(__file__).parents[3] / "browser"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node here")


def library() -> Path | None:
    """The folder of onnxruntime-web: what `NIWAKI_ONNXRUNTIME_WEB` names, or in browser/node_modules."""
    folder = Path(os.environ.get("NIWAKI_ONNXRUNTIME_WEB") or BROWSER / "node_modules" / "onnxruntime-web")
    return folder if (folder / "dist").is_dir() else None


needs_library = pytest.mark.skipif(
    NODE is None or library() is None,
    reason="there is no onnxruntime-web here: npm ci in browser/, or NIWAKI_ONNXRUNTIME_WEB",
)


def run(code: str, *arguments: Any) -> Any:
    """What the module `code` calls `answer` with, through JSON. `arguments` lie in `given`; modules of the
    runtime are imported by `from(file)`."""
    assert NODE is not None
    prelude = (
        f"const from = (file) => import({json.dumps(BROWSER.joinpath('src').as_uri())} + '/' + file);\n"
        "import { readFileSync, writeFileSync } from 'node:fs';\n"
        "const given = JSON.parse(readFileSync(0, 'utf-8'));\n"
        "const answer = (value) => writeFileSync(1, JSON.stringify(value));\n"
    )
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", prelude + code],
        input=json.dumps(arguments), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(code: str, *arguments: Any) -> tuple[str, str]:
    """Kind and text of the error that the module `code` ends with."""
    wrapped = f"try {{ {code}; answer(null) }} catch (error) {{ answer([error.name, error.message]) }}"
    name, message = run(wrapped, *arguments)
    return name, message
