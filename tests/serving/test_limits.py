"""What a server refuses: too much, too large, without a key, and what would open a file."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving.bundles import pictures, texts
from typer.testing import CliRunner

from niwaki.cli.main import app
from niwaki.serving.keys import read_keys
from niwaki.serving.settings import BundlePlace, Limits, ServeSettings
from niwaki.serving.uploads import store
from niwaki_runtime.errors import CallError

KEY = "0123456789abcdef"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(serving: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = texts(tmp_path_factory.mktemp("limits") / "letters.niwaki")
    return serving([place], keys=[KEY, KEY[::-1]], limits={"body": 2000, "evaluations": 40}, batch=2)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": KEY}, 401),
        ({"Authorization": f"Bearer {KEY[:-1]}"}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer {KEY[::-1]}"}, 200),
    ],
)
def test_who_calls_brings_a_key(server: Any, headers: dict[str, str], status: int) -> None:
    answered = server.client.get("/v1/models", headers=headers)
    assert answered.status_code == status
    if status == 401:
        assert answered.json()["error"]["code"] == "invalid_api_key"
        assert server.client.get("/metrics", headers=headers).status_code == 401
    assert server.client.get("/health", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "invalid_json"),
        (b"[1]", JSON, 400, "invalid_json"),
        (b'{"n": NaN}', JSON, 400, "invalid_json"),
        (b'{"n": 1e400}', JSON, 400, "invalid_json"),
        (b"[" * 1900, JSON, 400, "invalid_json"),
        (b"\xff\xfe", JSON, 400, "invalid_json"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "no_json"),
        (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "no_json"),
        (b"{}" + b" " * 3000, JSON, 413, "too_large"),
        (gzip.compress(b"{}", mtime=0), {**JSON, "Content-Encoding": "gzip"}, 415, "compressed"),
    ],
)
def test_bodies_that_are_refused(
    server: Any, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answered = server.client.post(
        "/v1/completions", content=content, headers={**headers, "Authorization": f"Bearer {KEY}"}
    )
    assert (answered.status_code, answered.json()["error"]["code"]) == (status, code)


def test_work_beyond_the_limits_is_refused(server: Any) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}

    def said(**body: Any) -> str:
        answered = server.client.post("/v1/completions", json=body, headers=headers)
        assert answered.status_code == 400, answered.text
        return str(answered.json()["error"]["message"])

    assert "'beams' must be 1 … 4" in said(prompt="a", options={"beams": 100})
    assert "longer than 2000 characters" not in said(prompt="a", response_format={"type": "regex"})
    assert "max_tokens must be at least 1" in said(prompt="a", max_tokens=0)
    # the model's usual work is always allowed, though it is more than the limit says
    assert server.client.post("/v1/completions", json={"prompt": "a"}, headers=headers).status_code == 200


def test_no_word_and_no_setting_opens_a_file(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.json").write_text(json.dumps([{"role": "user", "content": "a secret"}]))
    headers = {"Authorization": f"Bearer {KEY}"}
    given: dict[str, Any] = {"words": ["s.json"], "seed": 0, "settings": {"temperature": 0}}
    answered = server.client.post("/v1/uses/chat", json=given, headers=headers).json()
    assert answered["record"]["messages"][0] == {"role": "user", "content": "s.json"}
    given["settings"]["system"] = "s.json"
    refused = server.client.post("/v1/uses/chat", json=given, headers=headers)
    assert refused.status_code == 400
    assert "'system' is a file" in refused.json()["error"]["message"]


def _file(name: str, data: bytes) -> dict[str, str]:
    return {"name": name, "data": base64.b64encode(data).decode()}


def _png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_files_get_names_of_our_own(tmp_path: Path) -> None:
    (place,) = store([_file("../../etc/passwd.png", _png(4, 4))], tmp_path, Limits())
    assert place == tmp_path / "files-0.png"
    (array,) = store({"array": [[1, 2], [3, 4]]}, tmp_path, Limits())
    np.testing.assert_array_equal(np.load(array), [[1, 2], [3, 4]])


def _promising(shape: str) -> bytes:
    """An array whose head promises more values than follow."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + b"\0" * 8


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (_file("a.npz", b"PK"), "must be one of"),
        (_file("a.png", b"no picture"), "no picture that can be read"),
        (_file("a.png", _png(3000, 3000)), "3000×3000 pixels; at most 1,000,000"),
        ({"name": "a.png", "data": "%%%"}, "no base64"),
        ({"array": [[1], [1, 2]]}, "lists of equal lengths"),
        (_file("a.npy", _promising("(99999999999,)")), "does not hold the array"),
        (_file("a.npy", b"\x93NUMPY\x01\x00"), "no array that numpy can read"),
        ("a.png", "must be a table"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, file: Any, said: str) -> None:
    with pytest.raises(CallError, match=said):
        store([file], tmp_path, Limits(pixels=1_000_000))


def test_keys_come_from_a_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEY}\n\n{KEY}\n")
    monkeypatch.setenv("NIWAKI_API_KEYS", f"{KEY[::-1]},")
    assert read_keys(file) == (KEY[::-1], KEY)
    file.write_text("short\n")
    with pytest.raises(CallError, match="at least 16 characters"):
        read_keys(file)
    file.write_text("# none\n")
    with pytest.raises(CallError, match="holds no key"):
        read_keys(file)


def test_other_machines_are_let_in_with_keys_only() -> None:
    with pytest.raises(CallError, match=r"0\.0\.0\.0 is open to other machines"):
        ServeSettings(host="0.0.0.0")
    for settings in ({"keys": (KEY,)}, {"unlocked": True}):
        assert ServeSettings(host="0.0.0.0", **settings).host == "0.0.0.0"  # type: ignore[arg-type]
    assert "0123" not in repr(ServeSettings(keys=(KEY,)))


def test_bundles_are_named() -> None:
    assert BundlePlace.read("runs/a.niwaki") == BundlePlace("a", Path("runs/a.niwaki"))
    assert BundlePlace.read("b=x=1.niwaki,engine=onnxruntime") == BundlePlace(
        "b", Path("x=1.niwaki"), "onnxruntime"
    )
    for wrong in ("", "=a.niwaki", "a="):
        with pytest.raises(CallError, match="a bundle is named"):
            BundlePlace.read(wrong)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nowhere.niwaki"], 1, "nowhere.niwaki does not exist"),
        (["A", "x=A"], 0, ""),
        (["x=A", "x=A"], 2, "two bundles are called 'x'"),
        (["A", "--host", "0.0.0.0"], 2, "is open to other machines"),
        (["A", "--engine", "onyx"], 2, "no engine 'onyx'"),
        (["A", "--port", "99999"], 2, "a port is 0 … 65535"),
    ],
)
def test_calls_that_are_wrong_end_before_anything_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, said: str
) -> None:
    from niwaki.cli.main import status as run
    from niwaki.serving.server import Server

    place = pictures(tmp_path / "a.niwaki")
    monkeypatch.setattr(Server, "run", lambda self, told: self._listener.close())
    texts_told: list[str] = []
    monkeypatch.setattr("sys.stderr.write", texts_told.append, raising=False)
    named = [word.replace("A", str(place)) if not word.startswith("-") else word for word in words]
    assert run(["serve", *named, *([] if "--port" in words else ["--port", "0"])]) == status
    assert said in "".join(texts_told)


def test_the_verb_explains_itself() -> None:
    shown = CliRunner().invoke(app, ["serve", "--help"])
    assert shown.exit_code == 0
    assert "niwaki serve runs/digits-gan/digits-gan.niwaki" in shown.output
