"""Sensitivity: what each layer costs, on fidelity and on diversity, when it alone is pruned or rounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from niwaki.compression.arithmetic import macs, parameters
from niwaki.compression.sensitivity.config import SensitivityConfig
from niwaki.compression.sensitivity.entry import Entry, Sensitivity
from niwaki.compression.sensitivity.scale import Scale, cheapest, drawn
from niwaki.compression.sensitivity.trials import Tried, layers_in_order, trials
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import hash_json, hash_tensors, read_json, write_json
from niwaki.data import Dataset
from niwaki.features import Extractor, build
from niwaki.models.io import model_record

__all__ = ["sensitivity"]

_SAVED = 2.0  # seconds between writes

Progress = Callable[[int, int, dict[str, Any]], None]


def sensitivity(
    model: GenerativeModel,
    dataset: Dataset,
    config: SensitivityConfig | None = None,
    *,
    extractors: Sequence[Extractor] | None = None,
    fit: Mapping[str, bool | None] | None = None,
    seed: int = 0,
    condition: Any = None,
    path: Path | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Try every layer of `model` alone, and compare its samples with the model's own at the same noise.

    Each trial costs `config.n` samples; those that matter are repeated with `config.confirm_n`: in turns the
    most damaging, and those whose interval reaches across the margin and that would save most.

    dataset:    its validation split (filled up from train to 200 samples) is what samples lie among; the test
                split is not touched
    extractors: who may look at the samples; the cheapest that is not unfit does. Default: `random`
    fit:        what is known of their fitness, by name
    condition:  what samples are asked for; None is the classes in turn
    path:       JSON file, written as it goes; a second call with the same model, data and settings goes on
    progress:   called with (trials done, in all, figures)
    Raises CallError for too little data, NiwakiError where no margin can be measured.
    """
    config = config or SensitivityConfig()
    model = model.eval()
    one = cheapest(extractors if extractors is not None else build(["random"], dataset, seed=seed), fit or {})
    key = hash_json(
        [model_record(model), hash_tensors(model.state_dict()), dataset.fingerprint, one.fingerprint]
        + [config.model_dump(mode="json"), seed]
    )
    kept = _kept(path, key)
    more = max(config.n, config.confirm_n) if config.confirm else config.n
    before = drawn(model, more, seed, condition)
    scale = Scale(before, dataset, one, margins=config.margins, n=config.n, seed=seed)
    todo = trials(model, config, seed=seed, condition=condition)
    book = _Book(model, tuple(layers_in_order(model)), scale, seed, key, condition, path, kept)
    total = len(todo) + min(config.confirm, len(todo))
    for done, tried in enumerate(todo):
        _tell(progress, done, total, tried)
        if tried_key(tried) not in book.entries:
            book.enter(tried, config.n)
    by_key = {tried_key(t): t for t in todo}
    if book.chosen is None:  # kept: what was confirmed since then must not change what else is
        found = _mattering(list(book.entries.values()), config.confirm) if more > config.n else []
        book.chosen = tuple(entry.key for entry in found)
    for done, place in enumerate(book.chosen):
        _tell(progress, len(todo) + done, total, by_key[place])
        if not book.entries[place].confirmed:
            book.enter(by_key[place], more, confirmed=True)
    if progress:
        progress(total, total, {})
    book.write()
    return book.result()


def tried_key(tried: Tried) -> tuple[str, str, float]:
    return (tried.layer, tried.technique, tried.strength)


def _tell(progress: Progress | None, done: int, total: int, tried: Tried) -> None:
    if progress:
        progress(done, total, {"layer": tried.layer, tried.technique: f"{tried.strength:g}"})


def _kept(path: Path | None, key: str) -> Sensitivity | None:
    if path is None or not path.exists():
        return None
    record = read_json(path)
    return Sensitivity.from_json(record) if record.get("key") == key else None


def _mattering(entries: list[Entry], most: int) -> list[Entry]:
    """The most damaging and, in turns with them, the undecided that would save most."""
    able = [e for e in entries if e.fidelity is not None]
    worst = sorted(able, key=lambda e: -e.worst)
    open_ = sorted((e for e in able if e.undecided), key=lambda e: -e.bytes)
    chosen: dict[tuple[str, str, float], Entry] = {}
    for i in range(len(worst)):
        for row in (worst, open_):
            if i < len(row) and len(chosen) < most:
                chosen.setdefault(row[i].key, row[i])
    return list(chosen.values())


class _Book:
    """The entries so far, and their file."""

    def __init__(
        self,
        model: GenerativeModel,
        layers: tuple[str, ...],
        scale: Scale,
        seed: int,
        key: str,
        condition: Any,
        path: Path | None,
        kept: Sensitivity | None,
    ) -> None:
        self.layers, self.scale, self.seed, self.key = layers, scale, seed, key
        self.condition, self.path = condition, path
        self.sizes = parameters(model), macs(model)
        self.entries = {e.key: e for e in (kept.entries if kept else ())}
        self.chosen = kept.chosen if kept else None
        self.written = 0.0

    def enter(self, tried: Tried, n: int, *, confirmed: bool = False) -> None:
        blank = Entry(*tried_key(tried), None, None, n, together=tried.together, bytes=tried.bytes)
        try:
            made = tried.make()
            found = self.scale.damage(drawn(made, n, self.seed, self.condition))
            entry = replace(
                blank, fidelity=found["fidelity"], diversity=found["diversity"], confirmed=confirmed
            )
            if tried.technique == "prune":
                fewer, less = (a - b for a, b in zip(self.sizes, (parameters(made), macs(made)), strict=True))
                entry = replace(entry, parameters=fewer, macs=less, bytes=4 * fewer)
        except NiwakiError as error:
            entry = replace(blank, reason=str(error))
        self.entries[entry.key] = entry
        if time.monotonic() - self.written > _SAVED:
            self.write()

    def result(self) -> Sensitivity:
        entries, scale = tuple(self.entries.values()), self.scale
        return Sensitivity(
            self.layers,
            entries,
            scale.margins,
            scale.extractor.name,
            len(scale.real),
            self.seed,
            self.key,
            self.chosen,
        )

    def write(self) -> None:
        if self.path is not None:
            write_json(self.path, self.result())
            self.written = time.monotonic()
