"""The walk from nothing to a served, watched, watermarked model, as it stands on its page; the demo is
trained for a few steps only."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time

import pytest
from docs.doc_scripts import DOCS, ROOT, script

blocks = script("blocks")
PAGE = (DOCS / "walk.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("  #")[0].strip() for line in blocks.blocks(PAGE)[0].code.splitlines()]
DEMO = [
    "niwaki", "run", str(ROOT / "recipes" / "digits-gan.yaml"), "train.steps=60", "evaluate.n=200",
    "compress.steps=[{kind: quantize, backend: niwaki}]", "evaluate.features=[random]",
]  # fmt: skip


def words_of(command: str, port: int) -> list[str]:
    words = [word.replace(blocks.PORT, str(port)) for word in shlex.split(command, comments=True)]
    if words[:2] == ["make", "demo"]:
        words = DEMO
    return [sys.executable, "-m", "niwaki.cli", *words[1:]] if words[0] == "niwaki" else words


def test_the_page_has_eight_commands():
    assert len(COMMANDS) == 8
    assert COMMANDS[0] == "make demo"


@pytest.mark.slow
def test_the_page_runs(tmp_path, free_port):
    served = None
    try:
        for command in COMMANDS:
            words = words_of(command, free_port)
            if " serve " in command:
                served = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL)
                _answers(free_port)
                continue
            done = subprocess.run(
                words, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        pictures = json.loads((tmp_path / "threes.json").read_text())["data"]
        assert len(pictures) == 4
        assert (tmp_path / "runs" / "digits-gan" / "watch" / "outputs.json").is_file()
        assert oct((tmp_path / "my.key").stat().st_mode)[-3:] == "600"
    finally:
        if served is not None:
            served.send_signal(signal.SIGTERM)
            assert served.wait(60) == 0


def _answers(port: int) -> None:
    from urllib.error import URLError
    from urllib.request import urlopen

    for _ in range(300):
        try:
            with urlopen(f"http://127.0.0.1:{port}/ready", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("the server never answered")


@pytest.fixture
def free_port() -> int:
    return int(blocks.free_port())
