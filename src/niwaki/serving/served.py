"""One model behind its name: its bundle, its batches, and what takes its place while it is asked."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.store import hash_directory
from niwaki.filters import open_filter
from niwaki.serving.batcher import Batcher, Item
from niwaki.serving.limits import check_options, check_work
from niwaki.serving.metrics import Metrics
from niwaki.serving.problems import Problem
from niwaki.serving.sampling import Generation, Reader, Sample, Samples
from niwaki.serving.screening import check_filter
from niwaki.serving.settings import BundlePlace, ServeSettings
from niwaki.serving.sizes import agreement
from niwaki_runtime import Bundle, load
from niwaki_runtime.batches import alike, run_batch
from niwaki_runtime.errors import CallError, NiwakiError
from niwaki_runtime.programs import SAMPLING, check_numbers
from niwaki_runtime.specs import ConditionSpec, resolve
from niwaki_runtime.steering.registry import STEERING

__all__ = ["Served"]

_log = logging.getLogger("niwaki.serving")


class Served:
    """A model that requests name.

    ready:   whether its first batches are made
    failure: why the last attempt to replace it failed; empty where it did not
    loaded:  when, in seconds since 1970
    """

    def __init__(self, place: BundlePlace, settings: ServeSettings, metrics: Metrics) -> None:
        """Loads the bundle. Raises NiwakiError where it cannot be served."""
        self.place, self._settings, self._metrics = place, settings, metrics
        self.ready, self.failure, self.loaded = False, "", time.time()
        self._state = _state_of(place.path)
        self.generation = self._load()
        self._batcher: Batcher | None = None
        self._replacing = asyncio.Lock()

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def bundle(self) -> Bundle:
        return self.generation.bundle

    @property
    def queued(self) -> int:
        return 0 if self._batcher is None else self._batcher.queued

    async def start(self) -> None:
        """Begin to take requests, once the first batches are made."""
        self._batcher = Batcher(
            self.name,
            wait=self._settings.wait,
            queue=self._settings.limits.queue,
            observe=self._metrics.batch_of(self.name),
        )
        await self._batcher.call(lambda: self._warm(self.generation))
        self.ready = True

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()

    async def submit(
        self,
        program: str,
        n: int,
        *,
        seed: int,
        start: int = 0,
        inputs: Any = None,
        options: Mapping[str, Any] | None = None,
        readers: Sequence[Reader] = (),
        trusted: Mapping[str, Any] | None = None,
    ) -> list[Item]:
        """Queue samples start … start+n−1 of a seed.

        options: of the request; trusted: further ones, of our own
        readers: who reads along, one for each sample
        Raises CallError for what the model cannot do, Problem where there are too many samples.
        """
        limits, generation = self._settings.limits, self.generation
        if readers and generation.filter is not None:
            raise CallError("what is read while it is made cannot be withheld; ask for it without 'stream'")
        if not 0 < n <= limits.samples:
            raise CallError(f"n must be 1 … {limits.samples}, not {n}")
        check_numbers(n, start, seed)
        asked = generation.bundle.program(program)
        settings = {**check_options(options or {}, limits), **(trusted or {})}
        check_work(asked, settings, limits)
        rows = resolve(asked.inputs, inputs, start, n)
        samples = [(seed, start + i) for i in range(n)]

        def keyed() -> Any:
            return alike(generation.bundle, program, samples, rows, **settings)

        # Patterns are compiled here: they must not stand in the way of other requests.
        keys = await asyncio.to_thread(keyed) if settings.keys() & STEERING.keys() else keyed()
        text = json.dumps(settings, sort_keys=True)
        work = []
        for i in range(n):
            own = {name: values[i : i + 1] for name, values in rows.items()}
            reader = readers[i] if readers else None
            kind = Samples(generation, program, text, keys[i], bool(readers))
            work.append((kind, Sample(*samples[i], own, reader)))
        return self._open().submit(work)

    async def call(self, function: Callable[[], Any]) -> Any:
        """What a function of this model gives, called between two batches."""
        return await self._open().call(function)

    async def replace(self) -> None:
        """Load the bundle anew: requests that come from now on are answered by it, those before by the old
        one. Raises NiwakiError where that fails; the old one then stays."""
        async with self._replacing:
            state = _state_of(self.place.path)
            try:
                fresh = await asyncio.to_thread(self._load)
                await asyncio.to_thread(self._warm, fresh)  # beside the batches of the old one
            except NiwakiError as error:
                self.failure, self._state = str(error), state
                _log.error("%s stays as it was: %s", self.name, error)
                raise
            self.generation, self.failure, self._state, self.loaded = fresh, "", state, time.time()
            _log.info("%s was replaced", self.name)

    async def replace_if_changed(self) -> None:
        """The same where its file is another one, and has been for a moment: a copy may still be going on."""
        state = _state_of(self.place.path)
        if state is None or state == self._state:
            return
        await asyncio.sleep(0.2)
        if _state_of(self.place.path) == state:
            await self.replace()

    def _open(self) -> Batcher:
        if self._batcher is None or not self.ready:
            raise Problem(503, "not_ready", f"the model '{self.name}' is still warming up", after=2)
        return self._batcher

    def _load(self) -> Generation:
        bundle = load(
            self.place.path,
            engine=self.place.engine,
            precision=self._settings.precision,
            threads=self._settings.threads,
        )
        mark = self._settings.watermark
        generation = Generation(
            bundle,
            self.name,
            hash_directory(self.place.path),
            watermark=mark,
            certificate=self._settings.certificate,
        )
        if self._settings.filter is None:
            return generation
        by = open_filter(self._settings.filter, self.place.engine)
        check_filter(by, bundle)
        return replace(generation, filter=by, action=self._settings.action)

    def _warm(self, generation: Generation) -> None:
        """Make the first batches of every program, `sample` first, as long as there is time; they show which
        batch sizes agree."""
        bundle, end = generation.bundle, time.monotonic() + self._settings.warm
        for program in sorted(bundle.programs(), key=lambda name: name != SAMPLING):
            left = end - time.monotonic()
            if left <= 0 and program != SAMPLING:
                break

            def make(numbers: Sequence[int], size: int, program: str = program) -> np.ndarray:
                inputs = _anything(bundle, program, numbers)
                return run_batch(bundle, program, [(0, i) for i in numbers], inputs, size=size)

            try:
                found = agreement(make, self._settings.batch, max(0.0, left))
            except CallError as error:  # a program that wants inputs which fit to each other
                _log.info("%s: %s is made one at a time: %s", self.name, program, error)
                continue
            generation.agreements[program] = found
            _log.info("%s: %s in batches of %s", self.name, program, ", ".join(map(str, found.sizes)))


def _anything(bundle: Bundle, program: str, numbers: Sequence[int]) -> dict[str, np.ndarray]:
    """Inputs of a program for samples of these numbers: the bundle's examples, else what nobody asks for."""
    specs = bundle.program(program).inputs
    examples = bundle.example_inputs(program, max(numbers) + 1)
    return {
        name: np.concatenate([_row(spec, examples.get(name), i) for i in numbers])
        for name, spec in specs.items()
    }


def _row(spec: ConditionSpec, examples: np.ndarray | None, i: int) -> np.ndarray:
    if examples is not None:
        return examples[i : i + 1]
    usual = spec.default(i, 1)
    return np.zeros((1, *spec.shape), spec.value.dtype) if usual is None else usual


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """What tells a replaced file from the one that was read; None where there is none."""
    place = path / "manifest.json" if path.is_dir() else path
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
