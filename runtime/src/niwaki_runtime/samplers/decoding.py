"""Token after token: the loop, one place at a time, so that whoever reads along sees samples grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from niwaki_runtime.samplers.base import Array, Backend, Noise, Runner
from niwaki_runtime.samplers.prompts import ABSENT, Layout, lay_out
from niwaki_runtime.samplers.reading import Reader
from niwaki_runtime.samplers.steer import Steer, Steered

if TYPE_CHECKING:
    from niwaki_runtime.samplers.autoregressive import Autoregressive

__all__ = ["Decoded", "decode", "made_of"]


@dataclass
class Decoded:
    """Samples as far as they are made; the same record at every step.

    columns: of the layout that are known
    steered: the samples under a steer
    whole:   whether all is made
    """

    layout: Layout
    columns: int
    steered: Steered | None = None
    whole: bool = False

    def tokens(self, i: int) -> list[int]:
        """Of sample i, without what was not made yet."""
        known: list[int] = self.layout.samples()[i].tolist()
        if self.steered is not None and self.steered.over[i] and not self.whole:
            return known[: int(self.layout.lengths[i])] + self.steered.kept(i)
        known = known if self.whole else known[: self.columns - int(self.layout.led[i])]
        return known[: known.index(ABSENT)] if ABSENT in known else known

    def held(self, i: int) -> int:
        """Bytes at the end of its text that may still be taken away."""
        return 0 if self.whole or self.steered is None or self.steered.over[i] else self.steered.held(i)


def decode(
    sampler: Autoregressive,
    graphs: Mapping[str, Runner],
    noise: Noise,
    conditions: Mapping[str, Array],
    *,
    steer: Steer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Decoded]:
    """The samples of `noise` after their prompts, after every token, and once more when they are whole."""
    layout = lay_out(sampler, conditions, noise.backend, noise.n)
    read, led, n = layout.read, layout.led, noise.n
    ends, choice = sampler.ends(), sampler.choice
    steered = Steered(steer, layout, ends) if steer is not None else None
    done = steered.over.copy() if steered else np.zeros(n, dtype=bool)
    rest = np.full(n, ABSENT)  # what stands after the end of each
    asked = sampler.both(graphs, conditions, noise.backend)
    reader = Reader(sampler, graphs, asked, n, noise.backend, _blank(sampler, layout))
    begun = layout.common() if sampler.prefill else 1
    now = Decoded(layout, layout.common(), steered)
    yield now
    logits = reader.last(read[:, :begun]) if sampler.prefill and not done.all() else None
    free = int((layout.lengths + led).max(initial=0))  # from here on nobody is in the prompt
    many = sampler.unroll if sampler.draws_ahead and not steered and noise.mark is None else 0
    at, width = begun, read.shape[1]
    while at < width:
        if done.all():
            read[:, at:] = rest[:, None]
            break
        known = at == begun and logits is not None
        before = read[:, at - 1]
        if (before == ABSENT).any():
            before = np.where(before == ABSENT, sampler.first, before)
        if many and not known and at >= free and at + many <= width:
            chances = np.concatenate([layout.uniform(noise, at + i) for i in range(many)], axis=1)
            drawn = reader.draw(before, at - 1, chances, sampler.temperature)
        else:
            if not known or logits is None:
                logits = reader.step(before, at - 1)
            said = sampler.adjusted(logits, read[:, :at])
            if steered:
                said = steered.masked(said, at, done | (at - led < layout.lengths))
            drawn = noise.token(choice, said, layout.uniform(noise, at), read[:, :at])[:, None]
        if drawn.shape[1] > 1 and not len(ends):  # no column depends on those before it
            read[:, at : at + many] = drawn
        else:
            for i, chosen in enumerate(drawn.T, at):
                waiting = done | (i - led < layout.lengths)  # over, or still in the prompt
                token = np.where(read[:, i] != ABSENT, read[:, i], chosen)
                read[:, i] = token = np.where(done, rest, token)
                if len(ends):
                    # A prompt may hold an end itself: only what comes after the prompt ends a sample.
                    ending = np.isin(token, ends) & ~waiting
                    done, rest = done | ending, np.where(ending, token, rest)
                if steered:
                    steered.advance(i, waiting)
                    done = done | steered.over
        for _ in range(drawn.shape[1]):
            at += 1
            if progress:
                progress(at + sampler.length - width, sampler.length)
            now.columns = at
            yield now
    if steered:
        steered.finish()
    now.columns, now.whole = read.shape[1], True
    yield now


def _blank(sampler: Autoregressive, layout: Layout) -> np.ndarray | None:
    """What is read where nothing is asked: the null in every place of a prompt `(n, columns)`, −1 elsewhere;
    None where the prompt is no question."""
    if sampler.guidance == 1.0 or sampler.prompt not in sampler.null:
        return None
    places = np.arange(layout.read.shape[1]) - layout.led[:, None]
    prompted = (places >= 0) & (places < layout.lengths[:, None])
    return np.where(prompted, sampler.null[sampler.prompt], ABSENT)


def made_of(grown: Iterator[Decoded], backend: Backend, keep: int = 0) -> Array:
    """The samples `(n, length)` on the backend, once they are whole, or the last `keep` tokens of each."""
    for now in grown:
        made = now
    return backend.asarray(made.layout.samples()[:, -keep:])
