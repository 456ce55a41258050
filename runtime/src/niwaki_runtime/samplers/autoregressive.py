"""Token after token, with the network's state carried along; a prompt in strides of many tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.asking import Asks
from niwaki_runtime.samplers.base import Array, Backend, Noise, Runner, Sampler, register
from niwaki_runtime.samplers.beams import search
from niwaki_runtime.samplers.decoding import Decoded, decode, made_of
from niwaki_runtime.samplers.prompts import ABSENT
from niwaki_runtime.samplers.reading import teacher_forced
from niwaki_runtime.samplers.steer import Steer
from niwaki_runtime.samplers.tokens import Chooses, penalize

__all__ = ["Autoregressive"]


@register
@dataclass(frozen=True)
class Autoregressive(Asks, Chooses, Sampler):
    """logits, *state = graph(token, position, *conditions, *state), once per position.

    A state output of its input's shape replaces it; a shorter one holds the rows that are new, and is written
    into it at the position (`carry`): a cache is then neither copied nor computed again by the engine.

    length:      tokens to make, the prompt included
    first:       the token that stands before the first one
    graph:       name of the graph; its inputs are token `(n,)`, position `(1,)`, the conditions, then its
                 state
    conditions:  names of the conditions, in the order of the graph's inputs
    temperature, top_k, top_p, min_p: of the choice of a token (`tokens.Choice`); temperature 0 is greedy
    penalty:     of tokens that a sample holds already, its prompt included (`tokens.penalize`); 1 is none
    bias:        pairs (token, what is added to its logit); −1e9 forbids it
    prompt:      name of the condition that a sample begins with: `(n, P)`, after its end filled up with −1;
                 samples may have prompts of different lengths
    prefill:     name of the graph that reads `stride` tokens at once: tokens `(n, stride)`, position of the
                 first `(1,)`, the conditions, then the same state; its logits are `(n, stride, V)`
    stop:        the token after which a sample is over: the rest is filled with it; −1 never ends
    stops:       further tokens after which a sample is over, and which the rest is then filled with
    beams:       more than one: nothing is drawn, so many ways are tried side by side, and a sample is the one
                 of the best score (`beams.search`); temperature and filters do nothing then
    length_penalty: power of the number of tokens that a way's log p is divided by: above 0 favours long ones
    alone:       `first` stands only where a prompt is empty: other prompts begin with their own first token,
                 as with tokenizers that put nothing before a text
    ahead:       name of the graph that makes `unroll` tokens in one call: it is given the last token `(n,)`,
                 its position `(1,)`, uniform numbers `(n, unroll)` float64, the temperature `(1,)`, the
                 conditions and the same state, and gives the tokens `(n, unroll)` and new state. They are
                 those of `graph`, token for token but for the last bits of its logits. It is called where
                 tokens are drawn by temperature alone, with neither filters nor steering; empty is never
    unroll:      tokens of one call of `ahead`
    guidance, null, encoders: of the logits (`asking.Asks`); led networks read every sample twice, without the
                 question, too. A prompt is a question where `null` names it: its null stands at every place
    keep:        of every sample the last so many tokens are what is made; 0 is all of it
    """

    kind: ClassVar[str] = "autoregressive"
    later: ClassVar[tuple[str, ...]] = (
        "stops", "alone", "min_p", "penalty", "bias", "beams", "length_penalty", "ahead", "unroll",
        "guidance", "null", "encoders", "keep",
    )  # fmt: skip
    length: int = 1
    first: int = 0
    graph: str = "decode"
    conditions: tuple[str, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    prompt: str = ""
    prefill: str = ""
    stride: int = 1
    stop: int = -1
    stops: tuple[int, ...] = ()
    alone: bool = False
    min_p: float = 0.0
    penalty: float = 1.0
    bias: tuple[tuple[int, float], ...] = ()
    beams: int = 1
    length_penalty: float = 1.0
    ahead: str = ""
    unroll: int = 1
    guidance: float = 1.0
    null: dict[str, int] = field(default_factory=dict)
    encoders: dict[str, str] = field(default_factory=dict)
    keep: int = 0

    def __post_init__(self) -> None:
        _ = self.choice  # refuses settings that choose no token
        self.check_guidance()
        if self.guidance != 1.0 and self.beams > 1:
            raise CallError("beams are not led by guidance: set one of the two to 1")
        if not 0.0 < self.penalty < math.inf:
            raise CallError(f"the penalty of repetition must be positive, not {self.penalty}")
        if self.beams < 1 or not math.isfinite(self.length_penalty):
            raise CallError(
                "beams must be at least 1 and length_penalty finite, "
                f"not {self.beams} and {self.length_penalty}"
            )
        if not 0 <= self.keep <= self.length:
            raise CallError(f"of {self.length} tokens 0 … {self.length} are kept, not {self.keep}")
        if min(self.length, self.stride, self.unroll) < 1:
            raise CallError(
                f"length, stride and unroll must be at least 1, not {self.length}, {self.stride} and "
                f"{self.unroll}"
            )

    def ends(self) -> np.ndarray:
        """Tokens after which a sample is over."""
        return np.array([self.stop, *self.stops] if self.stop >= 0 else [], dtype=np.int64)

    @property
    def draws_ahead(self) -> bool:
        """Whether its settings are those that a graph can draw by."""
        filtered = self.top_k or self.top_p < 1.0 or self.min_p or self.guidance != 1.0
        changed = self.penalty != 1.0 or self.bias
        return bool(self.ahead) and self.temperature > 0.0 and not (filtered or changed)

    def adjusted(self, logits: np.ndarray, read: np.ndarray) -> np.ndarray:
        """Logits `(n, V)` after bias and penalty, given what each sample holds already `(n, t)`."""
        if self.bias:
            logits = np.array(logits, dtype=np.float64)
            for token, added in self.bias:
                if not 0 <= token < logits.shape[1]:
                    raise CallError(
                        f"there is no token {token} to give a bias: they are 0 … {logits.shape[1] - 1}"
                    )
                logits[:, token] += added
        if self.penalty != 1.0:
            logits = penalize(logits, read, self.penalty)
        return logits

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        grown = self.growing(graphs, noise, conditions, progress=progress)
        return made_of(grown, noise.backend, self.keep)

    def growing(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        steer: Steer | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Decoded]:
        if self.beams == 1:
            yield from decode(self, graphs, noise, conditions, steer=steer, progress=progress)
            return
        layout = search(self, graphs, noise.backend, noise.n, conditions, steer=steer, progress=progress)
        yield Decoded(layout, layout.read.shape[1], whole=True)

    def alike(self, noise: Noise, conditions: Mapping[str, np.ndarray]) -> list[Hashable]:
        """How long a prompt is: the tokens that all have are read in strides, and the others one by one."""
        if self.prompt not in conditions:
            return [()] * noise.n
        return [int(k) for k in (np.asarray(conditions[self.prompt]) != ABSENT).sum(axis=1)]

    @property
    def draws_tokens(self) -> bool:
        return self.beams == 1 and self.temperature > 0.0

    @property
    def forceable(self) -> bool:
        return True

    def forced(
        self,
        graphs: Mapping[str, Runner],
        x: np.ndarray,
        backend: Backend,
        conditions: Mapping[str, Array] | None = None,
    ) -> np.ndarray:
        """log p of the network itself: temperature, top-k and top-p are choices of who draws, not of it."""
        logits = teacher_forced(graphs, self, x.reshape(len(x), -1), backend, conditions).astype(np.float64)
        logits -= logits.max(axis=2, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=2, keepdims=True))
        return logits

    def graphs_used(self) -> tuple[str, ...]:
        own = (*self.encoders.values(), self.graph, self.prefill, self.ahead)
        return tuple(dict.fromkeys(name for name in own if name))

    def drawing_graphs(self) -> tuple[str, ...]:
        return (self.ahead,) if self.ahead else ()

    def evaluations(self) -> int:
        return self.length
