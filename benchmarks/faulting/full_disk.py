"""A disk that fills up in a call: one sentence, nothing lost, and with space again the same result."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faulting.states import broken, different
from faulting.subject import Subject

__all__ = ["filled", "small_disk"]

SIZE = 96 << 20


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """A file system of its own at `place`, where this process may mount one; whether it is."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


def filled(subject: Subject, rng: random.Random, *, mounted: bool) -> tuple[str, list[str]]:
    """One trial. Where no disk could be mounted, a limit of the files' sizes takes its place."""
    subject.reset()
    if mounted:
        ballast, room = subject.place / "ballast", int(rng.random() * subject.room)
        free = shutil.disk_usage(subject.place).free
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))
        first = subject.call()
        ballast.unlink()
    else:
        first = subject.call(largest=int(rng.random() * subject.largest_file))
    if first.status == 0:
        came, wrong = "had room enough", []
    else:
        came, wrong = "refused", _refusal(first.status, first.err)
    wrong += broken(subject.place)
    found = subject.state()
    untouched = subject.untouched()
    wrong += [f"with the disk full {said}" for said in different(found, {**found, **untouched})]
    second = subject.call()
    if second.status == 2 and subject.verb.again and "add --resume" in second.err:
        second = subject.call(more=subject.verb.again)
    if second.status != 0:
        return came, [*wrong, f"with space again the call ends with {second.status}: {second.sentence}"]
    return came, wrong + different(subject.state(), subject.after)


def _refusal(status: int | None, err: str) -> list[str]:
    lines = err.strip().splitlines()
    last = lines[-1] if lines else ""
    wrong = [] if status == 1 else [f"the call ends with {status}: {last}"]
    if not last.startswith(("niwaki: ", "niwaki-runtime: ")) or "Traceback" in err or "defect" in err:
        wrong.append(f"no sentence: {last[:200]}")
    elif not any(word in last for word in ("space", "large", "quota")):
        wrong.append(f"the sentence does not name the reason: {last[:300]}")
    return wrong
