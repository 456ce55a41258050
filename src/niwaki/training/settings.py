"""How the settings of a training fall together: optimizers from their shorthand, stages over the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from niwaki.core.sentences import sentence
from niwaki.training import adaptive_decay, schedule_free_config, wrapping  # noqa: F401  register optimizers
from niwaki.training.optimizers import OptimizerConfig, optimizer_class
from niwaki_runtime.errors import CallError, nearest

__all__ = ["DEFAULT", "SHORT", "choose_optimizer", "over", "spelled_out"]

DEFAULT = "default"
"""Name of the settings of every optimizer that has none of its own."""

SHORT = {"name": "optimizer", "lr": "lr", "betas": "betas", "weight_decay": "weight_decay"}
"""Settings of `optimizers.default` → their shorthand in `TrainConfig`."""

Entries = Mapping[str, Mapping[str, Any]]


def choose_optimizer(
    name: str,
    entries: Entries,
    *,
    kind: str,
    lr: float | Mapping[str, float],
    betas: tuple[float, float] | None,
    weight_decay: float,
) -> OptimizerConfig:
    """The settings of the optimizer `name`.

    An entry changes single settings of `default`; one that names another optimizer shares its rate and decay
    alone. What `default` does not say follows from the shorthand:

    kind, lr, betas, weight_decay: `train.optimizer` and so on; rates by name go before that of `default`,
                                   betas None are those of the optimizer
    Raises CallError for an unknown optimizer, a setting that it does not have, or a rate that is missing.
    """
    default, own = dict(entries.get(DEFAULT, {})), dict(entries.get(name, {}))
    common = default.pop("name", kind)
    cls = optimizer_class(own.pop("name", common))
    shared = cls.model_fields if cls is optimizer_class(common) else OptimizerConfig.model_fields
    settings: dict[str, Any] = {"weight_decay": weight_decay}
    settings |= {} if betas is None else cls.from_betas(betas)
    settings |= default if name == DEFAULT else {k: v for k, v in default.items() if k in shared}
    rate = lr.get(name, lr.get(DEFAULT)) if isinstance(lr, Mapping) else lr
    if isinstance(lr, Mapping) and name in lr:
        settings["lr"] = rate
    elif rate is not None:
        settings.setdefault("lr", rate)
    settings |= own
    if "lr" not in settings:
        raise CallError(
            f"train.lr is given by optimizer but lacks '{name}'; it has {', '.join(sorted(lr))}"  # type: ignore[arg-type]
        )
    for key in settings:
        if key not in cls.model_fields:
            raise CallError(
                f"train.optimizers.{name} has no setting '{key}'; {nearest(key, cls.model_fields)}"
            )
    try:
        return cls.model_validate(settings)
    except ValidationError as error:
        raise CallError(sentence(error, cls, section=f"train.optimizers.{name}")) from None


def spelled_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training with what their shorthand means: `curriculum: length`, `pretrain: simclr`,
    and no schedule where the optimizer's own average takes its place."""
    full = dict(values)
    if isinstance(full.get("curriculum"), str):
        full["curriculum"] = {"by": full["curriculum"]}
    if isinstance(full.get("pretrain"), str):
        full["pretrain"] = {"by": full["pretrain"]}
    entries = full.get("optimizers")
    entry = entries.get(DEFAULT) if isinstance(entries, Mapping) else None
    name = entry.get("name") if isinstance(entry, Mapping) else None
    name = full.get("optimizer") if name is None else name
    if "schedule" not in full and isinstance(name, str) and optimizer_class(name).averages:
        full["schedule"] = "constant"
    return full


def over(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training with those that a stage gives over them.

    Weights and optimizers are merged by name, everything else is replaced. A setting given in shorthand
    (`lr: 1e-3`) holds for every optimizer, whatever the whole training says of single ones.
    """
    merged = {**base, **given}
    entries = {name: dict(entry) for name, entry in base["optimizers"].items()}
    if "optimizer" in given:
        entries = {n: e for n, e in entries.items() if n != DEFAULT}  # its settings were another optimizer's
    rates = given.get("lr")
    for key in ("lr", "betas", "weight_decay"):
        if given.get(key) is not None:
            _drop(entries, key, rates if key == "lr" and isinstance(rates, Mapping) else entries)
    if isinstance(rates, Mapping):
        before = base.get("lr", {})  # absent where `optimizers` say it
        merged["lr"] = {**(before if isinstance(before, Mapping) else {DEFAULT: before}), **rates}
    for name, entry in given.get("optimizers", {}).items():
        same = "name" not in entry or entry["name"] == entries.get(name, {}).get("name")
        entries[name] = {**entries.get(name, {}), **entry} if same else dict(entry)
    for key, short in SHORT.items():
        changed = key in given.get("optimizers", {}).get(DEFAULT, {}) and short not in given
        if changed and not isinstance(merged.get(short), Mapping):
            merged.pop(short, None)  # the shorthand of the whole training is overridden
    merged["optimizers"] = entries
    merged["loss_weights"] = {**base["loss_weights"], **given.get("loss_weights", {})}
    return merged


def _drop(entries: dict[str, dict[str, Any]], key: str, names: Iterable[str]) -> None:
    for name in names:
        entries.get(name, {}).pop(key, None)
