"""A model of texts whose every step is plain: logits that are noise of all tokens read, and a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from niwaki_runtime.programs import Program, Runner
from niwaki_runtime.samplers import Autoregressive, NumpyBackend, State
from niwaki_runtime.specs import ConditionSpec, Tokens, ValueSpec
from niwaki_runtime.token_decoders import letters

ROWS = 80


def pieces_tokenizer(pieces: Iterable[str | bytes], special: Iterable[str] = ()) -> str:
    """A `tokenizer.json` of byte-level pieces in this order, and special tokens after them."""
    written = ["".join(letters()[b] for b in (p.encode() if isinstance(p, str) else p)) for p in pieces]
    added = [{"id": len(written) + i, "content": s, "special": True} for i, s in enumerate(special)]
    record = {
        "model": {"type": "BPE", "vocab": {p: i for i, p in enumerate(written)}, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "decoder": {"type": "ByteLevel"},
        "added_tokens": added,
    }
    return json.dumps(record)


class Remembering:
    """Logits that are a hash of all tokens read so far; the tokens are the state, written by rows."""

    def __init__(self, size: int, seed: int = 0, stride: int = 0, spread: float = 2.0) -> None:
        self.size, self.seed, self.stride, self.spread = size, seed, stride, spread
        self.state = (State("seen", "seen_new", (1, ROWS)),)
        self.calls = 0

    def logits(self, history: Iterable[int]) -> np.ndarray:
        rng = np.random.default_rng([self.seed, *(int(t) + 1 for t in history)])
        return (self.spread * rng.standard_normal(self.size)).astype(np.float32)

    def __call__(self, tokens: np.ndarray, position: np.ndarray, seen: np.ndarray) -> Any:
        self.calls += 1
        at, table = int(position[0]), tokens.reshape(len(tokens), -1)
        assert at + table.shape[1] <= ROWS, "a place beyond the last"
        out = [
            [self.logits([*kept[:at], *row[: j + 1]]) for j in range(len(row))]
            for row, kept in zip(table, seen, strict=True)
        ]
        made = np.array(out)
        return (made if self.stride else made[:, 0]), table.astype(np.float32)


class RandomTexts(Runner):
    """Such a model, with the programs `sample` and `continue`."""

    def __init__(self, tokenizer: str, size: int, length: int, *, seed: int = 0, **sampler: Any) -> None:
        self.files: Mapping[str, str] = {"tokenizer.json": tokenizer}
        self.graph = Remembering(size, seed)
        self.read = Remembering(size, seed, stride=4)
        self._graphs = {"decode": self.graph, "prefill": self.read}
        made = Autoregressive(length, first=size, **sampler)
        reads = {"prefill": "prefill", "stride": 4}
        text = ValueSpec("text", (length,), "T", Tokens(size, "tokenizer.json"))
        prompt = ConditionSpec(ValueSpec("text", (max(length - 1, 1),), "T", Tokens(size, "")), null=-1)
        reading = made.override(prompt="prompt", **reads)
        self._programs = {
            "sample": Program(made.override(**reads), {}, text),
            "continue": Program(reading, {"prompt": prompt}, text),
        }

    def programs(self) -> Mapping[str, Program]:
        return self._programs

    def callable_graphs(self) -> Mapping[str, Any]:
        return self._graphs

    def backend(self) -> NumpyBackend:
        return NumpyBackend()
