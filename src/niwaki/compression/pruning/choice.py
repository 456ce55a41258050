"""Which couplings may be cut, and where they are after a cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, couplings, merge_couplings
from niwaki.compression.pruning.structure import structure_of
from niwaki.compression.pruning.trial import Trial
from niwaki.core.contract import GenerativeModel

__all__ = ["again", "chosen_couplings"]

Chosen = tuple[list[Coupling], dict[str, str]]

_KEPT = 8
"""Structures whose couplings are remembered: a search cuts one model hundreds of times, and finding what may
be cut takes longer than the cut."""
_known: dict[tuple[object, ...], Chosen] = {}


def chosen_couplings(model: GenerativeModel, config: PruneConfig, seed: int = 0) -> Chosen:
    """The couplings that may be cut, and why the others may not (by key).

    seed: of the random weights that cuts are tried with
    Where channels of attention heads cannot be cut, or not exactly (the heads' width is in a scale), whole
    heads are cut instead, if they can be. They depend on no weight, and are remembered for models that differ
    in nothing else; what is cut in the end is tried once more (`niwaki.compression.pruning.channels`).
    """
    key = (structure_of(model), config.exclude, config.heads, seed, str(_offered(model)))
    if key not in _known:
        while len(_known) >= _KEPT:
            _known.pop(next(iter(_known)))
        _known[key] = _chosen(model, config, Trial(model, seed))
    found, skipped = _known[key]
    return list(found), dict(skipped)


def _chosen(model: GenerativeModel, config: PruneConfig, trial: Trial) -> Chosen:
    def tried(found: list[Coupling]) -> list[Coupling]:
        return [_excluded(model, trial.tried(_excluded(model, c, config)), config) for c in found]

    fine = tried(couplings(model)) if config.heads != "only" else []
    whole = couplings(model, heads=True) if config.heads != "never" else []
    heads = [
        c
        for c in tried([c for c in whole if not all(f.exact for f in fine if f.overlaps(c)) or not fine])
        if not c.protected
    ]
    heads = [c for c in heads if c.exact or not any(not f.protected for f in fine if f.overlaps(c))]
    fine = [c for c in fine if not any(c.overlaps(h) for h in heads)]
    for parts in _twins(fine):
        both = trial.tried(merge_couplings(parts))
        if not both.protected:
            fine = [c for c in fine if not any(c is p for p in parts)] + [both]
    skipped = {c.key: c.protected for c in fine if c.protected}
    return [c for c in (*fine, *heads) if not c.protected], skipped


def _twins(found: list[Coupling]) -> list[list[Coupling]]:
    """Couplings of one module that cannot be cut alone, and have as many units each."""
    alike: dict[tuple[str, int], list[Coupling]] = {}
    for c in found:
        if c.protected.startswith("a trial cut"):
            alike.setdefault((c.around, c.units), []).append(c)
    return [parts for parts in alike.values() if len(parts) > 1]


def again(model: GenerativeModel, chosen: dict[str, Coupling]) -> list[Coupling]:
    """The chosen couplings as they are now, narrower than before."""
    found = couplings(model) + (
        couplings(model, heads=True) if any(c.size > 1 for c in chosen.values()) else []
    )
    by_key = {c.key: c for c in found}
    found += [merge_couplings([by_key[k] for k in c.parts]) for c in chosen.values() if c.parts]
    out = []
    for one in found:
        if one.key in chosen and one.size == chosen[one.key].size:
            follows = tuple(f.now(model) for f in chosen[one.key].follows)
            out.append(replace(one, follows=follows))
    return out


def _excluded(model: GenerativeModel, coupling: Coupling, config: PruneConfig) -> Coupling:
    """The coupling, protected where the user excludes one of its layers or the model does not offer them
    all."""
    if coupling.protected:
        return coupling
    offered = _offered(model)
    for layer in coupling.layers:
        if any(_under(layer, name) for name in config.exclude):
            return replace(coupling, protected=f"'{layer}' is excluded")
        if offered is not None and not any(_under(layer, name) for name in offered):
            return replace(coupling, protected=f"the model does not offer '{layer}' for pruning")
    return coupling


def _offered(model: GenerativeModel) -> Any:
    """Names (or beginnings of names) of modules that a model declares as `prunable`, an attribute or a
    method; None where it declares none."""
    offered = getattr(model, "prunable", None)
    return offered() if callable(offered) else offered


def _under(layer: str, name: str) -> bool:
    return layer == name or layer.startswith(name + ".")
