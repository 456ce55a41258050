"""What every way of sampling shares: plain data in, samples out, through graphs that may run anywhere.

A sampler is a frozen record that round-trips through JSON. It is called with *runners* (a torch module in the
workshop, an engine's session on the device) and a *backend* (torch tensors or numpy arrays), so the same
lines run in both places.
Rules that keep the two equal: coefficients are Python floats, no in-place and no mask assignment, device and
dtype are the backend's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.field_types import as_table, check_fields
from niwaki_runtime.samplers.backend import Array, Backend, MixedNoise, Noise, NumpyBackend, Runner, State

if TYPE_CHECKING:
    from niwaki_runtime.samplers.decoding import Decoded
    from niwaki_runtime.samplers.steer import Steer

__all__ = [
    "Array",
    "Backend",
    "MixedNoise",
    "Noise",
    "NumpyBackend",
    "Runner",
    "Sampler",
    "State",
    "check_shape",
    "override_each",
    "register",
    "sampler_from_json",
]

Part = TypeVar("Part", bound="Sampler")


LARGEST = 1 << 28
"""Values of one sample; a file that asks for more is damaged."""


def check_shape(shape: tuple[int, ...] | None, owner: str) -> None:
    """Raises CallError for the shape of noise that no sample has."""
    if shape is not None and (min(shape, default=1) < 1 or math.prod(shape) > LARGEST):
        raise CallError(f"{owner} is given the shape {shape}, and no sample has it")


_SAMPLERS: dict[str, type[Sampler]] = {}


def register(cls: type[Sampler]) -> type[Sampler]:
    """Make a sampler readable from JSON by its `kind`."""
    _SAMPLERS[cls.kind] = cls
    return cls


@dataclass(frozen=True)
class Sampler:
    """How noise becomes samples. Subclasses are frozen dataclasses with JSON-able fields and a `kind`."""

    kind: ClassVar[str]
    later: ClassVar[tuple[str, ...]] = ()
    """Fields that older runtimes do not know: a manifest names them where they are set."""

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        """The samples of `noise`: `(noise.n, *shape)`.

        conditions: checked arrays of the backend, one row per sample
        project:    `(x, t, draw) → x` after every solver step (inpainting, constraints), iterative samplers
                    only; t is the time at which x then is, −1 for the clean end
        progress:   called with (calls done, calls in all)
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it samples")

    def growing(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        steer: Steer | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Decoded]:
        """The samples of `noise` as they grow, after every token, as a `Steer` allows; −1 stands after the
        end of one that it has ended. Raises CallError where tokens are not chosen one after another."""
        raise CallError(
            f"the sampler '{self.kind}' does not make token after token: "
            "it cannot be steered, and nothing grows"
        )

    def alike(self, noise: Noise, conditions: Mapping[str, np.ndarray]) -> list[Hashable]:
        """A key for each sample of `noise`: those of equal keys may be made in one batch without one
        depending on the others. All may, unless a sampler says otherwise."""
        return [()] * noise.n

    def options(self) -> set[str]:
        """Names of what `override` may change."""
        return {f.name for part in self.parts() for f in fields(part)}

    def draws_latents(self, graph: str | None = None) -> bool:
        """Whether the noise that it draws once is an input of a network (of `graph`, where one is named)."""
        return False

    def parts(self) -> tuple[Sampler, ...]:
        """The samplers that follow each other; a plain one is its own only part."""
        return (self,)

    def parts_of(self, kind: type[Part], graph: str | None = None) -> list[Part]:
        """The parts of one kind, those that call `graph` where one is named."""
        found = [part for part in self.parts() if isinstance(part, kind)]
        return [part for part in found if graph is None or graph in part.graphs_used()]

    def graphs_used(self) -> tuple[str, ...]:
        """Names of the graphs that sampling calls."""
        raise NotImplementedError(f"{type(self).__name__} does not say which graphs it calls")

    def drawing_graphs(self) -> tuple[str, ...]:
        """Those of them that draw by themselves: what they sum is not to be rounded."""
        return ()

    def conditions_used(self) -> tuple[str, ...]:
        """Names of the conditions that it must be given."""
        return tuple(getattr(self, "conditions", ()))

    def evaluations(self) -> int:
        """Network evaluations for one sample."""
        return 1

    @property
    def draws_tokens(self) -> bool:
        """Whether tokens are drawn one after another, so that a watermark can choose them."""
        return any(part.draws_tokens for part in self.parts() if part is not self)

    @property
    def feeds_back(self) -> bool:
        """Whether a network is given the amounts that were drawn before: a difference by rounding then grows
        from step to step, and two engines are compared call by call."""
        return False

    @property
    def forceable(self) -> bool:
        """Whether real samples can be read with it (`forced`)."""
        return False

    def forced(
        self,
        graphs: Mapping[str, Runner],
        x: np.ndarray,
        backend: Backend,
        conditions: Mapping[str, Array] | None = None,
    ) -> np.ndarray | None:
        """Teacher forcing: log p, in nats, of every token at every place of the real samples `x`, given the
        real ones before it: `(n, length, V)` float64. None for samplers that are not `forceable`.

        x:          tokens `(n, *shape)`, read in the order in which they would be made
        conditions: arrays of the backend, one row per sample
        """
        return None

    def override(self, **changes: Any) -> Self:
        """A copy with some fields changed; raises CallError for a field that does not exist."""
        if not changes:
            return self
        names = {f.name for f in fields(self)}
        for name in changes:
            if name not in names:
                raise CallError(f"the sampler '{self.kind}' has no option '{name}'; {nearest(name, names)}")
        check_fields(type(self), changes, f"the sampler '{self.kind}'")
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        record = {"kind": self.kind, **asdict(self)}
        usual = {
            f.name: f.default_factory() if f.default_factory is not MISSING else f.default
            for f in fields(self)
            if f.name in self.later
        }
        return {k: v for k, v in record.items() if k not in usual or v != usual[k]}

    @classmethod
    def from_fields(cls, record: dict[str, Any]) -> Sampler:
        return cls(**{k: _tuples(v) for k, v in record.items()})


def override_each(
    members: tuple[Sampler, ...], changes: Mapping[str, Any], owner: str
) -> tuple[Sampler, ...]:
    """The members, each with the options changed that it has. Raises CallError for one that none has.

    owner: what they belong to, as a sentence names it
    """
    known = [member.options() for member in members]
    for name in changes:
        if not any(name in options for options in known):
            raise CallError(f"{owner} has an option '{name}'; {nearest(name, set().union(*known))}")
    return tuple(
        member.override(**{k: v for k, v in changes.items() if k in options})
        for member, options in zip(members, known, strict=True)
    )


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples again, all the way down."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return value


def sampler_from_json(record: Mapping[str, Any]) -> Sampler:
    """The sampler that `to_json` described. Raises CallError for an unknown kind or option."""
    rest = as_table(record, "a sampler must be a table with its 'kind'")
    kind = str(rest.pop("kind", None))
    if kind not in _SAMPLERS:
        raise CallError(f"this runtime knows no sampler '{kind}'; {nearest(str(kind), _SAMPLERS)}")
    cls = _SAMPLERS[kind]
    names = {f.name for f in fields(cls)}
    for name in rest:
        if name not in names:
            raise CallError(f"the sampler '{kind}' has no option '{name}'; {nearest(name, names)}")
    check_fields(cls, rest, f"the sampler '{kind}'")
    return cls.from_fields(rest)
