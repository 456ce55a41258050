"""The pages of further programs: ways through the noise, inpainting, texts, forecasts."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving.bundles import pictures, texts
from studio.bundles import PAST, SIDE, forecaster, painter

import niwaki_runtime
from niwaki_runtime.chat import answer


def png(x: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(x.astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def pixels(sample: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sample["data"].partition(",")[2]))))


def events(answer: Any) -> list[Any]:
    lines = [line[6:] for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_way_begins_and_ends_with_the_samples_that_were_named(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    place = pictures(tmp_path / "a.niwaki")
    server = opened(place)
    body = {"model": "a", "seed": 3, "between": [2, 5], "steps": 5, "asked": {"class": 1}}
    way = server.post("/walk/way", **body).json()
    assert way["asked"] == "bee"
    bundle = niwaki_runtime.load(place)
    for number, sample in ((2, way["samples"][0]), (5, way["samples"][-1])):
        x = bundle.sample(1, seed=3, start=number, condition=1)
        assert np.abs(pixels(sample).astype(int) - bundle.spec.to_uint8(x)[0, 0].astype(int)).max() <= 1
    assert len(way["samples"]) == len({one["data"] for one in way["samples"]}) == 5
    for wrong in ({"between": [1, 1]}, {"between": [1]}, {"steps": 1}, {"steps": 99}):
        assert server.post("/walk/way", **{**body, **wrong}).status_code == 400


def test_there_is_no_way_between_texts(opened: Callable[..., Any], tmp_path: Path) -> None:
    server = opened(texts(tmp_path / "t.niwaki"))
    assert "there is no way between two of them" in server.client.get("/walk").text
    assert ">Walk</a>" not in server.client.get("/sample").text
    assert ">Texts</a>" in server.client.get("/sample").text


def test_what_is_not_painted_stays_as_it_is(opened: Callable[..., Any], tmp_path: Path) -> None:
    server = opened(painter(tmp_path / "p.niwaki"))
    described = server.post("/inpaint/model", model="p").json()
    assert described["fields"] == []
    assert [one["name"] for one in described["settings"]] == ["steps"]
    given = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * 15
    hole = np.zeros((SIDE, SIDE))
    hole[:2] = 255
    body = {"model": "p", "picture": png(given), "mask": png(hole), "n": 3, "seed": 1, "repeats": 2}
    made = [pixels(one) for one in server.post("/inpaint/make", **body).json()["samples"]]
    for one in made:
        assert np.array_equal(one[2:], given[2:])
    assert not np.array_equal(made[0][:2], made[1][:2])
    nothing = server.post("/inpaint/make", **{**body, "mask": png(0 * hole)}).json()["error"]["message"]
    assert "white nowhere" in nothing
    assert "/" not in nothing, "no path of this machine"


def test_a_completion_comes_in_pieces_that_are_the_text_of_its_seed(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    place = texts(tmp_path / "t.niwaki")
    server, bundle = opened(place), niwaki_runtime.load(place)
    assert server.client.get("/chat/models").json()["models"][0]["chats"]
    body = {"model": "t", "prompt": "tree", "seed": 4, "settings": {"temperature": 0.5}}
    said = "".join(one["piece"] for one in events(server.post("/chat/complete", **body)))
    row = np.full(bundle.program("continue").inputs["prompt"].shape, -1, np.int64)
    row[:4] = list(b"tree")
    stream = bundle.stream("continue", seed=4, inputs={"prompt": row}, temperature=0.5, skip=4)
    assert said == "".join(stream) != ""
    few = server.post("/chat/complete", **body, most=3)
    assert len("".join(one["piece"] for one in events(few))) <= 3
    free = "".join(one["piece"] for one in events(server.post("/chat/complete", model="t", seed=4)))
    assert free == "".join(bundle.stream(seed=4))


def test_answers_are_those_of_the_chat(opened: Callable[..., Any], tmp_path: Path) -> None:
    place = texts(tmp_path / "t.niwaki")
    server = opened(place)
    messages = [{"role": "user", "content": "hi"}]
    said = "".join(
        one["piece"] for one in events(server.post("/chat/answer", model="t", messages=messages, seed=2))
    )
    assert said == answer(niwaki_runtime.load(place), messages, seed=2)
    long = [{"role": "user", "content": "x" * 400}]
    (problem,) = events(server.post("/chat/answer", model="t", messages=long))
    assert "the model reads at most" in problem["error"]["message"]
    assert server.post("/chat/answer", model="t", messages=[{"role": "me"}]).status_code == 400


def test_a_table_is_forecast_and_a_wrong_one_is_refused(opened: Callable[..., Any], tmp_path: Path) -> None:
    server = opened(forecaster(tmp_path / "f.niwaki"))
    described = server.post("/forecast/model", model="f").json()
    assert described == {"channels": ["level"], "past": PAST, "steps": 3, "examples": 0}
    table = "level\n" + "\n".join(["5.0"] * (PAST + 2))
    found = server.post("/forecast/table", model="f", csv=table, paths=50).json()
    assert [row["step"] for row in found["rows"]] == [1, 2, 3]
    assert all(row["q0.1"] < row["q0.5"] < row["q0.9"] for row in found["rows"])
    assert all(abs(row["q0.5"] - 5.0) < 3 for row in found["rows"])
    short = server.post("/forecast/table", model="f", csv="level\n1\n2").json()["error"]["message"]
    assert "too few steps" in short
    none = server.post("/forecast/example", model="f", example=0)
    assert "there is no example 0" in none.json()["error"]["message"]


@pytest.mark.parametrize("page", ["inpaint", "forecast", "chat", "coverage", "front", "runs", "rate"])
def test_a_page_with_nothing_to_show_says_so_in_a_sentence(
    opened: Callable[..., Any], tmp_path: Path, page: str
) -> None:
    text = opened(pictures(tmp_path / "a.niwaki")).client.get(f"/{page}").text
    sentence = text[text.index('<p class="empty">') + 17 :].partition("</p>")[0]
    assert sentence[0].isupper()
    assert sentence.endswith((".", "it."))
    assert f'href="{page}"' not in text
