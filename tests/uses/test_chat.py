"""Chat through the calls that people make: on a saved model and on its bundle alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import niwaki
from niwaki import models
from niwaki.cli.main import app
from niwaki.core.contract import CallError, DataSpec, Tokens, ValueSpec
from niwaki.data.reading.tokens import byte_tokenizer
from niwaki_runtime.chat import answer
from niwaki_runtime.chat_template import FILE, ChatTemplate
from niwaki_runtime.tokenizer import FILE as TOKENIZER
from niwaki_runtime.tokenizer import with_special

LENGTH = 96
QUESTION = "What is a = b?"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, untrained."""
    place = tmp_path_factory.mktemp("chat") / "model"
    template = ChatTemplate()
    text = with_special(byte_tokenizer(), [*template.opens.values(), template.closes])
    tokens = Tokens(260, end=259)
    prompt = ValueSpec("text", (LENGTH - 1,), "T", tokens)
    spec = DataSpec({"x": ValueSpec("text", (LENGTH,), "T", tokens), "prompt": prompt})
    torch.manual_seed(0)
    model = models.build("transformer", {"width": 16, "depth": 1, "heads": 2, "stride": 8}, spec).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4.0)
    model.files = {TOKENIZER: text, FILE: json.dumps(template.to_json())}
    model.shipped = ("sample", "continue")
    models.save_model(model, place)
    return place


def test_an_answer_is_that_of_the_runtime_and_the_conversation_goes_on(place: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    made = niwaki.use("chat", place, [QUESTION], temperature=0, say=heard.append)
    messages = [{"role": "user", "content": QUESTION}]
    wanted = answer(models.load_model(place), messages, temperature=0)
    assert made.record["answer"] == wanted == "".join(heard).removesuffix("\n")
    file = tmp_path / "chat.json"
    made.write(file)
    assert json.loads(file.read_text()) == [*messages, {"role": "assistant", "content": wanted}]
    file.write_text(json.dumps({"messages": [*messages, {"role": "assistant", "content": "B."}]}))
    more = niwaki.use("chat", place, [file, "And?"], system="Notes.", temperature=0)
    roles = [m["role"] for m in more.record["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant"]


@pytest.mark.slow
def test_a_bundle_answers_as_the_model_does(place: Path, tmp_path: Path) -> None:
    niwaki.export(models.load_model(place), out=tmp_path / "chat.niwaki")
    made = [niwaki.use("chat", p, [QUESTION], temperature=0) for p in (place, tmp_path / "chat.niwaki")]
    assert made[0].record == made[1].record


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        ([], {}, "ask something"),
        (["nowhere.json"], {}, "does not exist"),
        (["x" * 200], {}, "at most 95"),
        (["a"], {"temprature": 1}, "temprature"),
        ([""], {}, "ask something"),
        (["  "], {}, "ask something"),
        (["a\udcff"], {}, "surrogate"),
        (["a"], {"system": "s" * 300}, "at most 95"),
    ],
)
def test_calls_that_cannot_be_answered_say_why(
    files: list[str], options: dict[str, Any], says: str, place: Path
) -> None:
    with pytest.raises(CallError, match=says):
        niwaki.use("chat", place, files, **options)


def test_the_command_takes_words_with_an_equals_sign_for_a_question(place: Path) -> None:
    found = CliRunner().invoke(app, ["use", "chat", str(place), QUESTION, "temperature=0", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout.strip().splitlines()[-1])["messages"][0]["content"] == QUESTION


@pytest.mark.parametrize("said", ["a//b", "./x", "end/", "x/./y", "http://a.b/", "what is in a.json", " a "])
def test_words_are_asked_letter_by_letter(said: str, place: Path) -> None:
    made = niwaki.use("chat", place, [said], system=said, temperature=0)
    assert [m["content"] for m in made.record["messages"][:2]] == [said, said]


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[1]", "3", '[{"role": "user"}]', "null"])
def test_files_that_hold_no_messages_are_refused(text: str, place: Path, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text(text)
    with pytest.raises(CallError, match=r"messages|message 0"):
        niwaki.use("chat", place, [file])
