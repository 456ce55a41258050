"""What samplers are called with: graphs, the state that they carry, where arrays live, and randomness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from niwaki_runtime import noise

__all__ = ["Array", "Backend", "Noise", "NumpyBackend", "Runner", "State", "outputs"]

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

    def normal(self, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0) -> Array:
        """Standard normals `(n, *shape)`, float32."""
        return self.backend.normal(self.seed, self.start, self.n, shape, stream=stream, draw=self.base + draw)

    def uniform(self, size: int = 1, *, stream: str = "token", draw: int = 0) -> np.ndarray:
        """Uniforms in (0, 1) `(n, size)`, float64, always on the host."""
        return noise.uniform(self.seed, self.start, self.n, size, stream=stream, draw=self.base + draw)
