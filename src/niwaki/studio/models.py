"""Models that pages ask for samples: opened when they are first asked, one caller at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, NiwakiError, Runner
from niwaki.data.inputs import make_inputs
from niwaki.serving.limits import check_options, check_work
from niwaki.serving.settings import Limits
from niwaki.workflow.context import context_for
from niwaki.workflow.subjects.subject import home_of, is_bundle, open_subject
from niwaki_runtime import Bundle, inspect
from niwaki_runtime.programs import SAMPLING, Program

__all__ = ["Model"]


class Model:
    """A bundle, a trained model of a run, or a saved model.

    name: in lists and addresses
    what: `trained model` or `bundle`, with the engine once it is open
    home: the run that says which data belong to it
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.home = name, path, home_of(path)
        self._lock = threading.RLock()

    @property
    def what(self) -> str:
        if not is_bundle(self.path):
            return "trained model"
        return f"bundle on {self.runner.engine}" if isinstance(self._opened, Bundle) else "bundle"

    _opened: Runner | None = None

    @property
    def runner(self) -> Any:
        """Raises NiwakiError where it cannot be opened, CallError where it is no model."""
        with self._lock:
            if self._opened is None:
                self._opened = open_subject(self.path, device="cpu").runner
            if self._opened is None:
                raise CallError(f"{self.path} is no model that makes samples")
            return self._opened

    @cached_property
    def programs(self) -> Mapping[str, Program]:
        """Of a bundle without opening its networks. Raises NiwakiError as `runner` does."""
        return inspect(self.path).programs if is_bundle(self.path) else self.runner.programs()

    def does(self, program: str) -> bool:
        """Whether it has a program; a broken one has none."""
        try:
            return program in self.programs
        except NiwakiError:
            return False

    @property
    def output(self) -> Any:
        """What its samples are."""
        return self.programs[SAMPLING].output

    @contextmanager
    def held(self) -> Iterator[Any]:
        """Its runner, for one caller alone."""
        with self._lock:
            yield self.runner

    def run(
        self, program: str, n: int, *, seed: int, start: int, inputs: Any, options: Any, limits: Limits
    ) -> np.ndarray:
        """Results start … start+n−1, within limits. Raises CallError for what the model cannot do."""
        if not 0 < n <= limits.samples:
            raise CallError(f"1 … {limits.samples} samples are made at once, not {n}")
        settings = check_options(options or {}, limits)
        with self.held() as runner:
            check_work(runner.program(program), settings, limits)
            made = runner.run(program, n, seed=seed, start=start, inputs=inputs, **settings)
            return np.asarray(runner.backend().numpy(made))

    def examples(self, program: str, n: int) -> dict[str, np.ndarray]:
        """Up to n rows of inputs that have no default: of the validation split of its run's data, else those
        that the bundle carries; empty where there are neither."""
        with self.held() as runner:
            if self.home is not None:
                split = self.dataset.validation
                return make_inputs(runner, program, min(n, len(split)), split)
            return runner.example_inputs(program, n) if isinstance(runner, Bundle) else {}

    def real(self, n: int) -> np.ndarray:
        """The first n samples of the validation split `(n, *shape)`; none where nothing says which data
        belong to it."""
        if self.home is None:
            return np.empty((0, *self.output.shape), self.output.dtype)
        return np.asarray(self.dataset.validation.values()[:n].cpu().numpy())

    @cached_property
    def dataset(self) -> Any:
        """The data of its run. Raises CallError where it is of none."""
        if self.home is None:
            raise CallError(f"'{self.name}' is of no run, so that nothing says which data belong to it")
        return context_for(self.home).dataset
