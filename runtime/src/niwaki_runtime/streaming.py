"""Texts piece by piece, while they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Noise
from niwaki_runtime.samplers.steer import Steer
from niwaki_runtime.specs import resolve
from niwaki_runtime.steering import steer_from
from niwaki_runtime.tokenizer import FILE, Tokenizer
from niwaki_runtime.watermark.marking import Watermark

if TYPE_CHECKING:
    from niwaki_runtime.programs import Runner
    from niwaki_runtime.samplers.decoding import Decoded

__all__ = ["Pieces", "TextStream"]


class Pieces:
    """The text of one sample of a batch, piece by piece, as the batch grows.

    A piece comes as soon as it stays whatever follows: a character when all of its bytes are there, what may
    be the beginning of a stop string when it is none.

    tokenizer: the model's
    skip:      tokens at the beginning (those of a prompt) that are not said
    """

    def __init__(self, tokenizer: Tokenizer, skip: int = 0) -> None:
        self._tokenizer, self._skip, self._said = tokenizer, skip, ""

    def piece(self, now: Decoded, row: int = 0) -> str:
        """What has come to the sample of that row since the last call; often nothing."""
        if now.whole:
            text = self._tokenizer.decode(now.layout.samples()[row][self._skip :])
        else:
            settled = self._tokenizer.settled(now.tokens(row)[self._skip :])
            text = _without(settled, now.held(row))
        piece = text[len(self._said) :]
        if piece:
            self._said = text
        return piece


class TextStream(Iterator[str]):
    """One sample's text, in `Pieces` that joined are the text of the same sample made at once.

    tokens: the sample `(length,)` int64, once the last piece has come; None before
    """

    def __init__(
        self,
        runner: Runner,
        program: str,
        *,
        seed: int = 0,
        inputs: Any = None,
        start: int = 0,
        steer: Steer | None = None,
        skip: int = 0,
        watermark: Watermark | None = None,
        **overrides: Any,
    ) -> None:
        """Of sample `start` of a program and a seed; the rest as of `Runner.run`.

        skip: tokens at the beginning (those of a prompt) that are not said

        Raises CallError as it does, and where the model has no tokenizer or makes no token after token.
        """
        if FILE not in runner.files:
            raise CallError("only a model that ships its tokenizer can say its samples as texts")
        asked = runner.program(program)
        overrides, steer = steer_from(overrides, steer, runner.files)
        sampler, backend = asked.sampler.override(**overrides), runner.backend()
        rows = {k: backend.asarray(v) for k, v in resolve(asked.inputs, inputs, start, 1).items()}
        mark = watermark.drawing(sampler, asked.output) if watermark else None
        noise = Noise(backend, seed, start, 1, mark=mark)
        self.tokens: np.ndarray | None = None
        self._runner, self._pieces = runner, Pieces(Tokenizer(runner.files[FILE]), skip)
        self._grown = sampler.growing(runner.callable_graphs(), noise, rows, steer)

    def __next__(self) -> str:
        while self.tokens is None:
            with self._runner.running():  # only while it works: its reader's own code may want gradients
                now = next(self._grown)
            if now.whole:
                self.tokens = now.layout.samples()[0]
            piece = self._pieces.piece(now)
            if piece:
                return piece
        raise StopIteration


def _without(text: str, held: int) -> str:
    """A text without its last bytes, and without a character that they cut."""
    written = text.encode()
    return written[: len(written) - held].decode(errors="ignore") if held else text
