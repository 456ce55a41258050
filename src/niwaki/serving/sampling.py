"""A batch of samples: what they have in common, how they are made, and what becomes of one that fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from niwaki.filters import Filter
from niwaki.modalities.provenance import Provenance
from niwaki.modalities.signing import Certificate
from niwaki.serving.batcher import Item
from niwaki.serving.screening import screened
from niwaki.serving.sizes import Agreement
from niwaki_runtime import Bundle
from niwaki_runtime.batches import run_batch
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.samplers.decoding import Decoded
from niwaki_runtime.streaming import Pieces
from niwaki_runtime.watermark import Watermark, carries_mark

__all__ = ["Generation", "Reader", "Sample", "Samples"]

_log = logging.getLogger("niwaki.serving")


@dataclass(eq=False)
class Generation:
    """A bundle as it was loaded once. When its file is replaced, what was asked of it is still made by it.

    name:       of the model; sha256: of the bundle's file
    agreements: by program; one that has none is made one at a time
    watermark:  of all that can carry one
    certificate: by which files are signed
    filter:     looks at every sample of what it is for; action: what becomes of those that it flags
    """

    bundle: Bundle
    name: str = ""
    sha256: str = ""
    agreements: dict[str, Agreement] = field(default_factory=dict)
    watermark: Watermark | None = field(default=None, repr=False)
    certificate: Certificate | None = field(default=None, repr=False)
    filter: Filter | None = None
    action: str = "withhold"

    def mark(self, program: str) -> Watermark | None:
        """What marks the samples of a program; None for what carries no mark, as codes and numbers."""
        return self.watermark if carries_mark(self.bundle.program(program).output) else None

    def agreement(self, program: str) -> Agreement:
        return self.agreements.get(program, Agreement())


@dataclass(eq=False)
class Reader:
    """Who reads a text while it is made.

    say: called with every piece, on the thread of the batches
    """

    pieces: Pieces
    say: Callable[[str], None]


@dataclass(eq=False)
class Sample:
    """
    seed, number: which one
    inputs:       checked, a row of each
    screening:    what a filter said of it, once it is made
    """

    seed: int
    number: int
    inputs: Mapping[str, np.ndarray]
    reader: Reader | None = None
    screening: dict[str, Any] | None = None


class _Abandoned(Exception):
    """Nobody waits for any sample of the batch."""


@dataclass(frozen=True)
class Samples:
    """What samples of one batch have in common.

    options: of the program, as JSON
    key:     what lets each be as it is alone (`niwaki_runtime.batches.alike`)
    read:    whether somebody reads them while they are made
    """

    generation: Generation
    program: str
    options: str = "{}"
    key: Hashable = ()
    read: bool = False

    @property
    def most(self) -> int:
        return self.generation.agreement(self.program).most

    def source(self, sample: Sample) -> Provenance:
        """What a file of the sample says of where it comes from."""
        made_by = self.generation
        marked = made_by.mark(self.program) is not None
        return Provenance(
            made_by.name, made_by.sha256, self.program, sample.seed, sample.number, watermarked=marked,
            certificate=made_by.certificate,
        )  # fmt: skip

    def work(self, items: Sequence[Item]) -> Sequence[Any]:
        """The samples; where a batch fails, its halves are tried, so that only what is at fault fails."""
        try:
            return self._screened(items, self._made(items))
        except _Abandoned as gone:
            return [gone] * len(items)
        except Exception as error:
            if len(items) == 1:
                _log.warning("a sample of %s failed: %s: %s", self.program, type(error).__name__, error)
                return [error]
        half = len(items) // 2
        return [*self.work(items[:half]), *self.work(items[half:])]

    def _screened(self, items: Sequence[Item], results: np.ndarray) -> list[Any]:
        by, spec = self.generation.filter, self.generation.bundle.program(self.program).output
        if by is None or spec != self.generation.bundle.program(SAMPLING).output:
            return list(results)
        return screened(by, self.generation.action, results, spec, [item.what for item in items])

    def _made(self, items: Sequence[Item]) -> np.ndarray:
        samples: list[Sample] = [item.what for item in items]
        inputs = {name: np.concatenate([s.inputs[name] for s in samples]) for name in samples[0].inputs}
        return run_batch(
            self.generation.bundle,
            self.program,
            [(s.seed, s.number) for s in samples],
            inputs,
            size=self.generation.agreement(self.program).size_for(len(items)),
            watch=_told(items) if self.read else None,
            progress=_stopping(items),
            watermark=self.generation.mark(self.program),
            **json.loads(self.options),
        )


def _told(items: Sequence[Item]) -> Callable[[Decoded], None]:
    def watch(now: Decoded) -> None:
        for row, item in enumerate(items):
            reader: Reader | None = item.what.reader
            if reader is not None and not item.abandoned and (piece := reader.pieces.piece(now, row)):
                reader.say(piece)

    return watch


def _stopping(items: Sequence[Item]) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if all(item.abandoned for item in items):
            raise _Abandoned

    return progress
