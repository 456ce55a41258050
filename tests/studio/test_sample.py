"""The page of samples: what it can ask, the samples themselves, and what is refused in one sentence."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving.bundles import denoised, pictures, sounds, texts

import niwaki_runtime
from niwaki.studio.forms import field_of, settings_of
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.specs import ConditionSpec, Real, ValueSpec


def pixels(sample: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sample["data"].partition(",")[2]))))


def test_samples_are_those_of_their_seed_number_and_class(opened: Callable[..., Any], tmp_path: Path) -> None:
    place = pictures(tmp_path / "a.niwaki")
    server = opened(place)
    assert server.client.get("/sample/models").json()["models"][0]["name"] == "a"
    bundle = niwaki_runtime.load(place)
    wanted = {"model": "a", "seed": 7, "start": 3, "n": 4}
    found = server.post("/sample/make", **wanted).json()
    assert [one["number"] for one in found["samples"]] == [3, 4, 5, 6]
    assert [one["asked"] for one in found["samples"]] == ["ant", "bee", "cat", "ant"]
    x = bundle.sample(4, seed=7, start=3)
    for one, sample in zip(x, found["samples"], strict=True):
        assert np.array_equal(pixels(sample), bundle.spec.to_uint8(one)[0])
    again = server.post("/sample/make", **wanted).json()
    assert again["samples"] == found["samples"]
    bees = server.post("/sample/make", **wanted, asked={"class": 1}).json()["samples"]
    assert {one["asked"] for one in bees} == {"bee"}
    alone = server.post("/sample/make", model="a", seed=7, start=5, asked={"class": 1}).json()["samples"]
    assert alone[0] == bees[2]


def test_a_form_is_described_by_the_specs_of_what_can_be_asked(tmp_path: Path) -> None:
    runner = niwaki_runtime.load(texts(tmp_path / "t.niwaki"))
    label = field_of("class", ConditionSpec.label(3, ("ant", "bee", "cat"), null=3), runner)
    assert label == {"name": "class", "null": True, "kind": "class", "names": ["ant", "bee", "cat"]}
    prompt = runner.program("continue").inputs["prompt"]
    assert field_of("prompt", prompt, runner)["kind"] == "text"
    size = ConditionSpec(ValueSpec("vector", (2,), "C", Real(1.0, 9.0), names=("width", "height")))
    assert field_of("size", size, runner) == {
        "name": "size", "null": False, "kind": "numbers", "names": ["width", "height"], "usual": 1.0,
        "low": 1.0, "high": 9.0,
    }  # fmt: skip
    assert field_of("like", ConditionSpec(ValueSpec("image", (1, 8, 8))), runner)["kind"] == "example"
    told = {one["name"]: one["usual"] for one in settings_of(runner.program(SAMPLING))}
    assert told["temperature"] == 1.0


def test_settings_of_the_sampler_are_offered_and_obeyed(opened: Callable[..., Any], tmp_path: Path) -> None:
    place = denoised(tmp_path / "d.niwaki", steps=12)
    server = opened(place)
    described = server.post("/sample/model", model="d").json()
    assert {"name": "steps", "title": "Steps", "usual": 12, "whole": True} in described["settings"]
    few = server.post("/sample/make", model="d", settings={"steps": 2}).json()["samples"][0]
    bundle = niwaki_runtime.load(place)
    said = "  ".join(f"{v:.4g}" for v in bundle.sample(1, steps=2)[0])
    assert few == {"number": 0, "asked": "", "kind": "text", "data": said, "also": ""}
    assert server.post("/sample/make", model="d").json()["samples"][0]["data"] != said


@pytest.mark.parametrize(("make", "kind"), [(sounds, "sound"), (texts, "text")])
def test_any_modality_is_shown_as_it_is(
    opened: Callable[..., Any], tmp_path: Path, make: Callable[[Path], Path], kind: str
) -> None:
    server = opened(make(tmp_path / "m.niwaki"))
    (sample,) = server.post("/sample/make", model="m").json()["samples"]
    assert sample["kind"] == kind
    assert (sample["also"] != "") == (kind == "sound")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"model": "b"}, "there is no model 'b' here; there are a"),
        ({"n": 0}, "1 … 64 samples are made at once, not 0"),
        ({"n": 65}, "1 … 64 samples are made at once, not 65"),
        ({"asked": {"size": 3}}, "this model has no condition 'size'"),
        ({"asked": {"class": 9}}, "condition 'class' has the value 9, outside 0 … 2"),
        ({"asked": {"class": None}}, "'class' must be asked for something"),
        ({"settings": {"steps": 3}}, "has no option 'steps'"),
        ({"settings": {"graph": "x"}}, "a request cannot set 'graph'"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(
    opened: Callable[..., Any], tmp_path: Path, body: dict[str, Any], words: str
) -> None:
    server = opened(pictures(tmp_path / "a.niwaki"))
    refused = server.post("/sample/make", **{"model": "a", **body})
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]


def test_the_page_loads_nothing_from_elsewhere_and_runs_its_own_script_alone(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    answer = opened(pictures(tmp_path / "a.niwaki")).client.get("/sample")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.count("sha256-") == answer.text.count("<script>") == 1
    assert not any(word in answer.text for word in ("http:", "https:", "@import", "innerHTML", " onclick"))
