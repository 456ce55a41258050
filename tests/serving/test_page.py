"""Every `curl` of docs/serve.md is run, against models of the kinds that the page names."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving.bundles import pictures, texts

from niwaki_runtime.specs import ConditionSpec

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
CALLS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture(scope="module")
def server(serving: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("page")
    digits = pictures(folder / "digits.niwaki", label=ConditionSpec.label(10))
    return serving([digits, f"text={texts(folder / 'text.niwaki')}"], batch=2)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("call", CALLS)
def test_a_call_of_the_page_is_answered(server: Any, call: str) -> None:
    words = shlex.split(re.sub(r"http://127\.0\.0\.1:\d+", server.server.address, call))
    assert words[0] == "curl"
    done = subprocess.run([*words, "-sS", "--fail-with-body"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    if "stream" in call:
        assert done.stdout.endswith("data: [DONE]\n\n")
    elif "/metrics" in call:
        assert "niwaki_requests_total" in done.stdout
    else:
        assert json.loads(done.stdout)


def test_the_page_shows_the_calls_that_people_type_first() -> None:
    for path in ("/v1/images/generations", "/v1/completions", "/v1/chat/completions", "/v1/uses/"):
        assert any(path in call for call in CALLS), path
