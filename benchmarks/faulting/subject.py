"""One verb with all that a trial needs: a place to work in, and what the call leaves undisturbed."""

from __future__ import annotations

import json
import shutil
from functools import cached_property
from pathlib import Path

from faulting.children import Child, Ended, start
from faulting.states import different, state_of
from faulting.verbs import Verb, call, prepare

__all__ = ["Subject"]


class Subject:
    """A verb in the folder `place`, always the same one, so that paths are no difference.

    whole_run: a folder with a finished run, from which what the verb finds is copied
    logs:      where its output goes
    """

    def __init__(self, verb: Verb, place: Path, whole_run: Path, logs: Path) -> None:
        self.verb, self.place, self.whole_run, self.logs = verb, place, whole_run, logs
        self.before: dict[str, str] = {}
        self.after: dict[str, str] = {}
        self.at_first: dict[str, str] = {}
        self.room, self.largest_file = 0, 0  # bytes: that the call needs, about; that it writes into one file

    def reset(self) -> None:
        """Everything as the verb finds it."""
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        prepare(self.place, self.whole_run, self.verb)

    @cached_property
    def whole(self) -> Ended:
        """The undisturbed call, twice: its results must be the same to begin with.

        Raises RuntimeError where it fails, or gives another result the second time.
        """
        ended: list[Ended] = []
        for _ in range(2):
            self.reset()
            self.before, self.at_first = state_of(self.place), self.finished()
            sizes = self._sizes()
            ended.append(self.call(counting=True))
            if ended[-1].status != 0:
                raise RuntimeError(f"'{self.verb.name}' fails undisturbed: {ended[-1].err}")
            after = state_of(self.place)
            if self.after and (said := different(after, self.after)):
                raise RuntimeError(f"'{self.verb.name}' is not the same twice: {said}")
            self.after = after
            changed = [
                size for name, size in self._sizes().items() if self.before.get(name) != after.get(name)
            ]
            self.largest_file = max(changed, default=1)
            self.room = sum(self._sizes().values()) - sum(sizes.values()) + 2 * self.largest_file
        return ended[-1]

    def start(self, *, more: tuple[str, ...] = (), log: str = "first", **how: object) -> Child:
        """Begin the call, as `children.start` says; `log` names the files of its output."""
        cache, tmp = str(self.place / "cache"), str(self.place / "tmp")
        return start(
            call((*self.verb.words, *more)),
            self.logs / log,
            place=self.place,
            environment={"NIWAKI_CACHE": cache, "TMPDIR": tmp, "HF_HUB_OFFLINE": "1"},
            **how,  # type: ignore[arg-type]
        )

    def call(self, *, kill_after: float | None = None, **how: object) -> Ended:
        return self.start(**how).wait(kill_after)  # type: ignore[arg-type]

    def state(self) -> dict[str, str]:
        return state_of(self.place)

    def untouched(self) -> dict[str, str]:
        """What lies there before and is the same afterwards: it may at no moment be other, but for the word
        that a stage has begun."""
        same = {name: content for name, content in self.before.items() if self.after.get(name) == content}
        return {name: content for name, content in same.items() if not name.startswith("run/stages/")}

    def finished(self) -> dict[str, str]:
        """When each stage of the run was finished, for those that are."""
        found = {}
        for path in sorted((self.place / "run" / "stages").glob("*.json")):
            record = json.loads(path.read_text())
            if record["status"] == "done":
                found[path.stem] = record["finished"]
        return found

    def _sizes(self) -> dict[str, int]:
        files = (path for path in self.place.rglob("*") if path.is_file())
        return {path.relative_to(self.place).as_posix(): path.stat().st_size for path in files}
