"""The models that are compared: the same program, of the same seed, asked for the same."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.array_files import npy_bytes, read_array_file
from niwaki.core.contract import CallError, Runner
from niwaki.core.store import hash_directory, jsonable, write_bytes
from niwaki.evaluation.preferences.ratings import SAMPLES
from niwaki.modalities import Media, modality_of
from niwaki.studio.forms import words_of
from niwaki.studio.sources import Sources
from niwaki_runtime import Bundle
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.specs import resolve

__all__ = ["Contestant", "Contestants", "contestants_of"]


@dataclass(frozen=True, eq=False)
class Contestant:
    """
    hash: of what lies at its path
    """

    name: str
    runner: Runner = field(repr=False)
    hash: str = ""


class Contestants:
    """They make one sample at a time, each on a lock of its own, and keep it beside the answers."""

    def __init__(self, models: Sequence[Contestant], folder: Path, *, seed: int = 0) -> None:
        """Raises CallError where there are fewer than two, or two that make different things."""
        if len(models) < 2:
            raise CallError("blind pairs need two models: niwaki studio A B")
        names = [one.name for one in models]
        programs = [one.runner.program(SAMPLING) for one in models]
        for one, program in zip(models[1:], programs[1:], strict=True):
            if program.output != programs[0].output or program.inputs != programs[0].inputs:
                raise CallError(
                    f"'{models[0].name}' and '{one.name}' make different things or are asked for different "
                    "things: they cannot be compared in pairs"
                )
        self.models = {one.name: one for one in models}
        self.spec, self.inputs = programs[0].output, programs[0].inputs
        self.seed, self._folder = seed, folder
        self._first = models[0].runner
        self._locks = {name: threading.Lock() for name in names}

    def record(self) -> dict[str, Any]:
        """What was compared, for the file of answers."""
        return {
            "kind": "study",
            "models": {name: one.hash for name, one in self.models.items()},
            "spec": self.spec.to_json(),
            "seed": self.seed,
        }

    def asked(self, number: int) -> dict[str, np.ndarray]:
        """Inputs of sample `number`, a row each: the bundle's examples in turn where they are no classes,
        else the defaults."""
        given: dict[str, Any] = {}
        examples = self._first.example_inputs(SAMPLING, 64) if isinstance(self._first, Bundle) else {}
        for name, spec in self.inputs.items():
            if not spec.is_label and name in examples and len(examples[name]):
                rows = examples[name]
                given[name] = rows[number % len(rows)][None]
        return resolve(self.inputs, given, number, 1)

    def words(self, asked: Mapping[str, np.ndarray]) -> str:
        """What the samples were asked to be, for people; empty where that cannot be said in words."""
        return words_of(self._first, self._first.program(SAMPLING), asked, 0)

    def condition(self, asked: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """For the file of answers, by name."""
        return {name: jsonable(row[0]) for name, row in asked.items()}

    def sample(self, model: str, number: int) -> np.ndarray:
        """`(*shape)`; made once, then read."""
        file = self._folder / SAMPLES / model / f"{number}.npy"
        with self._locks[model]:
            if file.is_file():
                return read_array_file(file)["x"]
            x = self.models[model].runner.run(
                SAMPLING, 1, seed=self.seed, start=number, inputs=self.asked(number)
            )[0]
            found = np.asarray(x.cpu() if hasattr(x, "cpu") else x)
            write_bytes(file, npy_bytes(found))
            return found

    def show(self, x: np.ndarray) -> Media:
        return modality_of(self.spec).show(x, self.spec, self._first.files)


def contestants_of(sources: Sources) -> Contestants:
    """Of what a studio was called with: of a run its bundle, where it has one. Raises CallError where they
    are fewer than two or make different things, NiwakiError where one is broken."""
    found = [
        Contestant(name, model.runner, hash_directory(model.path) if model.path.exists() else "")
        for name, model in sources.contestants().items()
    ]
    return Contestants(found, sources.folder, seed=sources.seed)
