"""Dropping whole blocks: which can be left out is found by running the model, which should by its samples."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.compression.arithmetic import parameters, sampling_graphs
from niwaki.compression.forward import check, losses, outputs, shapes
from niwaki.compression.pruning.channels import Recover
from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.pruning.slots import slots_of
from niwaki.compression.seeds import CALIBRATION
from niwaki.core.contract import GenerativeModel, NiwakiError, first_line
from niwaki.core.errors import NothingToDo
from niwaki.surgery.drop import Drop
from niwaki.training.stages import under

__all__ = ["Dropped", "candidates", "damage", "drop_blocks", "droppable"]

_SAMPLES = 32
_FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, KeyError, AttributeError)


@dataclass(frozen=True)
class Dropped:
    """What dropping blocks did.

    model:   without the blocks; its `surgery` says which
    damage:  dropped block → what was lost with it at that moment, as `damage` measures
    kept:    candidate that was kept → what would have been lost with it at the end
    skipped: candidate → why it cannot be dropped
    """

    model: GenerativeModel
    damage: dict[str, float]
    kept: dict[str, float]
    skipped: dict[str, str]


def drop_blocks(
    model: GenerativeModel,
    config: PruneConfig,
    *,
    condition: Any = None,
    recover: Recover | None = None,
) -> Dropped:
    """Leave `config.count` blocks (or `config.ratio` of those that can be, at least one) out of a copy.

    Greedy: the one whose absence moves the samples least, again after each. Of `config.blocks` those, in that
    order, whatever they do.
    condition: what the samples that are compared are asked for; None is the classes in turn
    recover:   training on, after each block but the last
    Raises NiwakiError where not as many blocks can be dropped.
    """
    model = copy.deepcopy(model).eval()
    whole, expected, trains = model, shapes(model), _trains(model)
    size = parameters(model)
    if config.blocks:
        return _named(model, config, size)
    reference = _samples(whole, condition)
    lost: dict[str, float] = {}
    found, skipped = candidates(model, config.exclude)
    options = _tried(model, found, reference, expected, trains, condition, skipped)
    count = config.count or max(1, round(config.ratio * len({d.module for _, d in options})))
    for k in range(1, count + 1):
        if not options:
            first = next(iter(skipped.items()), None)
            why = f" (of '{first[0]}': {first[1]})" if first else ""
            problem = NiwakiError if lost else NothingToDo
            raise problem(
                f"only {len(lost)} of {count} blocks can be dropped{why}; lower 'count' or 'ratio'"
                if lost
                else f"no block can be dropped: none gives back the shape that it was given{why}"
            )
        error, drop = min(options, key=lambda o: o[0])
        drop.apply(model)
        model.surgery = (*model.surgery, drop)
        lost[drop.module] = error
        if recover is not None and k < count:
            model = recover(model, k)
        found, _ = candidates(model, config.exclude)
        options = _tried(model, found, reference, expected, trains, condition, {})
    check(model, expected)
    if parameters(model) >= size:
        raise NothingToDo("the dropped blocks held no weights that sampling uses: nothing became smaller")
    kept: dict[str, float] = {}
    for error, drop in options:
        kept[drop.module] = min(error, kept.get(drop.module, error))
    return Dropped(model, lost, kept, skipped)


def _named(model: GenerativeModel, config: PruneConfig, size: int) -> Dropped:
    """The blocks of `config.blocks` left out of this model. Raises NiwakiError where one cannot be."""
    lost: dict[str, float] = {}
    for name in config.blocks:
        options, skipped = droppable(model, config.exclude, only=(name,))
        if name not in options:
            why = skipped.get(name)
            raise NiwakiError(
                f"the block '{name}' cannot be dropped: {why or 'the model has no block of that name'}"
            )
        before = outputs(model, state=False)
        options[name].apply(model)
        model.surgery = (*model.surgery, options[name])
        lost[name] = _moved(before, outputs(model, state=False))
    if parameters(model) >= size:
        raise NothingToDo("the dropped blocks held no weights that sampling uses: nothing became smaller")
    return Dropped(model, lost, {}, {})


def droppable(
    model: GenerativeModel, exclude: tuple[str, ...] = (), *, only: tuple[str, ...] = (), layers: int = 1
) -> tuple[dict[str, Drop], dict[str, str]]:
    """(blocks that can be left out, by name, of their two ways the one that moves the outputs of the graphs
    less; those that cannot → why). Nothing is sampled.

    only:   names of those that are asked for; empty for all
    layers: with weights, that a block holds at least
    """
    found, skipped = candidates(model, exclude)
    expected, trains, reference = shapes(model), _trains(model), outputs(model, state=False)
    best: dict[str, tuple[float, Drop]] = {}
    for drop in found:
        held = sum(_has_slots(m) for m in model.get_submodule(drop.module).modules())
        if held < layers or (only and drop.module not in only):
            continue
        try:
            trial = _without(model, drop, expected, trains)
            moved = _moved(reference, outputs(trial, state=False))
        except (NiwakiError, *_FAILURES) as error:
            skipped[drop.module] = f"without it the model fails: {first_line(error)}"
            continue
        if drop.module not in best or moved < best[drop.module][0]:
            best[drop.module] = moved, drop
    return {n: drop for n, (_, drop) in best.items()}, {n: w for n, w in skipped.items() if n not in best}


def _without(
    model: GenerativeModel, drop: Drop, expected: list[tuple[int, ...]], trains: bool
) -> GenerativeModel:
    """A copy without that block. Raises where it is no whole model any more."""
    trial = copy.deepcopy(model)
    drop.apply(trial)
    check(trial, expected)
    if trains:
        losses(trial)
    return trial


def _moved(reference: list[Tensor], made: list[Tensor]) -> float:
    """How far the outputs of the graphs moved, the most of them all."""
    return max((damage(a, b) for a, b in zip(reference, made, strict=True) if a.numel() > 1), default=0.0)


def candidates(model: GenerativeModel, exclude: tuple[str, ...] = ()) -> tuple[list[Drop], dict[str, str]]:
    """(submodules that sampling calls with a tensor of the shape that they return, each as it may be dropped;
    those that may not → why).

    Blocks of several layers, the innermost such; single layers where no such block is around them; blocks of
    several layers that lists hold.
    """
    seen: dict[nn.Module, str | None] = {}  # the argument with the output's shape; None where there is none
    paths = {m: n for n, m in model.named_modules()}

    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
        source = _source(inputs, named, out)
        seen[module] = source if seen.get(module, source) == source else None

    handles = [m.register_forward_hook(hook, with_kwargs=True) for m in model.modules()]
    roots = {id(model), *(id(g.module) for g in model.shipped_graphs().values())}
    try:
        with torch.no_grad():
            for graph in sampling_graphs(model).values():
                graph(*graph.example(2))
    finally:
        for handle in handles:
            handle.remove()
    layers = {m: sum(_has_slots(inner) for inner in m.modules()) for m in seen}
    fits = {m for m, source in seen.items() if source is not None and layers[m] and id(m) not in roots}
    blocks = {m for m in fits if layers[m] > 1}
    blocks = {m for m in blocks if not any(inner in blocks for inner in m.modules() if inner is not m)}
    listed = [m for m in _listed(model, seen) if m not in blocks and id(m) not in roots]
    inside = {inner for m in blocks for inner in m.modules()}
    single = {m for m in fits if layers[m] == 1 and m not in inside}
    single = {m for m in single if not any(o is not m and m in set(o.modules()) for o in single)}
    found: list[Drop] = []
    skipped: dict[str, str] = {}
    for module in (*(m for m in seen if m in blocks | single), *listed):
        path = paths.get(module)
        if path is None:
            continue
        if under(path, exclude):
            skipped[path] = f"'{path}' is excluded"
            continue
        if module in listed:
            found.append(Drop(path, fill="absent"))
            continue
        source = str(seen[module])
        found += [Drop(path, source, "input"), Drop(path, source, "zeros")]
    return found, skipped


def _listed(model: nn.Module, called: Mapping[nn.Module, Any]) -> list[nn.Module]:
    """Blocks of several layers that sampling calls, of lists that hold more than one of them: a list may be
    gone through by other methods than `forward`, which no hook sees."""
    found: dict[nn.Module, None] = {}
    for one in (m for m in model.modules() if isinstance(m, nn.ModuleList)):
        blocks = [m for m in one if sum(_has_slots(i) for i in m.modules() if i in called) > 1]
        if len(blocks) > 1:
            found |= dict.fromkeys(blocks)
    return list(found)


def _has_slots(module: nn.Module) -> bool:
    return any(True for _ in slots_of(module))


def _source(inputs: tuple[Any, ...], named: dict[str, Any], out: Any) -> str | None:
    """The first argument that is like the output: its position or name."""
    if not isinstance(out, Tensor) or not out.is_floating_point():
        return None
    for name, value in [*((str(i), v) for i, v in enumerate(inputs)), *named.items()]:
        if isinstance(value, Tensor) and value.shape == out.shape and value.dtype == out.dtype:
            return name
    return None


def _tried(
    model: GenerativeModel,
    found: list[Drop],
    reference: Tensor,
    expected: list[tuple[int, ...]],
    trains: bool,
    condition: Any,
    skipped: dict[str, str],
) -> list[tuple[float, Drop]]:
    """(what is lost, drop) of every drop that leaves a whole model; the reasons of the others go to
    `skipped`."""
    options: list[tuple[float, Drop]] = []
    for drop in found:
        try:
            trial = _without(model, drop, expected, trains)
            options.append((damage(reference, _samples(trial, condition)), drop))
        except (NiwakiError, *_FAILURES) as error:
            skipped[drop.module] = f"without it the model fails: {first_line(error)}"
    able = {d.module for _, d in options}
    for path in [p for p in skipped if p in able]:
        del skipped[path]  # one of its two ways works
    return options


def damage(reference: Tensor, made: Tensor) -> float:
    """How far samples moved, pair by pair: mean |difference| over the reference's standard deviation; of
    tokens the share that changed."""
    if not reference.is_floating_point():
        return float((reference != made).double().mean())
    if not bool(torch.isfinite(made).all()):
        return float("inf")
    return float((reference - made).double().abs().mean() / reference.double().std().clamp_min(1e-12))


def _samples(model: GenerativeModel, condition: Any) -> Tensor:
    return model.sample(_SAMPLES, seed=CALIBRATION, condition=condition)


def _trains(model: GenerativeModel) -> bool:
    try:
        losses(copy.deepcopy(model))
    except (NiwakiError, *_FAILURES):
        return False  # its loss needs more than a plain batch: nothing can be said about it here
    return True
