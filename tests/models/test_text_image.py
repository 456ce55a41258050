"""One transformer over words and codes: it draws from captions and captions pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from model_cases import CAPTIONED, DIGITS, batch, context, make

from niwaki.core.contract import CallError, DataSpec
from niwaki.models.vae.text_image import TextImage

CAPTIONS = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 1, 2], [3, 3, 0, 0, 0]])
WORDS, TOLD, SHOWN = 7, 5, 16


def stirred(**changes: Any) -> TextImage:
    model = make("text-image", CAPTIONED, codes=12, **changes).eval()
    assert isinstance(model, TextImage)
    rng = torch.Generator().manual_seed(1)
    for weight in model.prior.parameters():
        weight.data += 0.3 * torch.randn(weight.shape, generator=rng)
    return model


def sequences(model: TextImage) -> torch.Tensor:
    codes = torch.randint(0, 12, (3, SHOWN), generator=torch.Generator().manual_seed(2))
    return model.prior.joined(torch.from_numpy(CAPTIONS), codes, torch.tensor([False, True, False]))


def test_a_caption_stands_before_the_picture_or_a_blank_one_and_always_behind_it() -> None:
    found = sequences(stirred())
    assert found.shape == (3, TOLD + SHOWN + TOLD)
    np.testing.assert_array_equal(found[[0, 2], :TOLD], CAPTIONS[[0, 2]])
    assert int(found[1, :TOLD].sum()) == 0
    np.testing.assert_array_equal(found[:, -TOLD:], CAPTIONS)


@pytest.mark.parametrize("codes", [3, 12])
def test_words_stand_where_words_stand_and_codes_between_them(codes: int) -> None:
    model = make("text-image", CAPTIONED, codes=codes)
    logits = model.prior(torch.zeros(1, TOLD + SHOWN + TOLD, dtype=torch.int64))[0]
    likely = torch.isclose(logits, torch.tensor(-1e9)).logical_not().sum(1)
    assert likely.tolist() == [WORDS] * TOLD + [codes] * SHOWN + [WORDS] * TOLD


def test_no_place_sees_itself_or_what_comes_after() -> None:
    model = stirred()
    whole = sequences(model)
    for at in (0, TOLD, TOLD + 3, TOLD + SHOWN, TOLD + SHOWN + 2):
        other = whole.clone()
        other[:, at:] = (other[:, at:] + 1) % WORDS
        with torch.no_grad():
            before, after = model.prior(whole), model.prior(other)
        torch.testing.assert_close(before[:, : at + 1], after[:, : at + 1])
        assert not torch.allclose(before, after) or at == whole.shape[1] - 1


def test_step_by_step_it_says_what_it_says_at_once() -> None:
    model = stirred()
    graph, numbers = model.graphs()["prior"], sequences(model)
    state = [torch.from_numpy(s.zeros(3)) for s in graph.state]
    with torch.no_grad():
        whole = model.prior(numbers)
        token = torch.full((3,), model.prior.first)
        for at in range(numbers.shape[1]):
            logits, *rows = graph(token, torch.tensor([at]), *state)
            torch.testing.assert_close(logits, whole[:, at], atol=1e-4, rtol=1e-4)
            for held, row in zip(state, rows, strict=True):
                held[:, at : at + 1] = row
            token = numbers[:, at]


def test_the_loss_is_per_code_and_per_word_of_what_was_not_told() -> None:
    """Of a prior that says all alike it is log K and, of the share of captions that stand behind, log V."""
    model = stirred(conditioning={"drop": 0.5})
    for weight in model.prior.head.parameters():
        weight.data.zero_()
    data = batch(CAPTIONED, 32)
    loss = model.loss("prior", data, context())
    untold = model.asked(data, context())[1].float().mean()
    assert loss.keys() == {"picture", "caption"}
    assert float(loss["picture"].detach()) == pytest.approx(np.log(12), abs=1e-5)
    assert float(loss["caption"].detach()) == pytest.approx(np.log(WORDS) * float(untold), abs=1e-5)


def test_guidance_leads_away_from_a_blank_caption() -> None:
    model = stirred()

    def drawn(captions: np.ndarray, **options: Any) -> torch.Tensor:
        return model.sample(3, seed=2, condition={"caption": captions}, **options)

    blank = np.zeros_like(CAPTIONS)
    assert torch.equal(drawn(CAPTIONS, guidance=0.0), drawn(blank))
    assert not torch.equal(drawn(CAPTIONS, guidance=4.0), drawn(CAPTIONS))
    assert torch.equal(drawn(blank, guidance=4.0), drawn(blank))


def test_it_learns_to_draw_and_to_caption_both_ways() -> None:
    """Four pictures with captions of their own, by heart."""
    model = make("text-image", CAPTIONED, codes=12, prior_width=32, prior_dropout=0.0)
    data = batch(CAPTIONED, 4)
    data = data.replaced(caption=torch.tensor([[1, 2, 0, 0, 0], [2, 1, 4, 0, 0], [3, 5, 6, 1, 0], [6] * 5]))
    prior = torch.optim.Adam(model.prior.parameters(), lr=1e-2)
    for k in range(120):
        prior.zero_grad()
        sum(model.loss("prior", data, context(k)).values()).backward()  # type: ignore[union-attr]
        prior.step()
    model.eval()
    said = model.run("caption", 4, inputs={"x": data.x.numpy()})
    assert torch.equal(said, data["caption"])
    made = model.sample(4, seed=0, condition={"caption": data["caption"].numpy()}, temperature=0.0)
    with torch.no_grad():
        torch.testing.assert_close(made, model.decode(model.encode(data.x)))


@pytest.mark.parametrize(
    ("spec", "changes", "text"),
    [
        (DIGITS, {}, "needs one column of captions, and finds none"),
        (CAPTIONED, {"conditioning": {"columns": ["class"]}}, "finds none"),
        (CAPTIONED, {"conditioning": {"drop": 0.0}}, "drop is above 0"),
    ],
)
def test_without_captions_it_is_refused(spec: DataSpec, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(CallError, match=text):
        make("text-image", spec, **changes)
