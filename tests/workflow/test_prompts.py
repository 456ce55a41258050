"""Text that is asked of any program becomes the tokens of that program's input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.api.sample import sample
from niwaki.core.contract import CallError, DataSpec, GenerativeModel, Tokens, ValueSpec
from niwaki.data.reading.tokens import byte_tokenizer
from niwaki.models import build


@pytest.fixture
def model() -> GenerativeModel:
    spec = DataSpec({"x": ValueSpec("text", (12,), "T", Tokens(256, "tokenizer.json"))})
    torch.manual_seed(0)
    made = build("transformer", {"width": 16, "depth": 1, "heads": 2}, spec)
    made.files = {"tokenizer.json": byte_tokenizer()}
    return made.eval()


@pytest.mark.parametrize("condition", ["def f", {"prompt": "def f"}, ["def f", "class"]])
def test_a_prompt_is_continued_though_sampling_takes_none(model: GenerativeModel, condition: object) -> None:
    assert "prompt" not in model.conditions
    made = sample(model, 3, program="continue", condition=condition, seed=1)
    begins = [bytes(int(t) for t in row).startswith(b"def f") for row in made.x]
    assert begins == ([True, False, True] if isinstance(condition, list) else [True] * 3)
    assert np.array_equal(made.condition["prompt"][0, :6], [*b"def f", -1])


def test_text_for_a_program_that_reads_none_is_refused(model: GenerativeModel) -> None:
    with pytest.raises(CallError, match="takes no condition"):
        sample(model, 1, condition="def f")


def test_an_input_may_be_given_by_its_name() -> None:
    spec = DataSpec.of("image", (1, 8, 8), classes=5)
    torch.manual_seed(0)
    made = build("conditional-vae", {}, spec).eval()
    asked = sample(made, 2, condition={"class": 3}, seed=1)
    named = sample(made, 2, seed=1, **{"class": 3})
    assert named.condition["class"].tolist() == [3, 3]
    assert np.array_equal(asked.x, named.x)
    with pytest.raises(CallError, match="'class' was given by name"):
        sample(made, 2, condition=2, **{"class": 3})
