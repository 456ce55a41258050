"""Chats: yours as JSONL, or questions about the standard library that its documentation answers.

Each sample is one conversation, filled up to its length with the token that ends a turn. Beside it stand
which of its tokens are answers (`answers`), and what the last answer is said after (`prompt`).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, Levels, Tokens, ValueSpec
from niwaki.core.store import hash_bytes
from niwaki.data.audit import Finding
from niwaki.data.cache import cached
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading import docs_chats, python_docs
from niwaki.data.reading.chat_files import Conversation, read_chats
from niwaki.data.reading.tokens import (
    BYTES,
    byte_tokenizer,
    given_tokenizer,
    learned_tokenizer,
    token_count,
)
from niwaki.data.sources.text import training_passages
from niwaki.data.splitting import EXTRA, SPLITS, by_hash, shares
from niwaki_runtime.chat_template import ASSISTANT, FILE, Chats, ChatTemplate
from niwaki_runtime.tokenizer import FILE as TOKENIZER
from niwaki_runtime.tokenizer import Tokenizer, with_special

__all__ = ["ChatOptions", "DocsChatOptions", "chats", "docs_chats_pool"]

VERSION = 1  # of the reading: a change here makes cached chats stale
_SPECIAL = re.compile(r"<[^<>\s]+>")
REPHRASED = "rephrased"
"""The split whose questions are asked in words that no training has seen."""


class _TemplateOptions(Options):
    """What both sources can be told of tokens and of the template."""

    length: int = Field(default=256, ge=8, le=65536)
    vocabulary: int = Field(default=BYTES, ge=BYTES, le=100_000)
    opens: dict[str, str] = Field(default_factory=lambda: dict(ChatTemplate().opens))
    closes: str = ChatTemplate().closes

    @property
    def template(self) -> ChatTemplate:
        return ChatTemplate(self.opens, self.closes)

    @property
    def special(self) -> list[str]:
        """The special tokens in these texts: what stands in angle brackets."""
        return [name for text in (*self.opens.values(), self.closes) for name in _SPECIAL.findall(text)]


class ChatOptions(_TemplateOptions):
    """Settings of `chats`.

    path:       a .jsonl file, or a folder of them; a line is `{"messages": [{"role": …, "content": …}]}`,
                `{"prompt": …, "response": …}` or ShareGPT's `{"conversations": […]}`
    length:     tokens of one conversation; the later turns of a longer one are left out
    vocabulary: 256 takes bytes as tokens; more learns byte pairs from the training split
    tokenizer:  a tokenizer.json (its path, its folder or its text) to cut with instead: that of the model
                which is trained on; special tokens that it lacks come behind its own
    opens:      text before a turn, by role, with a special token in it, as `<|user|>`
    closes:     text after every turn, which begins with a special token
    """

    path: str
    tokenizer: str | None = None


class DocsChatOptions(_TemplateOptions):
    """Settings of `python-docs-chats`.

    length:     tokens of one conversation; longer ones are left out
    vocabulary: 256 takes bytes as tokens; more learns the byte pairs that `python-docs` does, so that a model
                of the documentation knows them
    chats:      conversations in all
    notes:      lines of documentation that each begins with, at most
    turns:      questions of each
    missing:    share of questions whose answer does not stand there
    dealt:      share of training conversations about functions that there are not, whose names, arguments and
                sentences are put together anew: only who reads the notes can answer
    opens, closes: the template, as of `chats`
    """

    length: int = Field(default=192, ge=8, le=65536)
    chats: int = Field(default=10_000, ge=100, le=1_000_000)
    notes: int = Field(default=3, ge=1, le=50)
    turns: int = Field(default=3, ge=1, le=50)
    missing: float = Field(default=0.15, ge=0, le=1)
    dealt: float = Field(default=0.8, ge=0, le=1)


def _tensors(
    found: Sequence[Conversation], split: np.ndarray, options: _TemplateOptions, tokenizer: str
) -> dict[str, Tensor]:
    """Conversations as rows: tokens, which of them are answers, the last prompt, and bytes of the answers."""
    tokenizer = with_special(tokenizer, options.special)
    cutting = Chats(options.template, Tokenizer(tokenizer))
    n, length = len(found), options.length
    x = np.full((n, length), cutting.end, dtype=np.int32)
    answers = np.zeros((n, length), dtype=np.uint8)
    prompt = np.full((n, length - 1), -1, dtype=np.int32)
    size, fits, cut = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool), 0
    for i, chat in enumerate(found):
        kept = _fitting(chat, cutting, length)
        cut += len(kept) < len(chat)
        if not kept:
            continue
        fits[i] = True
        tokens, counted = cutting.tokens(kept)
        tokens, counted = tokens[:length], counted[:length]
        x[i, : len(tokens)], answers[i, : len(tokens)] = tokens, counted
        before = cutting.prompt(kept[:-1])
        prompt[i, : len(before)] = before
        size[i] = sum(len(m["content"].encode()) + 1 for m in kept if m["role"] == ASSISTANT)
    return {
        "x": torch.from_numpy(x[fits]),
        "answers": torch.from_numpy(answers[fits]),
        "prompt": torch.from_numpy(prompt[fits]),
        "bytes": torch.from_numpy(size[fits]),
        "split": torch.from_numpy(split[fits].astype(np.int64)),
        "left_out": torch.tensor([int((~fits).sum()), cut - int((~fits).sum())]),
        "tokenizer": torch.frombuffer(bytearray(tokenizer.encode()), dtype=torch.uint8).clone(),
    }


def _fitting(chat: Conversation, cutting: Chats, length: int) -> Conversation:
    """Its beginning, up to the end of an answer, as far as there is room; empty where there is none."""
    used, kept = 0, 0
    for i, message in enumerate(chat):
        used += len(cutting.turn(message)[0])
        if message["role"] == ASSISTANT and i and used - cutting.after_end <= length:
            kept = i + 1
    return chat[:kept]


def _pool(name: str, found: dict[str, Tensor], options: _TemplateOptions, findings: list[Finding]) -> Pool:
    tokenizer = bytes(found["tokenizer"].numpy()).decode()
    cutting = Chats(options.template, Tokenizer(tokenizer))
    missing, cut = found["left_out"].tolist()
    if missing:
        text = f"{missing} conversations whose first answer ends after {options.length} tokens were set aside"
        findings.append(Finding("warning", "set aside", text))
    if cut:
        findings.append(Finding("note", "cut", f"{cut} conversations end before their last turns"))
    if not len(found["x"]):
        raise CallError(f"no conversation fits into data.length = {options.length} tokens")
    tokens = Tokens(token_count(tokenizer), end=cutting.end)
    spec = ValueSpec("text", (options.length,), "T", tokens)
    mask = ValueSpec("mask", (options.length,), "T", Levels(2, 0.0, 1.0))
    begun = ValueSpec("text", (options.length - 1,), "T", tokens)
    return Pool(
        name,
        DataSpec({"x": spec}),
        found["x"],
        columns={"answers": Column(mask, found["answers"]), "prompt": Column(begun, found["prompt"])},
        attributes={"bytes": found["bytes"]},
        assignment=found["split"].numpy(),
        extra=(REPHRASED,) if bool((found["split"] == EXTRA).any()) else (),
        findings=findings,
        files={TOKENIZER: tokenizer, FILE: json.dumps(options.template.to_json(), ensure_ascii=False)},
    )


@register("chats", ChatOptions)
def chats(config: DataConfig, options: ChatOptions, progress: Progress | None) -> Pool:
    """Conversations from JSONL. The first question decides the split: the same one never lies in two.

    Raises CallError for a path without conversations, and where none fits into the length.
    """
    found, findings, contents = read_chats(options.path)
    split = by_hash([_asked(chat) for chat in found], config.fractions, config.seed)
    tokenizer = byte_tokenizer()
    if options.tokenizer is not None:
        tokenizer = given_tokenizer(options.tokenizer)
    elif options.vocabulary != BYTES:
        texts = (m["content"] for chat, s in zip(found, split, strict=True) if s == 0 for m in chat)
        tokenizer = learned_tokenizer(texts, options.vocabulary)
    made, remarks = _cached(
        "chats", config, options, [*map(hash_bytes, contents), hash_bytes(tokenizer.encode())],
        lambda: _tensors(found, split, options, tokenizer),
    )  # fmt: skip
    return _pool(Path(options.path).stem or "chats", made, options, findings + remarks)


@register("python-docs-chats", DocsChatOptions)
def docs_chats_pool(config: DataConfig, options: DocsChatOptions, progress: Progress | None) -> Pool:
    """Conversations about functions of the standard library, with notes that hold the answer.

    A function belongs to one split, in questions and in notes: those of the test split are named in no
    training conversation. A further split, `rephrased`, asks about them in words that no other one uses.
    """

    def make() -> dict[str, Tensor]:
        tokenizer = byte_tokenizer()
        if options.vocabulary != BYTES:
            own = training_passages(python_docs.documents(), config)
            tokenizer = learned_tokenizer(own, options.vocabulary)
        return _tensors(*_docs(config, options), options, tokenizer)

    made, findings = _cached("python-docs-chats", config, options, python_docs.version(), make)
    return _pool("python-docs-chats", made, options, findings)


def _docs(config: DataConfig, options: DocsChatOptions) -> tuple[list[Conversation], np.ndarray]:
    """The conversations of each split about its own functions, and the numbers of their splits."""
    known = docs_chats.entries()
    own = by_hash([hashlib.sha256(e.name.encode()).digest() for e in known], config.fractions, config.seed)
    said = []
    if options.dealt:
        others = {e.sentence for e, s in zip(known, own, strict=True) if s}
        texts = training_passages(python_docs.documents(), config)
        said = [s for s in docs_chats.sentences(texts) if s not in others]
    real = {e.name for e in known}
    rng = random.Random(f"niwaki chats {config.seed}")

    def draw(mine: list[docs_chats.Entry], deal: bool, n: int) -> list[docs_chats.Entry]:
        return [docs_chats.dealt(mine, said, rng, real) for _ in range(n)] if deal else rng.sample(mine, n)

    counts = shares(options.chats, config.fractions)
    found: list[Conversation] = []
    split: list[int] = []
    for k, count in enumerate((*counts, counts[2])):  # the last asks what the test split does, rephrased
        mine = [e for e, s in zip(known, own, strict=True) if s == min(k, 2)]
        for _ in range(count):
            deal = not k and rng.random() < options.dealt
            chat = docs_chats.converse(
                partial(draw, mine, deal), rng, notes=options.notes, turns=options.turns,
                missing=options.missing, rephrased=k == len(SPLITS),
            )  # fmt: skip
            found.append(chat)
            split.append(k)
    return found, np.array(split)


def _asked(chat: Conversation) -> bytes:
    """SHA-256 of the first question, or of the first message where there is none."""
    first = next((m for m in chat if m["role"] == "user"), chat[0])
    return hashlib.sha256(first["content"].encode()).digest()


def _cached(
    kind: str, config: DataConfig, options: _TemplateOptions, content: Any, make: Callable[[], Any]
) -> tuple[dict[str, Tensor], list[Finding]]:
    ingredients = {
        "version": VERSION,
        "content": content,
        "options": options.model_dump(mode="json", exclude={"path", "tokenizer"}),
        "fractions": list(config.fractions),
        "seed": config.seed,
    }
    return cached(kind, ingredients, make)
