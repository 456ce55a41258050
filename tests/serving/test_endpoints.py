"""What clients type: OpenAI's routes, any program, and errors in OpenAI's form."""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from serving.bundles import LENGTH, pictures, sounds, texts

import niwaki_runtime
from niwaki.core.store import hash_directory
from niwaki.modalities.provenance import SOURCE_TYPE
from niwaki_runtime.chat import answer

QUESTION = [{"role": "user", "content": "hm?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(serving: Callable[..., Any], folder: Path) -> Any:
    """Four models at once; the first is the usual one."""
    insects = pictures(folder / "insects.niwaki")
    return serving(
        [
            insects,
            f"other={insects},engine=onnxruntime",
            f"calls={sounds(folder / 'c.niwaki')}",
            f"letters={texts(folder / 't.niwaki')}",
        ],
        batch=4,
    )


def _events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_pictures_as_openai_asks_for_them(server: Any, folder: Path) -> None:
    given = {"prompt": "bee", "n": 2, "size": "6x6", "seed": 5, "response_format": "b64_json"}
    found = server.post("/v1/images/generations", **given).json()
    bundle = niwaki_runtime.load(folder / "insects.niwaki")
    wanted = bundle.spec.to_uint8(bundle.sample(2, seed=5, condition="bee"))
    for entry, one in zip(found["data"], wanted, strict=True):
        np.testing.assert_array_equal(_picture(entry["b64_json"]), one[0])
    assert found["seed"] == 5
    again = server.post("/v1/images/generations", prompt="1", n=2, rng_seed=5).json()
    assert [e["b64_json"] for e in again["data"]] == [e["b64_json"] for e in found["data"]]
    others = server.post("/v1/images/generations", prompt="1", n=2, rng_seed=5, model="other").json()
    for entry, one in zip(others["data"], wanted, strict=True):
        np.testing.assert_array_equal(_picture(entry["b64_json"]), one[0])


def _picture(data: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_served_files_say_where_they_come_from(server: Any, folder: Path) -> None:
    digest = hash_directory(folder / "insects.niwaki")
    asked = server.post("/v1/images/generations", n=2, seed=5, start=3).json()["data"][1]["b64_json"]
    ran = server.post("/v1/run/sample", n=1, seed=5, start=4, form="file").json()["data"][0]["data"]
    for data in (asked, ran):
        said = json.loads(Image.open(io.BytesIO(base64.b64decode(data))).text["Comment"])  # type: ignore[attr-defined]
        assert (said["model"], said["model_sha256"], said["seed"], said["index"]) == ("insects", digest, 5, 4)
        assert said["digital_source_type"] == SOURCE_TYPE
    speech = server.post("/v1/audio/speech", model="calls", input="cat", seed=2).content
    with soundfile.SoundFile(io.BytesIO(speech)) as sound:
        assert json.loads(sound.comment)["model"] == "calls"


def test_without_a_seed_one_is_drawn_and_named(server: Any) -> None:
    first, second = (server.post("/v1/images/generations").json() for _ in range(2))
    assert first["seed"] != second["seed"]
    again = server.post("/v1/images/generations", seed=first["seed"]).json()
    assert again["data"] == first["data"]


def test_speech_is_a_recording(server: Any, folder: Path) -> None:
    answered = server.post("/v1/audio/speech", model="calls", input="cat", voice="any", seed=2)
    assert answered.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(answered.content)) as sound:
        values = np.frombuffer(sound.readframes(64), "<i2")
    wanted = niwaki_runtime.load(folder / "c.niwaki").sample(1, seed=2, condition="cat")[0]
    np.testing.assert_array_equal(values, (wanted * 32767).round().astype(np.int16))


def test_completions_go_on_from_a_prompt(server: Any) -> None:
    given = {"model": "letters", "prompt": "ab", "seed": 1, "max_tokens": 8, "temperature": 0.7}
    found = server.post("/v1/completions", **given).json()
    (choice,) = found["choices"]
    bundle = server.server.service.models.find("letters").bundle
    row = np.full(LENGTH - 1, -1)
    row[:2] = list(b"ab")
    made = bundle.run("continue", 1, seed=1, inputs={"prompt": row}, temperature=0.7)[0]
    assert choice["text"].encode(errors="replace")[:4] == bytes(made[2:10].tolist())[:4]
    assert found["usage"]["prompt_tokens"] == 2
    assert found["usage"]["completion_tokens"] <= 8
    stopped = server.post(
        "/v1/completions", **{**given, "max_tokens": 40, "stop": [choice["text"][2]]}
    ).json()
    assert stopped["choices"][0]["text"] == choice["text"].partition(choice["text"][2])[0]
    assert stopped["choices"][0]["finish_reason"] == "stop"


def test_several_prompts_and_several_answers(server: Any) -> None:
    prompts = ["a", "bcd", ""]
    found = server.post("/v1/completions", model="letters", prompt=prompts, n=2, seed=4).json()["choices"]
    assert [one["index"] for one in found] == list(range(6))
    alone = server.post("/v1/completions", model="letters", prompt="bcd", n=2, seed=4).json()["choices"]
    assert [one["text"] for one in found[2:4]] == [one["text"] for one in alone]


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_says_what_the_answer_at_once_says(server: Any, n: int) -> None:
    given = {"model": "letters", "prompt": "hello", "seed": 9, "n": n}
    whole = server.post("/v1/completions", **given).json()["choices"]
    events = _events(server.post("/v1/completions", **given, stream=True).text)
    said = [""] * n
    for event in events:
        for choice in event["choices"]:
            said[choice["index"]] += choice["text"]
    assert said == [one["text"] for one in whole]
    ends = {c["index"]: c["finish_reason"] for e in events for c in e["choices"] if c["finish_reason"]}
    assert ends == {one["index"]: one["finish_reason"] for one in whole}
    assert len(events) > 2 * n, "nothing came piece by piece"


def test_chats_answer_at_once_and_as_a_stream(server: Any) -> None:
    given = {"model": "letters", "messages": QUESTION, "seed": 3, "temperature": 0.9}
    found = server.post("/v1/chat/completions", **given).json()
    bundle = server.server.service.models.find("letters").bundle
    wanted = answer(bundle, QUESTION, seed=3, temperature=0.9)
    assert found["choices"][0]["message"] == {"role": "assistant", "content": wanted}
    events = _events(server.post("/v1/chat/completions", **given, stream=True).text)
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events) == wanted
    parts = [{"role": "user", "content": [{"type": "text", "text": "hm?"}]}]
    again = server.post("/v1/chat/completions", **{**given, "messages": parts}).json()
    assert again["choices"] == found["choices"]


def test_a_text_that_has_to_fit_an_expression(server: Any) -> None:
    form = {"type": "regex", "regex": "(yes|no), [0-9]{2}"}
    given = {"model": "letters", "prompt": "?", "seed": 0, "response_format": form}
    text = server.post("/v1/completions", **given).json()["choices"][0]["text"]
    assert text[:4] in ("yes,", "no, ")
    assert text[-2:].isdigit()


def test_models_say_what_they_can_do(server: Any) -> None:
    found = server.client.get("/v1/models").json()["data"]
    assert [one["id"] for one in found] == ["insects", "other", "calls", "letters"]
    assert {one["engine"] for one in found} == {"openvino", "onnxruntime"}
    assert found[3]["programs"]["continue"]["batch_sizes"][0] == 1
    assert "niwaki" not in json.dumps(found).replace('"owned_by": "niwaki"', ""), "a path was told"
    assert server.client.get("/v1/models/calls").json()["id"] == "calls"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/images/generations", {"prompt": "dog"}, 400, "no class 'dog'; valid names: ant, bee, cat"),
        ("/v1/images/generations", {"size": "1024x1024"}, 400, "makes pictures of 6x6"),
        ("/v1/images/generations", {"model": "nobody"}, 404, "no model 'nobody'"),
        ("/v1/images/generations", {"model": "letters"}, 400, "makes text, no pictures"),
        ("/v1/images/generations", {"n": 100}, 400, "n must be 1 … 64"),
        ("/v1/images/generations", {"n": "1"}, 400, "'n' must be a number"),
        ("/v1/images/generations", {"options": {"latent": [9, 9]}}, 400, "cannot set 'latent'"),
        ("/v1/images/generations", {"num_inference_steps": 5}, 400, "no option 'steps'"),
        ("/v1/run/encode", {}, 400, "no program 'encode'"),
        ("/v1/run/sample", {"inputs": {"clas": 1}}, 400, "no condition 'clas'"),
        ("/v1/run/sample", {"inputs": {"class": [[1], [1, 2]]}}, 400, "lists of equal lengths"),
        ("/v1/run/sample", {"inputs": {"class": "ant" * 400}}, 400, "no class"),
        ("/v1/run/sample", {"seed": 1 << 70}, 400, "seed must fit into 64 bits"),
        ("/v1/run/sample", {"start": -1}, 400, "must not be negative"),
        ("/v1/run/sample", {"options": {"length": 5}}, 400, "no option 'length'"),
        ("/v1/run/sample", {"options": [1]}, 400, "must be a table"),
        ("/v1/completions", {"model": "letters", "prompt": "x" * 70_000}, 400, "at most 65,536 characters"),
        (
            "/v1/completions",
            {"model": "letters", "temperature": "hot"},
            400,
            "'temperature' must be a number",
        ),
        ("/v1/completions", {"model": "calls"}, 400, "makes audio, no texts"),
        ("/v1/completions", {"model": "letters", "prompt": "x" * 99}, 400, "reads at most 47"),
        ("/v1/completions", {"model": "letters", "logprobs": 2}, 400, "'logprobs' is not offered"),
        (
            "/v1/completions",
            {"model": "letters", "options": {"length": 4096}},
            400,
            "'length' must be 1 … 48",
        ),
        ("/v1/chat/completions", {"model": "letters", "messages": []}, 400, "a question is needed"),
        ("/v1/audio/speech", {"input": "ant"}, 400, "makes image, no sounds"),
        ("/v1/nowhere", {}, 404, "not found"),
        ("/health", {}, 405, "method not allowed"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    server: Any, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    answered = server.post(path, **body)
    error = answered.json()["error"]
    assert (answered.status_code, set(error)) == (status, {"message", "type", "param", "code"})
    assert said in error["message"]
