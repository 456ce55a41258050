"""A model that knows its training samples by heart is told from one that knows none of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import niwaki
from niwaki.data import DataConfig, load
from niwaki.models import build
from niwaki_runtime.errors import CallError


@pytest.fixture(scope="module")
def digits():
    return load(DataConfig(source="digits"))


class Parrot:
    """Says training samples."""

    def __init__(self, model, train):
        self.model, self.train = model, train

    def __getattr__(self, name):
        return getattr(self.model, name)

    def run(self, program, n, *, seed=0, inputs=None, progress=None, **_):
        index = np.random.default_rng(seed).integers(len(self.train), size=n)
        return torch.from_numpy(self.train[index])


def test_a_parrot_leaks_and_an_untrained_model_does_not(digits, monkeypatch):
    from niwaki.uses.base import Call, find_use

    model = build("dcgan", {"width": 8, "latent": 8}, digits.spec).eval()
    use = find_use("membership")
    settings = use.options({"n": 300, "made": 400})
    call = lambda runner: Call(runner, None, dataset=lambda: digits)  # noqa: E731
    honest = use.apply(call(model), settings).record
    assert not honest["leaks"]
    leaking = use.apply(call(Parrot(model, digits.train.values()[:300].numpy())), settings).record
    assert leaking["attacks"]["distance"]["found"] > 0.5
    assert leaking["leaks"]


def test_a_model_with_a_likelihood_is_attacked_by_it_too(digits):
    model = build("nice", {}, digits.spec).eval()
    found = niwaki.use("membership", model, data="digits", n=60, made=100, progress=False)
    assert set(found.record["attacks"]) >= {"likelihood", "distance"}
    assert len(found.rows) == 120


def test_without_data_it_says_what_is_missing(digits):
    model = build("dcgan", {"width": 8, "latent": 8}, digits.spec).eval()
    with pytest.raises(CallError, match="--data"):
        niwaki.use("membership", model, progress=False)
