"""Speculative decoding of two models with the same tokens: as fast as the small one guesses, as good as the
large one is.

>>> from niwaki_runtime import load, speculative
>>> target, draft = load("docs.niwaki"), load("docs-small.niwaki")  # doctest: +SKIP
>>> made = speculative.sample(target, draft, 4, guesses=4, temperature=0.8)  # doctest: +SKIP
>>> made.x.shape, round(made.rate, 2)  # doctest: +SKIP
((4, 256), 0.81)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import SAMPLING, Runner
from niwaki_runtime.samplers import Autoregressive, Noise
from niwaki_runtime.samplers.prompts import lay_out
from niwaki_runtime.samplers.speculation import Counts, Draws, Side, speculate
from niwaki_runtime.samplers.steer import Steer
from niwaki_runtime.specs import resolve
from niwaki_runtime.steering import steer_from
from niwaki_runtime.tokenizer import FILE

__all__ = ["Speculated", "sample"]


@dataclass(frozen=True)
class Speculated:
    """Samples, and what they took.

    x:      `(n, length)` int64
    counts: tokens made, reads of the target, guesses of the draft, those tested and those kept
    """

    x: np.ndarray
    counts: Counts

    @property
    def rate(self) -> float:
        """Share of the tested guesses that were kept: α of Leviathan et al.; 0 where none was tested."""
        return self.counts.accepted / max(self.counts.tested, 1)

    @property
    def tokens_per_read(self) -> float:
        """Tokens that one call of the target gives, on average; plain decoding gives one."""
        return self.counts.made / max(self.counts.reads, 1)


def sample(
    target: Runner,
    draft: Runner,
    n: int = 1,
    *,
    guesses: int = 4,
    program: str = SAMPLING,
    seed: int = 0,
    inputs: Any = None,
    start: int = 0,
    steer: Steer | None = None,
    progress: Callable[[int, int], None] | None = None,
    **overrides: Any,
) -> Speculated:
    """Samples start … start+n−1 of the target's program, one after another; each has the target's own
    distribution, whatever the draft is. With `temperature=0` it is the target's greedy text, token for token.

    Sample i of a seed is the same at every n, but not that of plain decoding: the chances are used otherwise.

    target, draft: models, runs' models or bundles with the same tokenizer, each with a graph that reads many
                   tokens at once
    guesses:       tokens that the draft makes before the target reads them together with the one before
    overrides:     of both samplers, and what steers texts; all else as of `Runner.run`
    Raises CallError for models that are no such two.
    """
    if n < 0 or start < 0 or guesses < 1:
        raise CallError(
            f"n and start must not be negative and guesses at least 1, not {n}, {start}, {guesses}"
        )
    if target.files.get(FILE) != draft.files.get(FILE):
        raise CallError("the draft has another tokenizer than the target: their tokens are not the same")
    rest, steer = steer_from(overrides, steer, target.files)
    sampler, drafting = _sampler(target, program, rest), _sampler(draft, program, rest)
    _refuse_unlike(sampler, drafting)
    backend = target.backend()
    rows = resolve(target.program(program).inputs, inputs, start, n)
    known = {k: v for k, v in rows.items() if k in draft.program(program).inputs}
    guided = resolve(draft.program(program).inputs, known or None, start, n)
    layout = lay_out(sampler, {k: backend.asarray(v) for k, v in rows.items()}, backend, n)
    noise, total = Noise(backend, seed, start, n), Counts()
    for i in range(n):
        sides = []
        for runner, one, given in ((target, sampler, rows), (draft, drafting, guided)):
            own = runner.backend()
            known = {name: own.asarray(given[name][i : i + 1]) for name in one.conditions}
            asked = one.asked(runner.callable_graphs(), known)
            called = "target" if runner is target else "draft"
            sides.append(Side(one, runner.callable_graphs(), asked, own, called))
        with target.running(), draft.running():
            used = speculate(sides[0], sides[1], layout, i, Draws(noise, layout, i), guesses, steer)
        total = Counts(**{k: v + asdict(used)[k] for k, v in asdict(total).items()})
        if progress:
            progress(i + 1, n)
    return Speculated(layout.samples(), total)


def _refuse_unlike(target: Autoregressive, draft: Autoregressive) -> None:
    """Raises CallError where the two do not read the same tokens in the same places."""
    if draft.length < target.length:
        raise CallError(f"the draft reads {draft.length} tokens, and the target's texts have {target.length}")
    if (draft.first, draft.alone, draft.prompt) != (target.first, target.alone, target.prompt):
        raise CallError("the draft begins its texts in another way than the target")
    if sorted(draft.ends()) != sorted(target.ends()):
        raise CallError("the draft ends its texts by other tokens than the target")


def _sampler(runner: Runner, program: str, overrides: dict[str, Any]) -> Autoregressive:
    """Raises CallError for a program that does not draw token after token."""
    sampler = runner.program(program).sampler
    found = sampler.parts_of(Autoregressive)
    if found != [sampler]:
        raise CallError(f"the program '{program}' makes no token after token: nothing can be guessed ahead")
    made = found[0].override(**overrides)
    if made.beams > 1:
        raise CallError("beams search for texts and draw none: nothing can be guessed ahead")
    if made.guidance != 1.0:
        raise CallError("guidance reads every text twice: nothing can be guessed ahead; leave it at 1")
    return made
