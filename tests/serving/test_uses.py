"""The uses as routes: what comes of them is what `niwaki use` makes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving.bundles import autoencoder, pictures

import niwaki


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("used")


@pytest.fixture(scope="module")
def server(serving: Callable[..., Any], folder: Path) -> Any:
    return serving([pictures(folder / "insects.niwaki"), autoencoder(folder / "codes.niwaki")], batch=4)


def test_all_uses_are_listed_with_their_settings(server: Any) -> None:
    found = server.client.get("/v1/uses").json()["data"]
    assert {"interpolate", "inpaint", "anomalies", "encode"} <= set(found)
    assert "steps" in [one["name"] for one in found["interpolate"]["settings"]]


@pytest.mark.parametrize("form", ["json", "file"])
def test_a_use_makes_what_the_call_makes(server: Any, folder: Path, form: str) -> None:
    given = {"seed": 4, "settings": {"steps": 3}, "condition": "cat", "form": form}
    found = server.post("/v1/uses/interpolate", **given).json()
    made = niwaki.use("interpolate", folder / "insects.niwaki", condition="cat", seed=4, steps=3)
    assert made.x is not None
    assert made.spec is not None
    assert found["record"] == made.record
    if form == "json":
        np.testing.assert_array_equal(np.asarray(found["samples"], np.float32), made.x)
    else:
        first = Image.open(io.BytesIO(base64.b64decode(found["samples"][0]["data"])))
        np.testing.assert_array_equal(np.asarray(first), made.spec.to_uint8(made.x[0])[0])


def test_files_are_sent_with_the_request(server: Any, folder: Path) -> None:
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)
    np.save(folder / "x.npy", x)
    made = niwaki.use("anomalies", folder / "codes.niwaki", [folder / "x.npy"])
    file = base64.b64encode((folder / "x.npy").read_bytes()).decode()
    for given in ({"name": "x.npy", "data": file}, {"array": x.tolist()}):
        found = server.post("/v1/uses/anomalies", model="codes", files=[given]).json()
        assert [row["score"] for row in found["rows"]] == [row["score"] for row in made.rows]


@pytest.mark.parametrize(
    ("use", "body", "said"),
    [
        ("interpolat", {}, "did you mean 'interpolate'?"),
        ("interpolate", {"settings": {"step": 3}}, "steps"),
        ("interpolate", {"settings": {"steps": 1}}, "at least 2"),
        ("inpaint", {}, "needs the program 'inpaint'"),
        ("anomalies", {"settings": {"against": "/etc"}}, "'against' is a file"),
        ("anomalies", {"model": "codes", "files": [{"array": [1]}]}, "the model wants"),
        ("chat", {"words": 3}, "'words' must be a text"),
    ],
)
def test_what_a_use_cannot_do_is_said(server: Any, folder: Path, use: str, body: Any, said: str) -> None:
    answered = server.post(f"/v1/uses/{use}", **body)
    assert answered.status_code == 400
    message = answered.json()["error"]["message"]
    assert said in message
    assert str(folder) not in message
    assert "/tmp" not in message
