"""Beam search: exhaustive where the beam is wide, greedy where it is one, and that of transformers."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import numpy as np
import pytest
from runtime.random_texts import RandomTexts, Remembering, pieces_tokenizer

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Autoregressive, Noise, NumpyBackend, State
from niwaki_runtime.samplers.base import sampler_from_json
from niwaki_runtime.samplers.tokens import log_probability
from niwaki_runtime.tokenizer import Tokenizer

PIECES = ["a", "b", "ab", "c"]
SIZE, LENGTH = 5, 4  # the last token ends a text


def model(seed: int = 0, length: int = LENGTH, **sampler: Any) -> RandomTexts:
    return RandomTexts(pieces_tokenizer(PIECES, ["<end>"]), SIZE, length, seed=seed, stop=4, **sampler)


def log_p(graph: Remembering, row: list[int], prompt: int, first: int = SIZE) -> float:
    history, total = [first, *row[:prompt]], 0.0
    for token in row[prompt:]:
        total += log_probability(graph.logits(history)[None], np.array([token]))[0]
        history.append(token)
    return total


def best(made: RandomTexts, penalty: float, prompt: list[int], length: int = LENGTH) -> list[int]:
    """Of all texts that end or fill the room, the one of the best score."""
    found: list[tuple[float, list[int]]] = []
    room = length - len(prompt)
    for size in range(1, room + 1):
        for row in itertools.product(range(SIZE), repeat=size):
            if 4 in row[:-1] or (row[-1] != 4 and size < room):
                continue
            whole = [*prompt, *row]
            score = log_p(made.graph, whole, len(prompt)) / size**penalty
            found.append((score, whole + [4] * (length - len(whole))))
    return max(found)[1]


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("prompt", [[], [1], [2, 0]])
def test_a_wide_beam_finds_the_best_of_all(penalty: float, prompt: list[int]) -> None:
    for seed in range(2):
        made = model(seed)
        options = {"beams": 5**LENGTH, "length_penalty": penalty}
        padded = [*prompt, *[-1] * (LENGTH - 1 - len(prompt))]
        row = made.run("continue", 1, inputs={"prompt": padded}, **options)[0].tolist()
        assert row == best(made, penalty, prompt)


def test_a_narrow_beam_is_never_better_and_ends_as_samples_do() -> None:
    for seed in range(4):
        made = model(seed)
        scores = []
        for beams in (2, 3, 8, 5**LENGTH):
            row = made.sample(1, beams=beams)[0].tolist()
            size = row.index(4) + 1 if 4 in row else LENGTH
            assert row[size:] == [4] * (LENGTH - size)
            scores.append(log_p(made.graph, row[:size], 0) / size)
        assert max(scores) == scores[-1]


@pytest.mark.parametrize("seed", range(5))
def test_caches_follow_the_ways_that_go_on(seed: int) -> None:
    """Ways that change places keep what was read: the same search over whole texts, without a cache."""
    made = model(seed, length=12)
    rows = made.run("continue", 3, inputs={"prompt": _prompts(11)}, beams=3).tolist()
    for row, prompt in zip(rows, [[0, 1], [], [3]], strict=True):
        assert row == _searched(made.graph, prompt, 12, 3)


def _prompts(width: int) -> np.ndarray:
    return np.array([[0, 1] + [-1] * (width - 2), [-1] * width, [3] + [-1] * (width - 1)])


def _searched(graph: Remembering, prompt: list[int], length: int, beams: int) -> list[int]:
    """Every way from its beginning, every time; never stopping early."""
    ways: list[list[int]] = [prompt]
    whole: list[tuple[float, list[int]]] = []
    for size in range(1, length - len(prompt) + 1):
        tried = [(log_p(graph, [*w, t], len(prompt)), [*w, t]) for w in ways for t in range(SIZE)]
        tried.sort(key=lambda one: -one[0])
        whole += [(p / size, w) for p, w in tried[:beams] if w[-1] == 4]
        ways = [w for _, w in tried if w[-1] != 4][:beams]
    whole += [(log_p(graph, w, len(prompt)) / max(1, length - len(prompt)), w) for w in ways]
    row = max(whole, key=lambda one: one[0])[1]
    return row + [4] * (length - len(row))


def test_one_beam_draws_as_ever() -> None:
    made = model()
    assert (made.sample(5, beams=1) == made.sample(5)).all()


@pytest.mark.parametrize("beams", [2, 4])
def test_beams_keep_to_an_expression_and_to_stop_strings(beams: int) -> None:
    made = model(3, length=9)
    tokenizer = Tokenizer(made.files["tokenizer.json"])
    assert re.fullmatch("c(ab)+c", tokenizer.decode(made.sample(1, beams=beams, regex="c(ab)+c")[0]))
    assert "b" not in tokenizer.decode(made.sample(1, beams=beams, stop=["b"])[0])
    assert "".join(made.stream(beams=beams)) == tokenizer.decode(made.sample(1, beams=beams)[0])


def test_a_wide_beam_finds_the_best_text_of_an_expression() -> None:
    made = model(1)
    tried = (row for size in range(1, 5) for row in itertools.product(range(3), repeat=size))
    fits = [row for row in tried if _text(row) in ("abab", "abb")]
    scored = [(log_p(made.graph, list(r), 0) / len(r), [*r, -1, -1, -1, -1][:LENGTH]) for r in fits]
    row = made.sample(1, beams=5**LENGTH, regex="ab(ab|b)")[0].tolist()
    assert row == max(scored)[1]  # nothing may follow: it is over without a token that says so


def _text(row: tuple[int, ...]) -> str:
    return "".join(PIECES[t] for t in row)


def test_nothing_asked_is_nothing_written() -> None:
    assert not {"beams", "length_penalty"} & Autoregressive().to_json().keys()
    changed = Autoregressive(beams=4, length_penalty=0.5)
    assert sampler_from_json(json.loads(json.dumps(changed.to_json()))) == changed
    for wrong in ({"beams": 0}, {"length_penalty": float("inf")}):
        with pytest.raises(CallError, match="beams must be at least 1"):
            Autoregressive(**wrong)


class _Whole:
    """A network of transformers, that reads everything anew at each step."""

    state = (State("seen", "seen_new", (1, 40)),)

    def __init__(self, network: Any) -> None:
        self.network = network

    def __call__(self, token: np.ndarray, position: np.ndarray, seen: np.ndarray) -> Any:
        import torch

        at = int(position[0])
        read = np.concatenate([seen[:, :at], token[:, None]], axis=1).astype(np.int64)
        with torch.no_grad():
            logits = self.network(torch.from_numpy(read)).logits[:, -1]
        return logits.numpy(), token[:, None].astype(np.float32)


@pytest.mark.parametrize(("beams", "penalty"), [(2, 1.0), (3, 0.0), (4, 2.0), (5, 0.5)])
def test_it_is_the_search_of_transformers(beams: int, penalty: float) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    config = transformers.GPT2Config(vocab_size=11, n_positions=40, n_embd=16, n_layer=2, n_head=2)
    for seed in range(4):
        torch.manual_seed(seed)
        network = transformers.GPT2LMHeadModel(config).eval()
        for p in network.parameters():
            torch.nn.init.normal_(p, std=0.4)
        prompt = torch.randint(0, 10, (1, 3))
        wanted = network.generate(
            prompt, attention_mask=torch.ones_like(prompt), num_beams=beams, length_penalty=penalty,
            do_sample=False, max_length=14, eos_token_id=7, pad_token_id=7, early_stopping="never",
        )[0].tolist()  # fmt: skip
        sampler = Autoregressive(
            14, beams=beams, length_penalty=penalty, stop=7, prompt="p", alone=True, first=0
        )
        asked = {"p": prompt.numpy()}
        made = sampler({"decode": _Whole(network)}, Noise(NumpyBackend(), 0, 0, 1), asked)[0].tolist()
        assert made == wanted + [7] * (14 - len(wanted))
