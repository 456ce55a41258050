"""The newest checkpoint is damaged after a kill: the one before is taken, and that is said."""

from __future__ import annotations

import random
from pathlib import Path

from faulting.kills import judged, undone, went_on
from faulting.subject import Subject

__all__ = ["damage", "damaged", "newest"]

SAID = "is broken and was passed over"
TRIES = 6


def damaged(subject: Subject, rng: random.Random) -> tuple[str, list[str]]:
    """One trial: the call is killed, its newest checkpoint cut, changed, emptied or lost in part."""
    hit: Path | None = None
    for _ in range(TRIES):
        subject.reset()
        first = subject.call(kill_at=rng.randrange(max(1, subject.whole.changes)))
        hit = newest(subject.place) if first.status is None else None
        if hit is not None:
            break
    if hit is None:
        return "no two checkpoints", []
    way = damage(hit, rng)
    found, done = undone(subject)
    wrong = [said for said in found if hit.name not in said]
    second, came, again = went_on(subject, done)
    wrong += again
    if second.status == 0 and SAID not in second.err + second.out:
        wrong.append(f"nothing is said of the checkpoint that was {way}")
    return f"{way}: {came}", wrong + judged(subject, second)


def newest(place: Path) -> Path | None:
    """The newest checkpoint of the first training that has another one before it."""
    for folder in sorted(place.rglob("checkpoints")):
        found = sorted(path for path in folder.glob("step-*") if path.is_dir())
        if len(found) > 1:
            return found[-1]
    return None


def damage(checkpoint: Path, rng: random.Random) -> str:
    """Spoil one of its files; how."""
    path = checkpoint / rng.choice(("state.safetensors", "state.json"))
    way, data = rng.choice(("cut", "changed", "emptied", "lost")), path.read_bytes()
    if way == "lost":
        path.unlink()
    elif way == "changed":
        at = rng.randrange(len(data))
        # In a JSON file a changed digit would be another record that is whole; a changed brace is not.
        at = at if path.suffix != ".json" else 0
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :])
    else:
        path.write_bytes(data[: rng.randrange(len(data)) if way == "cut" else 0])
    return way
