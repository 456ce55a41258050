"""Whether a training may go on from a checkpoint: what it was made from, and what may be different now.

Everything that the weights follow from is in the checkpoint: the settings, the seed, the whole config of the
model, the data's content, the weights that it began with. One difference is allowed, for it makes a training
longer and nothing of what was done wrong: more steps of the stage that it stopped in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from niwaki.core.differences import ABSENT, Difference, differences
from niwaki.core.store import hash_tensors, jsonable
from niwaki.data import Split
from niwaki.training.config import TrainConfig
from niwaki.training.identity import identity
from niwaki.training.schedule import lr_factor
from niwaki_runtime.errors import CallError

__all__ = ["Changes", "about_of", "changes", "joined", "may_go_on"]

_HASH = re.compile(r"[0-9a-f]{64}")
_MORE = 4
"""Differences that are named; further ones are counted."""


@dataclass(frozen=True)
class Changes:
    """What is not as it was when a checkpoint was written.

    refused: differences with which it cannot be gone on
    longer:  (steps of the stage then, now), where the training is only to be longer
    notes:   what could not be compared, or may change the last bits
    """

    refused: tuple[Difference, ...] = ()
    longer: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.refused) or self.longer is not None


def about_of(model: Any, split: Split, *, whole: bool) -> dict[str, Any]:
    """What is known of a training whose caller says nothing about its data and model.

    whole: whether the split itself is trained on, and not another source of batches
    """
    config = getattr(model, "config", None)
    about: dict[str, Any] = {"data": {"content": hash_tensors(split.tensors())}} if whole else {}
    return about | ({"model": jsonable(config)} if hasattr(config, "model_dump") else {})


def changes(record: Mapping[str, Any], config: TrainConfig, seed: int, about: Mapping[str, Any]) -> Changes:
    """What differs between the training that wrote a checkpoint and the present one, by the recipe's keys.

    record: of the checkpoint; parts that older versions did not write are not compared
    about:  `data`, `model` and whatever else the weights follow from; `code` only leads to a note
    """
    then = record["identity"]
    known = dict(then.get("about", {}))
    now: dict[str, Any] = jsonable(about)
    found = differences({"seed": then["run"]["seed"]}, {"seed": seed})
    notes = []
    if known.get("code") and now.get("code") and known["code"] != now["code"]:
        notes.append("resumed with other code of the model than it was trained with so far")
    for part in (k for k in known if k != "code" and k in now):
        found += differences(known[part], now[part], part)
    if "about" not in then and now:
        notes.append(
            "the checkpoint was written by an older niwaki, which did not record the data and the model's "
            "settings: whether they are the same could not be checked"
        )
    ours = jsonable(identity(config))
    settings = differences(then["settings"], ours, "train")
    lengths = _lengths(record, config)
    longer = None
    for one in settings:
        if lengths is not None and one.key == lengths.key and lengths.possible:
            longer = lengths.then, lengths.now
        else:
            found.append(one)
    if longer is not None:
        notes.append(_about_more_steps(record, config, *longer))
    return Changes(tuple(found), None if found else longer, tuple(notes))


@dataclass(frozen=True)
class _Lengths:
    """Steps of the stage in which a checkpoint was written: the key that says them, then and now, and how
    many are done."""

    key: str
    then: int
    now: int
    done: int
    ended: bool

    @property
    def possible(self) -> bool:
        """Not where early stopping ended the stage: no step would follow."""
        return self.now > self.done and not (self.ended and self.done < self.then)


def _lengths(record: Mapping[str, Any], config: TrainConfig) -> _Lengths | None:
    place, settings = record.get("position"), record["identity"]["settings"]
    if place is None:
        return None
    index, stages = int(place["stage"]), settings.get("stages") or ()
    if len(stages) != len(config.stages):
        return None
    key = f"train.stages.{index}.steps" if stages else "train.steps"
    then = int(stages[index]["steps"] if stages else settings["steps"])
    done = int(record["step"]) - int(place["start"])
    return _Lengths(key, then, config.all_stages[index].steps, done, bool(place["ended"]))


def goes_further(record: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether the stage that a checkpoint calls ended has steps left now."""
    lengths = _lengths(record, config)
    return lengths is not None and lengths.ended and lengths.possible and lengths.now != lengths.then


def _about_more_steps(record: Mapping[str, Any], config: TrainConfig, then: int, now: int) -> str:
    """What more steps mean for the learning rate of those that are done and those that follow."""
    place = record["position"]
    stage = config.all_stages[int(place["stage"])]
    settings, done = config.of_stage(stage), int(record["step"]) - int(place["start"])

    def rate(step: int, steps: int) -> float:
        return lr_factor(step, steps, settings.warmup, settings.schedule)

    same = all(rate(step, then) == rate(step, now) for step in range(done))
    name = settings.schedule if isinstance(settings.schedule, str) else settings.schedule["name"]
    begun = f"{done} of {then} steps are done, and there are {now} now: "
    best = (
        " It goes on from the best weights, which 'train.keep_best' has returned to."
        if settings.keep_best and place["ended"]
        else ""
    )
    if same:
        return (
            begun
            + f"the schedule '{name}' is the same for them, as if {now} had been asked for at once.{best}"
        )
    return (
        begun + f"the schedule '{name}' is stretched over {now}, so that the learning rate, which was last "
        f"{_share(rate(done - 1, then) if done else 0.0)} of its peak, goes on at "
        f"{_share(rate(done, now))} and ends at {_share(rate(now - 1, now))}. That is not the training of "
        f"{now} steps at once, whose rate would have been another before.{best}"
    )


def _share(value: float) -> str:
    return f"{value:.1%}" if value >= 0.001 or value == 0 else f"{value:.1g}"


def may_go_on(found: Changes, place: Any, model: Sequence[Difference] = ()) -> None:
    """Raises CallError that names what changed, where a training cannot go on from a checkpoint at `place`.

    model: differences of the names and shapes of its weights
    """
    refused = [*found.refused, *model]
    if not refused:
        return
    raise CallError(
        f"{place} cannot be resumed because {joined(refused)}; change it back, begin again (--fresh, which "
        "gives up what is there), or train in another directory (--out)"
    )


def joined(found: Sequence[Difference]) -> str:
    """Differences in one clause, by the recipe's keys: `model.beta was 1.0 and is 77.0`."""
    said = [_said(one) for one in found]
    rest = [f"{len(said) - _MORE} more"] if len(said) > _MORE else []
    parts = said[:_MORE] + rest
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _said(one: Difference) -> str:
    hashes = [v for v in (one.then, one.now) if isinstance(v, str) and _HASH.fullmatch(v)]
    if one.key == "data.content":
        return "the data (data.content) are not those that it was trained on"
    if hashes and one.then is not ABSENT and one.now is not ABSENT:
        return f"the content of {one.key} is another"
    return str(one)
