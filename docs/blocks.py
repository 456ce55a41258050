"""The code of a page, and how it is carried out: block by block, in one folder, as a reader would.

python docs/blocks.py docs/tutorials/01-first-model.md --into /tmp/first

`sh` is run by bash, which stops at the first error. `python` is run in one session for all of the page, but a
block whose first line is `# NAME.py` is a file: it is written into the folder. Blocks of other languages are
only shown. Port 8000 stands for a free one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
FILE = re.compile(r"# ([\w-]+\.py)\n")
PORT = "8000"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, and its code."""

    language: str
    code: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if it is one."""
        head = FILE.match(self.code) if self.language == "python" else None
        return head[1] if head else None

    @property
    def runs(self) -> bool:
        return self.language in ("sh", "python")


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in their order."""
    return [Block(*found) for found in FENCE.findall(page)]


def environment(folder: Path) -> dict[str, str]:
    """Of what runs in `folder`: its modules are found, `niwaki` and `python` are this interpreter's."""
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    commands = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PATH": os.pathsep.join(commands)}


def carry_out(page: str, changes: Mapping[str, str] | None = None) -> None:
    """Run the blocks of a page in the working directory, and say before each what it is.

    changes: texts of the code, and what stands in their place
    Raises what the code raises, CalledProcessError where a command fails.
    """
    session: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks(page), 1):
        code = block.code
        for text, other in (changes or {}).items():
            code = code.replace(text, other)
        if not block.runs:
            continue
        print(f"── block {number}: {block.file or block.language}", code, sep="\n", flush=True)
        started = time.monotonic()
        if block.file:
            Path(block.file).write_text(code, encoding="utf-8")
            importlib.invalidate_caches()
        elif block.language == "sh":
            subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
        else:
            exec(compile(code, f"<block {number}>", "exec"), session)
        print(f"── {time.monotonic() - started:.0f} s", flush=True)


def run(page: Path, folder: Path, timeout: float = 3000) -> subprocess.CompletedProcess[str]:
    """Carry a page out in a process of its own, in `folder`; what it printed is in `stdout`."""
    called = [sys.executable, str(Path(__file__).resolve()), str(page.resolve()), "--into", str(folder)]
    return subprocess.run(
        called, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="a page of docs/")
    parser.add_argument("--into", type=Path, help="where it runs (a new folder that is deleted afterwards)")
    options = parser.parse_args(arguments)
    page = options.page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as new:
        folder = (options.into or Path(new)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.update(environment(folder))
        sys.path.insert(0, str(folder))
        os.chdir(folder)
        try:
            carry_out(page, {PORT: str(free_port())})
        finally:
            os.chdir("/")


if __name__ == "__main__":
    main()
