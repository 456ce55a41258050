"""Models of tokens on chats: what their loss counts, what their samples begin with, and how they end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from model_cases import CHATS, context, make

from niwaki.core.contract import Batch, GenerativeModel
from niwaki.models.autoregressive.token_model import TokenModel

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("transformer", {}),
    ("transformer", {"window": 5, "kv_heads": 1}),
    ("moe-transformer", {"experts": {"count": 3, "chosen": 2}}),
    ("lstm", {}),
    ("gru", {}),
    ("state-space", {}),
]
END, LENGTH = 2, 20


@pytest.fixture(params=MODELS, ids=lambda p: f"{p[0]}-{','.join(p[1])}")
def model(request: pytest.FixtureRequest) -> TokenModel:
    name, changes = request.param
    made = make(name, CHATS, **changes).eval()
    assert isinstance(made, TokenModel)
    return made


def chats(n: int = 4) -> Batch:
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 9, (n, LENGTH), generator=rng)
    answers = torch.zeros(n, LENGTH)
    answers[:, 6:9], answers[:, 14:17] = 1.0, 1.0
    prompt = torch.full((n, 11), -1)
    prompt[:, :6] = x[:, :6]
    return Batch({"x": x, "answers": answers, "prompt": prompt})


def test_only_the_logits_of_answers_get_a_gradient(
    model: TokenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, held = chats(), {}
    logits = type(model).logits

    def kept(self: TokenModel, x: torch.Tensor, *labels: torch.Tensor, **more: Any) -> torch.Tensor:
        held["logits"] = logits(self, x, *labels, **more)
        held["logits"].retain_grad()
        return held["logits"]

    monkeypatch.setattr(type(model), "logits", kept)
    model.loss("nll", batch, context())["nll"].backward()
    moved = held["logits"].grad.abs().sum(-1) > 0
    assert torch.equal(moved, batch["answers"] > 0)


def test_the_loss_is_the_mean_over_the_answers_of_each_conversation(model: TokenModel) -> None:
    batch = chats()
    log_p = model.logits(batch.x).log_softmax(-1).gather(-1, batch.x[..., None])[..., 0]
    each = [-log_p[i][batch["answers"][i] > 0].mean() for i in range(len(batch))]
    torch.testing.assert_close(model.loss("nll", batch, context())["nll"], torch.stack(each).mean())


def test_micro_batches_add_up_whatever_they_count(model: TokenModel) -> None:
    batch = chats()
    batch["answers"][:2, :17] = 0.0
    batch["answers"][:2, 18] = 1.0
    parts = [batch.map(lambda t, i=i: t[2 * i : 2 * i + 2]) for i in range(2)]
    halves = [model.loss("nll", part, context())["nll"] for part in parts]
    torch.testing.assert_close(model.loss("nll", batch, context())["nll"], sum(halves) / 2)


def test_samples_begin_with_their_prompts_and_are_filled_up_after_their_end(model: TokenModel) -> None:
    assert "prompt" in model.conditions
    prompts = np.full((40, 11), -1)
    for i, row in enumerate(prompts):
        row[: i % 11] = np.arange(i % 11) % 9
    x = model.sample(40, seed=0, condition={"prompt": prompts}, temperature=1.0).numpy()
    ended = 0
    for row, prompt in zip(x, prompts, strict=True):
        begun = int((prompt >= 0).sum())
        assert (row[:begun] == prompt[:begun]).all()
        made = row[begun:].tolist()
        if END in made:
            ended += 1
            assert set(made[made.index(END) :]) == {END}
    assert ended > 5
    again = model.run("continue", 40, seed=0, inputs={"prompt": prompts}, temperature=1.0).numpy()
    assert (again == x).all()


def test_without_the_columns_samples_begin_with_nothing(model: TokenModel) -> None:
    plain: GenerativeModel = make(model.name, CHATS, conditioning={"columns": ()})
    assert not plain.conditions
    assert plain.sample(2, seed=0).shape == (2, LENGTH)
