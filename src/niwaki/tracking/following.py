"""Hands trackers what a run directory holds, as it comes.

Lines of every log (`metrics.jsonl`) are counted: a training that was killed and resumed writes the same lines
again, bit for bit, so those that were handed on before are passed over.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.core.errors import first_line
from niwaki.core.store import read_json, read_jsonl, write_json
from niwaki.tracking.base import About, TrackConfig, Tracker, check_installed, open_tracker
from niwaki.tracking.logs import Log, logs_of

__all__ = ["Following", "leaves"]

FOLDER = "tracking"
_SECONDS_BETWEEN_LOOKS = 2.0
_LONGEST = 200
"""Characters of a word in a summary."""


class Following:
    """The trackers of one run directory, open while a stage works. Use it as a context manager.

    note: told once, in a sentence, of a tracker that fails; the others go on, and so does the work
    """

    def __init__(
        self,
        run: Path,
        name: str,
        settings: Mapping[str, Any],
        configs: Sequence[TrackConfig],
        note: Callable[[str], None],
    ) -> None:
        self.run, self.name, self.settings, self.configs, self.note = run, name, settings, configs, note
        self._open: dict[str, Tracker] = {}
        self._failed: set[str] = set()
        self._state: dict[str, Any] | None = None  # what `_file` holds, once it was read
        self._looked = -math.inf

    def check(self) -> None:
        """Raises CallError where a tracker cannot be opened for want of its package."""
        for config in self.configs:
            check_installed(config)

    def forget(self) -> None:
        """The training begins anew: what was tracked of the one before is another run's."""
        self.close()
        self._state = None
        with contextlib.suppress(FileNotFoundError):
            self._file.unlink()
        for config in self.configs:
            shutil.rmtree(self.run / FOLDER / config.name, ignore_errors=True)
        left = {log.key: [len(read_jsonl(log.path)), 0] for log in logs_of(self.run) if log.key}
        if self.configs and left:  # of a plan for the training before
            self._remember(logs=left)

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        self.look(always=True)
        self.close()

    def look(self, *, always: bool = False) -> None:
        """Hand on the lines that are new; cheap enough to be called at every step."""
        now = time.monotonic()
        if not self.configs or (not always and now - self._looked < _SECONDS_BETWEEN_LOOKS):
            return
        self._looked = now
        for log in logs_of(self.run):
            self._hand_on(log)

    def _hand_on(self, log: Log) -> None:
        lines = read_jsonl(log.path)
        sent, base = self._sent(log)
        for line in lines[sent:]:
            values = {
                log.prefix + name: float(value)
                for name, value in line.items()
                if name != "step" and isinstance(value, int | float) and math.isfinite(value)
            }
            step = base + int(line.get("step", 0))
            self._each(lambda t, s=step, v=values: t.scalars(s, v))  # type: ignore[misc]
        if len(lines) > sent:
            last = base + int(lines[-1].get("step", 0))
            self._remember_sent(log, len(lines), base, last)

    def _sent(self, log: Log) -> tuple[int, int]:
        """How many lines of a log were handed on, and the step that its own first one follows: some trackers
        take no step that is smaller than one before it."""
        if not log.key:
            return int(self._known.get("lines", 0)), 0
        if (known := self._known.get("logs", {}).get(log.key)) is not None:
            return known[0], known[1]
        return 0, max(int(self._known.get("last", 0)), self._step)

    def _remember_sent(self, log: Log, lines: int, base: int, last: int) -> None:
        if not log.key:
            self._remember(lines=lines)
            return
        logs = {**self._known.get("logs", {}), log.key: [lines, base]}
        self._remember(logs=logs, last=max(last, int(self._known.get("last", 0))))

    def record(self, stage: str, file: Path) -> None:
        """Hand on the numbers and words of what a stage has found."""
        if self.configs:
            values = leaves(read_json(file), stage)
            self._each(lambda t: t.summary(values))

    def picture(self, name: str, png: bytes) -> None:
        step = self._step
        self._each(lambda t: t.picture(name, step, png))

    def text(self, name: str, text: str) -> None:
        step = self._step
        self._each(lambda t: t.text(name, step, text))

    def close(self) -> None:
        for name in list(self._open):
            self._tried(name, self._open.pop(name).close)

    # ── one tracker's fault is no other's

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for config in self.configs:
            if config.name in self._failed:
                continue
            if config.name not in self._open:
                self._tried(config.name, lambda c=config: self._begin(c))  # type: ignore[misc]
            if config.name in self._open:
                self._tried(config.name, lambda n=config.name: call(self._open[n]))  # type: ignore[misc]

    def _begin(self, config: TrackConfig) -> None:
        folder = self.run / FOLDER / config.name
        folder.mkdir(parents=True, exist_ok=True)
        about = About(self.name, config.project, self._identity, self.settings, folder)
        self._open[config.name] = open_tracker(config, about)

    def _tried(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # tracking is for looking on: nothing that it does may stop the work
            self._failed.add(name)
            self._open.pop(name, None)
            self.note(f"tracking by {name} has stopped ({type(error).__name__}: {first_line(error)})")

    # ── what was handed on before

    @property
    def _file(self) -> Path:
        return self.run / FOLDER / "state.json"

    @property
    def _known(self) -> dict[str, Any]:
        if self._state is None:
            found: dict[str, Any] = read_json(self._file) if self._file.exists() else {}
            self._state = found
        return self._state

    @property
    def _identity(self) -> str:
        if "identity" not in self._known:
            self._remember(identity=secrets.token_hex(8))
        return str(self._known["identity"])

    @property
    def _step(self) -> int:
        """The last one of the run's own training."""
        lines = read_jsonl(self.run / "metrics.jsonl")
        return int(lines[-1].get("step", 0)) if lines else 0

    def _remember(self, **changes: Any) -> None:
        self._known.update(changes)
        self._file.parent.mkdir(exist_ok=True)
        write_json(self._file, self._known)


def leaves(value: Any, name: str) -> dict[str, float | str]:
    """The finite numbers and short words inside of nested mappings, by `name/key/key`. Lists are left
    out."""
    if isinstance(value, Mapping):
        found: dict[str, float | str] = {}
        for key, inner in value.items():
            found |= leaves(inner, f"{name}/{key}")
        return found
    if isinstance(value, bool):
        return {name: json.dumps(value)}
    if isinstance(value, int | float):
        return {name: float(value)} if math.isfinite(value) else {}
    return {name: value} if isinstance(value, str) and 0 < len(value) <= _LONGEST else {}
