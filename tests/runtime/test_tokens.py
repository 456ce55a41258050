"""From logits to tokens, against a reference written token by token."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Autoregressive, sampler_from_json, tokens

RNG = np.random.default_rng(0)


def kept(logits: list[float], temperature: float, top_k: int, top_p: float) -> dict[int, float]:
    """Probabilities of the tokens that survive, slowly: Holtzman et al. 2020."""
    z = [x / temperature for x in logits]
    ids = sorted(range(len(z)), key=lambda i: (-z[i], i))
    if 0 < top_k < len(z):
        ids = [i for i in ids if z[i] >= z[ids[top_k - 1]]]
    total = sum(math.exp(z[i]) for i in ids)
    chosen, mass = [], 0.0
    for i in ids:
        if chosen and mass >= top_p:
            break
        chosen.append(i)
        mass += math.exp(z[i]) / total
    total = sum(math.exp(z[i]) for i in chosen)
    return {i: math.exp(z[i]) / total for i in chosen}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 3, 9, 50])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
def test_filter(temperature: float, top_k: int, top_p: float) -> None:
    logits = RNG.standard_normal((40, 9)).round(3)
    z = tokens.filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    for row, filtered in zip(logits, z, strict=True):
        expected = kept(row.tolist(), temperature, top_k, top_p)
        p = tokens.softmax(filtered[None])[0]
        assert {int(i) for i in np.flatnonzero(np.isfinite(filtered))} == set(expected)
        np.testing.assert_allclose(p, [expected.get(i, 0.0) for i in range(9)], atol=1e-12)


def test_ties_at_the_cut_are_all_kept() -> None:
    z = tokens.filter_logits(np.array([[1.0, 3.0, 2.0, 2.0, 0.0]]), top_k=2)
    assert np.isfinite(z).tolist() == [[False, True, True, True, False]]


def test_the_likeliest_survives_any_top_p() -> None:
    z = tokens.filter_logits(np.array([[0.0, 1.0]]), top_p=1e-30)
    assert np.isfinite(z).tolist() == [[False, True]]


def test_frequencies_follow_the_probabilities() -> None:
    logits = np.array([0.3, -1.0, 2.0, 0.0, 1.0])
    n = 20_000
    u = (np.arange(n) + 0.5) / n  # every quantile once: the counts are then exact to one
    counts = np.bincount(tokens.choose(np.tile(logits, (n, 1)), u), minlength=5)
    assert np.abs(counts - n * tokens.softmax(logits[None])[0]).max() <= 1.0


@pytest.mark.parametrize("u", [1e-300, 1e-10, 0.5, 1 - 2**-33])
def test_what_is_cut_off_is_never_chosen(u: float) -> None:
    logits = np.array([[0.0, 5.0, 0.0, 5.0, 0.0]])
    assert tokens.choose(logits, np.array([u]), top_k=2)[0] in (1, 3)


def test_inverse_cdf_is_monotone_in_u() -> None:
    logits = RNG.standard_normal((1, 30))
    picked = tokens.choose(np.tile(logits, (500, 1)), np.linspace(1e-6, 1 - 1e-6, 500))
    assert np.all(np.diff(picked) >= 0)


def test_temperature_zero_is_greedy() -> None:
    logits = RNG.standard_normal((20, 7)).astype(np.float32)
    np.testing.assert_array_equal(tokens.choose(logits, np.full(20, 0.99), temperature=0.0), logits.argmax(1))


def test_huge_logits_do_not_overflow() -> None:
    picked = tokens.choose(np.array([[1e4, -1e4, 9.9e3]]), np.array([0.999]))
    assert picked.tolist() == [0]


@pytest.mark.parametrize("min_p", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("top_p", [0.6, 1.0])
@pytest.mark.parametrize("top_k", [0, 4])
def test_processors_are_those_of_transformers(top_k: int, top_p: float, min_p: float) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    logits = RNG.standard_normal((30, 9)) * 3
    seen = RNG.integers(0, 9, (30, 5))
    bias = ((3, 1.5), (7, -float("inf")))

    steps = [
        transformers.SequenceBiasLogitsProcessor([[[token], added] for token, added in bias]),
        transformers.RepetitionPenaltyLogitsProcessor(1.4),
        transformers.TemperatureLogitsWarper(0.7),
        *([transformers.TopKLogitsWarper(top_k)] if top_k else []),
        *([transformers.TopPLogitsWarper(top_p)] if top_p < 1 else []),
        *([transformers.MinPLogitsWarper(min_p)] if min_p else []),
    ]
    theirs = torch.from_numpy(logits)
    for step in steps:
        theirs = step(torch.from_numpy(seen), theirs)
    theirs = theirs.softmax(1).numpy()

    sampler = Autoregressive(temperature=0.7, top_k=top_k, top_p=top_p, min_p=min_p, penalty=1.4, bias=bias)
    ours = tokens.filter_logits(
        sampler.adjusted(logits, seen), temperature=0.7, top_k=top_k, top_p=top_p, min_p=min_p
    )
    np.testing.assert_allclose(tokens.softmax(ours), theirs, atol=1e-6)


def test_settings_that_choose_no_token_are_refused() -> None:
    for wrong in ({"min_p": 1.5}, {"min_p": -0.1}, {"top_p": 0.0}, {"penalty": 0.0}, {"temperature": -1.0}):
        with pytest.raises(CallError):
            Autoregressive(**wrong)
    with pytest.raises(CallError, match="no token 9"):
        Autoregressive(bias=((9, 1.0),)).adjusted(np.zeros((1, 9)), np.zeros((1, 0), int))


def test_what_older_runtimes_do_not_know_is_written_only_where_it_is_set() -> None:
    assert not {"min_p", "penalty", "bias", "stops", "alone"} & set(Autoregressive().to_json())
    changed = Autoregressive(min_p=0.1, penalty=1.2, bias=((2, -1.0),))
    assert sampler_from_json(json.loads(json.dumps(changed.to_json()))) == changed
