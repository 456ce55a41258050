"""What samplers are called with: graphs, the state that they carry, where arrays live, and randomness."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from niwaki_runtime import noise

if TYPE_CHECKING:
    from niwaki_runtime.samplers.tokens import Choice
    from niwaki_runtime.watermark.base import TokenMark

__all__ = ["Array", "Backend", "MixedNoise", "Noise", "NumpyBackend", "Runner", "State", "outputs"]

Array = Any  # a numpy array or a torch tensor: whatever the backend makes


@dataclass(frozen=True)
class State:
    """What a graph carries from one call to the next (a KV cache, a row cache).

    input, output: names of the graph's input and output that hold it; an output that is shorter along one
                   axis holds the new rows, to be written at the position
    shape:         full shape, with the batch axis set to 1
    batch_axis:    where the samples are counted
    dtype:         numpy name
    """

    input: str
    output: str
    shape: tuple[int, ...]
    batch_axis: int = 0
    dtype: str = "float32"

    def zeros(self, n: int) -> np.ndarray:
        shape = tuple(n if axis == self.batch_axis else s for axis, s in enumerate(self.shape))
        return np.zeros(shape, dtype=self.dtype)


class Runner(Protocol):
    """A graph that can be called: inputs by position in declared order, one output or a tuple of them."""

    @property
    def state(self) -> tuple[State, ...]: ...

    def __call__(self, *inputs: Array) -> Any: ...


def outputs(out: Any) -> tuple[Array, ...]:
    """What a runner gave, as a tuple also where it is one output."""
    return out if isinstance(out, tuple) else (out,)


class Backend(Protocol):
    """Where arrays live."""

    def namespace(self, array: Array) -> Any:
        """The array API namespace of `array`."""

    def asarray(self, array: np.ndarray) -> Array: ...

    def numpy(self, array: Array) -> np.ndarray: ...

    def normal(
        self, seed: int, start: int, n: int, shape: tuple[int, ...], *, stream: str, draw: int
    ) -> Array: ...


class NumpyBackend:
    """Arrays on the device's own CPU."""

    def namespace(self, array: Array) -> Any:
        from array_api_compat import numpy as xp

        return xp

    def asarray(self, array: np.ndarray) -> np.ndarray:
        return array

    def numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def normal(
        self, seed: int, start: int, n: int, shape: tuple[int, ...], *, stream: str, draw: int
    ) -> np.ndarray:
        return noise.normal(seed, start, n, shape, stream=stream, draw=draw)


@dataclass(frozen=True)
class Noise:
    """The randomness of samples start … start+n−1 of one seed. `base` keeps the legs of a cascade apart."""

    backend: Backend
    seed: int
    start: int
    n: int
    base: int = 0
    mark: TokenMark | None = field(default=None, repr=False, kw_only=True)
    """What chooses tokens in the place of these numbers; None: they do."""

    def normal(self, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0) -> Array:
        """Standard normals `(n, *shape)`, float32."""
        return self.backend.normal(self.seed, self.start, self.n, shape, stream=stream, draw=self.base + draw)

    def uniform(self, size: int = 1, *, stream: str = "token", draw: int = 0) -> np.ndarray:
        """Uniforms in (0, 1) `(n, size)`, float64, always on the host."""
        return noise.uniform(self.seed, self.start, self.n, size, stream=stream, draw=self.base + draw)

    def token(self, choice: Choice, logits: np.ndarray, u: np.ndarray, read: np.ndarray) -> np.ndarray:
        """One token for each sample `(n,)` int64, by its logits `(n, V)` and uniforms `(n, 1)`; read: what
        stands before it `(n, t)`, −1 where nothing does."""
        if self.mark is None or choice.temperature == 0.0:
            return choice(logits, u)
        before = [row[row >= 0].tolist() for row in read]
        return self.mark.choose(
            choice.probabilities(logits), u, before, self.uniform(stream="watermark")[:, 0]
        )

    def of(self, i: int) -> Noise:
        """That of the i-th of its samples alone."""
        return replace(self, start=self.start + i, n=1)


@dataclass(frozen=True)
class MixedNoise(Noise):
    """The randomness of any samples, each with a seed and a number: one batch holds what several callers ask
    for, and each sample draws what it draws alone.

    samples: (seed, number) of each; `seed` and `start` of the base class are those of the first
    """

    samples: tuple[tuple[int, int], ...] = ()

    @classmethod
    def mixed(
        cls, backend: Backend, samples: tuple[tuple[int, int], ...], mark: TokenMark | None = None
    ) -> MixedNoise:
        seed, start = samples[0]
        return cls(backend, seed, start, len(samples), mark=mark, samples=samples)

    def normal(self, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0) -> Array:
        parts = [one.normal(shape, stream=stream, draw=draw) for one in self._runs()]
        return parts[0] if len(parts) == 1 else self.backend.namespace(parts[0]).concat(parts, axis=0)

    def uniform(self, size: int = 1, *, stream: str = "token", draw: int = 0) -> np.ndarray:
        return np.concatenate([one.uniform(size, stream=stream, draw=draw) for one in self._runs()])

    def of(self, i: int) -> Noise:
        seed, start = self.samples[i]
        return Noise(self.backend, seed, start, 1, self.base)

    def _runs(self) -> Iterator[Noise]:
        """Samples that follow each other, together: one draw makes them all."""
        begin, samples = 0, self.samples
        for end in range(1, len(samples) + 1):
            seed, start = samples[begin]
            if end == len(samples) or samples[end] != (seed, start + end - begin):
                yield Noise(self.backend, seed, start, end - begin, self.base)
                begin = end
