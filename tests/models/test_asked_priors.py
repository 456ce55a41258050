"""Priors of codes that are asked by captions, and led by guidance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from model_cases import CAPTIONED, DIGITS, batch, context, make
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, GenerativeModel, Tokens, ValueSpec
from niwaki.models.vae.coded_samples import CodedSamples
from niwaki_runtime.samplers import Noise

CAPTION = ValueSpec("text", (5,), "T", Tokens(7))
SOUNDS = DataSpec({"x": DataSpec.of("audio", (64,)).x, "caption": CAPTION})
CLIPS = DataSpec({"x": DataSpec.of("video", (2, 1, 8, 8)).x, "caption": CAPTION})
TEXTS: dict[str, Any] = {"text_width": 8, "text_heads": 2, "conditioning": {"drop": 0.5}}
SIBLINGS: dict[str, tuple[str, DataSpec, dict[str, Any]]] = {
    "dalle": ("dalle", CAPTIONED, {"codes": 16}),
    "muse": ("muse", CAPTIONED, {"codes": 16}),
    "books": ("vqvae", CAPTIONED, {**TEXTS, "codes": 16, "books": 2, "codebook": "averaged"}),
    "sound": ("audio-codec", SOUNDS, {**TEXTS, "books": 1, "prior_by_book": False}),
    "clips": ("video-gpt", CLIPS, {**TEXTS, "codes": 16}),
    "magvit": ("magvit", CLIPS, {**TEXTS, "codes": 16}),
}
CAPTIONS = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 1, 2], [3, 3, 0, 0, 0]])


def stirred(kind: str) -> CodedSamples:
    name, spec, changes = SIBLINGS[kind]
    model = make(name, spec, **changes).eval()
    assert isinstance(model, CodedSamples)
    rng = torch.Generator().manual_seed(1)
    for part in (model.prior, model.words):
        for weight in part.parameters():
            weight.data += 0.3 * torch.randn(weight.shape, generator=rng)
    return model


def codes_of(model: GenerativeModel, captions: np.ndarray, **changes: Any) -> Tensor:
    writing = model.sampler().parts()[0].override(**changes)
    with torch.no_grad():
        noise = Noise(model.backend(), 3, 0, len(captions))
        found: Tensor = writing(model.graphs(), noise, {"caption": torch.from_numpy(captions)})
    return found


@pytest.fixture(params=SIBLINGS)
def model(request: pytest.FixtureRequest) -> CodedSamples:
    return stirred(request.param)


def test_a_caption_is_asked_in_the_place_of_a_class_and_encoded_once(model: CodedSamples) -> None:
    assert list(model.conditions) == ["caption"]
    assert model.conditions["caption"].null == 0
    writing = model.sampler().parts()[0]
    assert writing.graphs_used() == ("words_caption", "prior")
    assert not torch.equal(codes_of(model, CAPTIONS), codes_of(model, CAPTIONS[[1, 2, 0]]))


def test_guidance_of_one_is_the_question_alone_and_of_zero_no_question(model: CodedSamples) -> None:
    blank = np.zeros_like(CAPTIONS)
    assert torch.equal(codes_of(model, CAPTIONS, guidance=0.0), codes_of(model, blank))
    assert torch.equal(codes_of(model, CAPTIONS, guidance=1.0), codes_of(model, CAPTIONS))
    assert not torch.equal(codes_of(model, CAPTIONS, guidance=4.0), codes_of(model, CAPTIONS))
    assert torch.equal(codes_of(model, blank, guidance=4.0), codes_of(model, blank))


@pytest.mark.parametrize("kind", ["dalle", "books", "sound", "clips"])
def test_a_caption_is_read_at_every_step_as_in_training(kind: str) -> None:
    """Logit for logit, with the cache of those before."""
    model = stirred(kind)
    prior, graph = model.prior, model.graphs()["prior"]
    words = model.words["caption"](torch.from_numpy(CAPTIONS))
    numbers = torch.randint(0, 16, (3, model.length), generator=torch.Generator().manual_seed(1))
    state = [torch.from_numpy(s.zeros(3)) for s in graph.state]
    with torch.no_grad():
        whole = prior(numbers, words)
        token = torch.full((3,), prior.first)
        for at in range(model.length):
            logits, *rows = graph(token, torch.tensor([at]), words, *state)
            torch.testing.assert_close(logits, whole[:, at], atol=1e-4, rtol=1e-4)
            for held, row in zip(state, rows, strict=True):
                held[:, at : at + 1] = row
            token = numbers[:, at]


def test_guided_logits_lead_away_from_no_question() -> None:
    model = stirred("dalle")
    graph, n = model.graphs()["prior"], len(CAPTIONS)

    def first(captions: np.ndarray) -> Tensor:
        words = model.words["caption"](torch.from_numpy(captions))
        state = [torch.from_numpy(s.zeros(n)) for s in graph.state]
        return graph(torch.full((n,), 16), torch.tensor([0]), words, *state)[0]

    with torch.no_grad():
        asked, free = first(CAPTIONS), first(np.zeros_like(CAPTIONS))
    greedy = codes_of(model, CAPTIONS, guidance=3.0, temperature=0.0)[:, 0]
    assert torch.equal(greedy, (free + 3.0 * (asked - free)).argmax(1))


def test_a_coin_of_its_own_drops_the_caption_of_every_sample() -> None:
    model = stirred("dalle")
    data = batch(CAPTIONED, 64)
    blank = model.words["caption"](torch.zeros(1, 5, dtype=torch.int64))
    dropped = (model.asked(data, context())[0] - blank).abs().flatten(1).amax(1) < 1e-4
    assert 0 < int(dropped.sum()) < 64
    whole = (data["caption"] == 0).all(1)
    assert int((dropped & ~whole).sum()) < 32


def test_frozen_codes_leave_the_prior_to_be_trained() -> None:
    model = make("dalle", CAPTIONED, codes=16, frozen_codes=True)
    (phase,) = model.phases()
    assert phase.parameters == ("prior", "words")
    assert not phase.stages
    assert set(model.loss(phase.name, batch(CAPTIONED), context())) == {"nll"}


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("var", {"text_width": 8}, "takes no captions"),
        ("vqvae", {"conditioning": {"columns": ["caption"]}}, "where 'model.text_width' is above 0"),
        ("vqvae", {**TEXTS, "text_width": 9}, "heads of an even width"),
        ("vqvae", {"sampling": {"guidance": 2.0}}, "guidance needs"),
        ("dalle", {"conditioning": {"drop": 0.0}, "sampling": {"guidance": 2.0}}, "guidance needs"),
    ],
)
def test_what_cannot_be_asked_is_refused(name: str, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(CallError, match=text):
        make(name, CAPTIONED, **changes)


def test_without_captions_the_class_is_asked_and_led() -> None:
    model = make("dalle", DIGITS, codes=16)
    assert {k: c.null for k, c in model.conditions.items()} == {"class": 10}
    model.sample(2, seed=0, condition=3, guidance=2.0)
    with pytest.raises(CallError, match="no labels"):
        model.loss("codes", batch(DIGITS).replaced(**{"class": None}), context())
