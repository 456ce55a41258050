"""Small models of tokens as plain functions with a state, and samples of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from niwaki_runtime.codec import Codec
from niwaki_runtime.programs import BITS, Program
from niwaki_runtime.samplers import DirectCoding, State
from niwaki_runtime.specs import ConditionSpec, Tokens, ValueSpec
from niwaki_runtime.tokenizer import Tokenizer, letters


class Network:
    """Logits from a running state and the class; the state is replaced at every call."""

    def __init__(self, tokens: int, classes: int = 0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.tokens, self.classes, self.calls = tokens, classes, 0
        self.embed, self.out = rng.normal(size=(tokens + 1, 6)), rng.normal(size=(6, tokens)) * 1.5
        self.turn, self.label = rng.normal(size=(6, 6)) * 0.5, rng.normal(size=(max(classes, 1), 6))
        self.state = (State("h", "h_new", (1, 6)),)

    def __call__(self, token: Any, place: Any, *rest: Any) -> tuple[Any, ...]:
        *labels, h = rest
        self.calls += len(token)
        h = np.tanh(h @ self.turn + self.embed[token] + (self.label[labels[0]] if labels else 0.0))
        return h @ self.out, h


def noisy(network: Network, seed: int) -> Network:
    """As another machine would compute it: the last bits differ."""
    rng = np.random.default_rng(seed)

    class Other(Network):
        def __call__(self, *given: Any) -> tuple[Any, ...]:
            return tuple(p * (1 + rng.normal(size=p.shape) * 1e-13) for p in super().__call__(*given))

    other = Other.__new__(Other)
    other.__dict__ = network.__dict__
    return other


def program(network: Network, length: int) -> Program:
    conditions = ("x", "class") if network.classes else ("x",)
    plan = DirectCoding(length, network.tokens, "decode", conditions)
    x = ConditionSpec(ValueSpec("text", (length,), "T", Tokens(network.tokens)))
    labels = {"class": ConditionSpec.label(network.classes)} if network.classes else {}
    return Program(plan, {"x": x, **labels}, BITS)


def codec(network: Network, length: int, tokenizer: Tokenizer | None = None) -> Codec:
    return Codec(program(network, length), {"decode": network}, "model-1", tokenizer)


def samples(network: Network, length: int, y: np.ndarray, seed: int = 1) -> np.ndarray:
    """Tokens `(n, length)` of the model itself."""
    rng = np.random.default_rng(seed)
    token, h = np.full(len(y), network.tokens), np.zeros((len(y), 6))
    found = np.zeros((len(y), length), np.int64)
    for at in range(length):
        logits, h = network(token, None, *((y,) if network.classes else ()), h)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        token = (p.cumsum(-1) < rng.random((len(y), 1))).sum(-1).clip(0, network.tokens - 1)
        found[:, at] = token
    return found


def bytes_tokenizer(*added: str) -> Tokenizer:
    """Every byte is a token, and so are the added ones."""
    record = {
        "model": {"type": "BPE", "vocab": {letter: i for i, letter in enumerate(letters())}},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "decoder": {"type": "ByteLevel"},
        "added_tokens": [{"id": 256 + i, "content": c, "special": True} for i, c in enumerate(added)],
    }
    return Tokenizer(json.dumps(record))
