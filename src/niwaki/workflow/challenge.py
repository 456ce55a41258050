"""A challenger of a run: the same recipe on data that have grown, trained on from the champion's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError
from niwaki.recipe import Recipe
from niwaki.workflow.run_directory import RunDirectory, is_run

__all__ = ["challenger_recipe", "next_place", "words_of"]

CHALLENGERS = "challengers"


def challenger_recipe(champion: RunDirectory, additions: Path) -> Recipe:
    """Raises CallError where the champion has no trained model, or the file is not there."""
    if not (champion.model / "model.json").is_file():
        raise CallError(f"{champion.path} holds no trained model yet; run `niwaki run {champion.path}` first")
    if not additions.is_file():
        raise CallError(
            f"{additions} is no file of samples; `niwaki watch {champion.path} --inputs …` writes one where "
            "inputs drift"
        )
    values = champion.recipe.model_dump(mode="json", exclude_unset=True)
    data = dict(values["data"])
    known = [str(Path(file).resolve()) for file in data.get("additions", ())]
    data["additions"] = [*known, *(f for f in [str(additions.resolve())] if f not in known)]
    train = {**values["train"], "init_from": str(champion.path.resolve())}
    train["remember"] = str(champion.path.resolve())
    return Recipe.model_validate({**values, "data": data, "train": train})


def next_place(champion: RunDirectory, additions: Path) -> Path:
    """`challengers/N`: that of an unfinished one with these additions, else a new one."""
    folder = champion.path / CHALLENGERS
    taken = (
        sorted((int(p.name), p) for p in folder.glob("[0-9]*") if p.name.isdigit()) if folder.is_dir() else []
    )
    for _, place in reversed(taken):
        if is_run(place) and not (place / "challenge.json").exists():
            known = RunDirectory.open(place).recipe.data.additions
            if str(additions.resolve()) in known:
                return place
    return folder / str(1 + (taken[-1][0] if taken else 0))


def words_of(verdict: Mapping[str, Mapping[str, Any]]) -> tuple[bool, str]:
    """Whether the challenger may take the champion's place, and why: it must lose nothing on any axis."""
    outcomes = {axis: str(found.get("outcome")) for axis, found in verdict.items() if found.get("outcome")}
    if not outcomes:
        return False, "no judge could compare them; the champion stays"
    lost = [axis for axis, outcome in outcomes.items() if outcome == "loss"]
    if lost:
        return False, f"the challenger loses {' and '.join(lost)}; the champion stays"
    unsettled = [axis for axis, outcome in outcomes.items() if outcome != "no loss"]
    if unsettled:
        return (
            False,
            f"whether the challenger loses {' and '.join(unsettled)} is not settled; the champion stays",
        )
    return True, "the challenger loses nothing on the data as they are now: it may take the champion's place"
