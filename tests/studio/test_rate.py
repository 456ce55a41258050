"""The page of blind pairs over HTTP: what is asked, what is written, and what a recipe makes of it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from serving.bundles import pictures, sounds, texts
from typer.testing import CliRunner

import niwaki_runtime
from niwaki import models
from niwaki.cli.main import app
from niwaki.core.contract import DataSpec
from niwaki.evaluation.preferences.ratings import read_ratings
from niwaki.recipe import load_recipe
from niwaki.training.preference.pair_files import read_pairs
from niwaki_runtime.errors import CallError


def two(tmp_path: Path) -> list[str]:
    return [f"a={pictures(tmp_path / 'a.niwaki')}", f"b={pictures(tmp_path / 'b.niwaki', '2')}"]


def rate(server: Any, rater: str, n: int, choose: Callable[[dict[str, Any]], str]) -> None:
    for k in range(n):
        asked = server.post("/rate/question", rater=rater, k=k).json()
        answered = server.post("/rate/answer", rater=rater, k=k, winner=choose(asked), ms=900)
        assert answered.json() == {"written": True, "k": k + 1}


def test_both_sides_are_the_samples_of_one_seed_and_condition_and_no_name_is_shown(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    server = opened(*two(tmp_path), out=tmp_path / "study", checks=0.0, seed=5)
    asked = server.post("/rate/question", rater="ann", k=0).json()
    assert set(asked) == {"k", "asked", "left", "right"}
    server.post("/rate/answer", rater="ann", k=0, winner="left", ms=5)
    (one,) = read_ratings(tmp_path / "study").answers
    assert {one.left, one.right} == {"a", "b"}
    assert asked["asked"] == one.words == ("ant", "bee", "cat")[one.condition["class"]]
    for side, name in (("left", one.left), ("right", one.right)):
        bundle = niwaki_runtime.load(tmp_path / f"{name}.niwaki")
        x = bundle.sample(1, seed=5, start=one.number, condition=one.condition["class"])[0]
        picture = Image.open(io.BytesIO(base64.b64decode(asked[side]["data"].partition(",")[2])))
        assert np.array_equal(np.asarray(picture), bundle.spec.to_uint8(x)[0])


def test_answers_can_be_undone_skipped_and_sent_again_and_go_on_another_day(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"out": tmp_path / "study", "checks": 0.0}
    server = opened(*two(tmp_path), **settings)
    for k, winner in enumerate(("left", "right", "skip", "tie")):
        server.post("/rate/answer", rater="ann", k=k, winner=winner, ms=5)
    server.post("/rate/answer", rater="ann", k=0, winner="right", ms=5)
    assert server.post("/rate/answer", rater="ann", k=3, winner="undo", ms=5).json()["k"] == 3
    ratings = read_ratings(tmp_path / "study")
    assert {one.k: one.winner for one in ratings.answers} == {0: "right", 1: "right"}
    assert ratings.skipped == 1
    server.close = lambda: None
    server.client.close()
    server.studio.stop()
    server._thread.join(60)
    again = opened(*two(tmp_path / "again"), **settings)
    assert again.post("/rate/begin", rater="ann").json()["k"] >= 3
    assert again.post("/rate/begin", rater="bob").json()["k"] == 0
    assert again.post("/rate/begin").json()["rater"].startswith("anonymous-")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("question", {"rater": "", "k": 0}),
        ("question", {"rater": "x\ny", "k": 0}),
        ("question", {"rater": "x", "k": -1}),
        ("question", {"rater": "x"}),
        ("answer", {"rater": "x", "k": 0, "winner": "both"}),
        ("begin", {"rater": 3}),
    ],
)
def test_what_is_no_question_and_no_answer_is_refused(
    opened: Callable[..., Any], tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    server = opened(*two(tmp_path), out=tmp_path / "study")
    assert server.post(f"/rate/{path}", **body).status_code == 400
    assert not (tmp_path / "study" / "answers.jsonl").exists()


def test_a_studio_for_other_machines_asks_for_its_invitation(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    server = opened(*two(tmp_path), out=tmp_path / "study", host="0.0.0.0")
    place, _, query = server.address.partition("?")
    place = place.replace("0.0.0.0", "127.0.0.1")
    assert server.client.get("/rate").status_code == 403
    assert server.client.get(f"{place}rate?invitation=wrong").status_code == 403
    assert server.client.get(f"{place}rate?{query}").status_code == 200
    assert server.client.get(f"{place}rate").status_code == 200  # by its cookie


def test_raters_see_the_pairs_and_nothing_that_tells_who_made_them(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    server = opened(*two(tmp_path), out=tmp_path / "study", host="0.0.0.0")
    address = server.studio.raters.replace("0.0.0.0", "127.0.0.1")
    place, _, query = address.partition("/rate?")
    page = server.client.get(address)
    assert page.status_code == 200
    assert "<a href" not in page.text.replace('<a class="skip" href', "")
    assert server.client.post(f"{place}/rate/begin", json={"rater": "ann"}).status_code == 200
    for path in ("/", "/sample", "/sample/models", "/rates"):
        assert server.client.get(f"{place}{path}").status_code == 403, path
        assert server.client.get(f"{place}{path}?{query}").status_code == 403, path


def test_models_that_make_different_things_are_not_compared_in_pairs(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    one, other = pictures(tmp_path / "p.niwaki"), sounds(tmp_path / "s.niwaki")
    server = opened(one, other, out=tmp_path / "study")
    assert "make different things" in server.client.get("/rate").text
    assert server.post("/rate/begin", rater="ann").json()["error"]["code"] == "invalid_value"
    assert "Blind pairs" not in server.client.get("/sample").text, "no link to it"
    assert not (tmp_path / "study").exists()


def test_a_folder_of_answers_to_other_models_is_refused(opened: Callable[..., Any], tmp_path: Path) -> None:
    study = tmp_path / "study"
    opened(*two(tmp_path), out=study).post("/rate/answer", rater="ann", k=0, winner="left", ms=5)
    again = opened(*two(tmp_path / "again"), out=study, seed=3)
    assert "holds answers to other models or another seed" in again.client.get("/rate").text
    assert len(read_ratings(study).answers) == 1


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    words = [f"x={pictures(tmp_path / 'p.niwaki')}", f"x={sounds(tmp_path / 's.niwaki')}"]
    ran = CliRunner().invoke(app, ["studio", *words, "--port", "0", "-o", str(tmp_path / "study")])
    assert isinstance(ran.exception, CallError)


@pytest.mark.parametrize(("make", "kind"), [(sounds, "sound"), (texts, "text")])
def test_any_modality_is_shown(
    opened: Callable[..., Any], tmp_path: Path, make: Callable[[Path], Path], kind: str
) -> None:
    server = opened(
        f"a={make(tmp_path / 'a.niwaki')}", f"b={make(tmp_path / 'b.niwaki')}", out=tmp_path / "study"
    )
    asked = server.post("/rate/question", rater="ann", k=0).json()
    assert asked["left"]["kind"] == asked["right"]["kind"] == kind


def test_answers_become_pairs_that_a_recipe_learns_from(opened: Callable[..., Any], tmp_path: Path) -> None:
    study = tmp_path / "study"
    server = opened(*two(tmp_path), out=study)
    rate(server, "ann", 16, lambda asked: "tie" if asked["left"] == asked["right"] else "left")
    pairs = tmp_path / "sets" / "pairs.jsonl"
    words = ["preferences", str(study), "--json"]
    for form, file in (
        ("pairs", pairs),
        ("trl", tmp_path / "t.jsonl"),
        ("label-studio", tmp_path / "l.json"),
    ):
        words += ["--export", f"{form}:{file}"]
    ran = CliRunner().invoke(app, words, catch_exceptions=False)
    said = json.loads(ran.stdout)
    ratings = read_ratings(study)
    decided = [one for one in ratings.counted if one.chosen]
    assert said["exports"]["pairs"]["answers"] == len(decided) > 8
    spec = DataSpec.of("image", (1, 6, 6), classes=3)
    reference = models.build("mlp-gan", {}, spec)
    chosen, rejected, asked = read_pairs(pairs, reference, spec)
    for i, one in enumerate(decided):
        assert np.array_equal(chosen[i].numpy(), np.load(ratings.sample_file(one.left, one)))
        assert np.array_equal(rejected[i].numpy(), np.load(ratings.sample_file(one.right, one)))
    if "class" in reference.conditions:
        assert asked["class"].tolist() == [one.condition["class"] for one in decided]
    recipe = yaml.safe_load((Path(__file__).parents[2] / "recipes/digits-preferred.yaml").read_text())
    recipe["train"]["prefer"] = {"by": "dpo", "pairs": str(pairs)}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    assert load_recipe(tmp_path / "mine.yaml").train.prefer.pairs == str(pairs)
    line = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])
    assert set(line) == {"prompt", "chosen", "rejected"}
    assert Image.open(tmp_path / line["chosen"]).size == (6, 6)
    tasks = json.loads((tmp_path / "l.json").read_text())
    assert len(tasks) == len(ratings.counted)
    assert tasks[0]["annotations"][0]["result"][0]["value"] == {"selected": "left"}


def test_texts_are_exported_as_texts_and_as_tokens(opened: Callable[..., Any], tmp_path: Path) -> None:
    study, out = tmp_path / "study", tmp_path / "out"
    server = opened(f"a={texts(tmp_path / 'a')}", f"b={texts(tmp_path / 'b')}", out=study, checks=0.0)
    rate(server, "ann", 4, lambda asked: "right")
    words = ["preferences", str(study / "answers.jsonl")]
    words += ["--export", f"pairs:{out}/p.jsonl", "--export", f"trl:{out}/t.jsonl"]
    ran = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "4 answers as trl" in ran.stdout
    pairs = [json.loads(line) for line in (out / "p.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in (out / "t.jsonl").read_text().splitlines()]
    ratings = read_ratings(study)
    for one, pair, line in zip(ratings.counted, pairs, lines, strict=True):
        assert pair["chosen"] == np.load(ratings.sample_file(one.right, one)).tolist()
        assert (line["rejected"], line["chosen"]) == one.texts
