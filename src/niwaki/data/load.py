"""From a config to a data set: read, divide, audit, fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.core.store import hash_bytes, hash_json, hash_tensors
from niwaki.data import audit
from niwaki.data.additions import append_additions
from niwaki.data.audit import Audit, Finding
from niwaki.data.config import DataConfig, Pool, Progress, registered
from niwaki.data.dataset import Dataset, Split
from niwaki.data.derived import derived_columns
from niwaki.data.feeder import permutation
from niwaki.data.reading.captions import NOTHING
from niwaki.data.remedies import Remedies, copies, fill_in, outliers
from niwaki.data.splitting import EXTRA, OOD, SPLITS, by_hash, hash_samples
from niwaki_runtime.tokenizer import FILE

__all__ = ["load"]


def load(config: DataConfig, progress: Progress | None = None) -> Dataset:
    """Read what `config` names and divide it.

    progress: called with (files done, files in all) where a source reads many
    Raises CallError for a missing path, an empty folder, labels that are asked for and absent, or too few
    samples for three splits.
    """
    pool = registered(config.source).read(config, config.options(), progress)
    append_additions(pool, config.additions, config.fractions, config.seed)
    _labels(config, pool)
    pool.columns |= derived_columns(config.derive, pool.columns)
    _rename(config, pool)
    remedies = config.remedies or Remedies()
    findings = [*pool.findings, *([] if remedies.impute else _finite(pool))]
    hashes = hash_samples(pool.x)
    if pool.assignment is None:
        split = by_hash(hashes, config.fractions, config.seed)
    else:
        split = pool.assignment
        shared = _shared(hashes, split)
        if shared.any():
            text = f"{int(shared.sum())} samples equal one in an earlier split and were set aside"
            names = audit.shortened(pool.item(int(i)) for i in np.flatnonzero(shared))
            findings.append(Finding("warning", "set aside", text, names))
            _keep(pool, ~shared)
            hashes = [h for h, s in zip(hashes, shared, strict=True) if not s]
            split = split[~shared]
    split = _hold_out(config, pool, split)
    if config.remedies is not None:
        split, hashes = _remedy(config.remedies, pool, split, hashes, findings)
    _enough(config, split, len(set(hashes)))

    y = pool.y.numpy() if pool.y is not None and pool.spec.classes else None
    findings += audit.duplicates(hashes, split, y, pool.item)
    names = (*SPLITS, *pool.extra)
    order = permutation(len(split), config.seed, 0)  # the first n of a split are then a fair choice of it
    _divide_unpaired(config, pool)
    parts = {name: _part(pool, torch.from_numpy(order[split[order] == k]), k) for k, name in enumerate(names)}
    summary, more = _figures(pool, parts)
    tensors = {f"{s}.{k}": t for s, part in parts.items() for k, t in part.tensors().items()}
    record = {
        "config": config.model_dump(
            exclude=_UNSAID if config.unseen_classes else {*_UNSAID, "unseen_classes"}
        )
        | _cut_with(config, pool),
        "spec": pool.spec.to_json(),
        "tensors": hash_tensors(tensors),
    }
    return Dataset(
        name=pool.name,
        spec=pool.spec,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        extra={name: parts[name] for name in pool.extra},
        attribute_names=pool.attribute_names,
        files=pool.files,
        audit=Audit((*findings, *more), summary),
        fingerprint=hash_json(record),
    )


def _remedy(
    remedies: Remedies, pool: Pool, split: np.ndarray, hashes: list[bytes], findings: list[Finding]
) -> tuple[np.ndarray, list[bytes]]:
    """The splits and hashes of the samples that stay; what was done is added to the findings."""
    train = split == 0
    amounts = pool.x.is_floating_point()
    if remedies.impute and amounts:
        column = pool.columns["x"]
        filled, count = fill_in(column.data, train, remedies.impute)
        pool.columns["x"] = replace(column, data=filled)
        text = f"missing values of {count} samples were filled in by the training {remedies.impute}"
        findings += [Finding("note", "remedied", text)] if count else []
    gone = copies(hashes) if remedies.duplicates else np.zeros(len(split), dtype=bool)
    told = [(gone, "samples that repeat another exactly were removed")]
    if remedies.outliers:
        if pool.spec.is_tokens:
            raise CallError("data.remedies.outliers: tokens are names, and none lies far from another")
        far = outliers(pool.x, train & ~gone, remedies.threshold)
        told.append((far, "training samples that lie far from all others were removed"))
        gone = gone | far
    for removed, what in told:
        if removed.any():
            names = audit.shortened(pool.item(int(i)) for i in np.flatnonzero(removed))
            findings.append(Finding("note", "remedied", f"{int(removed.sum())} {what}", names))
    _keep(pool, ~gone)
    return split[~gone], [h for h, g in zip(hashes, gone, strict=True) if not g]


_UNSAID = {"path", "tokenizer", "additions"}
"""Settings that say nothing of the data themselves: moved files are the same."""


def _hold_out(config: DataConfig, pool: Pool, split: np.ndarray) -> np.ndarray:
    """The splits, with the classes of `data.unseen_classes` in one of their own."""
    if not config.unseen_classes:
        return split
    if pool.y is None:
        raise CallError(f"data.unseen_classes names classes, and the data '{pool.name}' have none")
    names = tuple(pool.spec.class_names or ()) or tuple(map(str, range(pool.spec.classes)))
    numbers = []
    for asked in map(str, config.unseen_classes):
        if asked not in names:
            raise CallError(f"data.unseen_classes: there is no class '{asked}'; {nearest(asked, names)}")
        numbers.append(names.index(asked))
    split = split.copy()
    pool.extra = pool.extra if OOD in pool.extra else (*pool.extra, OOD)
    split[np.isin(pool.y.numpy(), numbers)] = EXTRA + pool.extra.index(OOD)
    return split


def _cut_with(config: DataConfig, pool: Pool) -> dict[str, str]:
    """The hash of a tokenizer that was given: it is part of the data, wherever its file lies."""
    if not getattr(config, "tokenizer", None) or FILE not in pool.files:
        return {}
    return {"tokenizer": hash_bytes(pool.files[FILE].encode())}


def _labels(config: DataConfig, pool: Pool) -> None:
    """Hold the labels against what the config asks."""
    if config.labels and pool.y is None:
        raise CallError(
            f"data.labels is true, but the {config.source} data '{pool.name}' have no class labels"
        )
    if config.labels is False and pool.y is not None:
        pool.columns.pop("class")


def _rename(config: DataConfig, pool: Pool) -> None:
    """Give columns the names that the model knows them by (`data.columns`); one may be known by several."""
    for name, source in config.columns.items():
        if source not in pool.columns:
            raise CallError(
                f"data.columns.{name}: the data have no column '{source}'; {nearest(source, pool.columns)}"
            )
        if name in pool.columns and name not in config.columns.values():
            raise CallError(
                f"data.columns.{name}: the data have a column '{name}' already; give it another name too"
            )
    called = {
        source: [n for n, s in config.columns.items() if s == source] or [source] for source in pool.columns
    }
    pool.columns = {name: pool.columns[source] for source, names in called.items() for name in names}
    pool.unpaired = {name: rows for source, rows in pool.unpaired.items() for name in called.get(source, ())}


def _finite(pool: Pool) -> list[Finding]:
    """Set aside samples with NaN or infinite values, by name."""
    if not pool.x.is_floating_point():
        return []
    good = torch.isfinite(pool.x).flatten(1).all(1).numpy()
    if good.all():
        return []
    if not good.any():
        raise CallError(f"all {len(good)} samples of '{pool.name}' hold NaN or infinite values")
    bad = [pool.item(int(i)) for i in np.flatnonzero(~good)]
    _keep(pool, good)
    text = f"{len(bad)} samples hold NaN or infinite values and were set aside; {_IMPUTE}"
    return [Finding("error", "not finite", text, tuple(bad))]


_IMPUTE = "'data.remedies.impute: median' fills them in instead"


def _keep(pool: Pool, mask: np.ndarray) -> None:
    """Reduce the pool to the samples in `mask` `(n,)` bool."""
    kept = torch.from_numpy(np.flatnonzero(mask))
    pool.item_names = [pool.item(int(i)) for i in kept]
    pool.columns = {name: c.take(kept) if c.paired else c for name, c in pool.columns.items()}
    pool.attributes = {k: v[kept] for k, v in pool.attributes.items()}
    pool.assignment = None if pool.assignment is None else pool.assignment[mask]


def _shared(hashes: Sequence[bytes], split: np.ndarray) -> np.ndarray:
    """Samples whose bytes occur in an earlier split too `(n,)` bool."""
    first: dict[bytes, int] = {}
    for h, s in zip(hashes, split, strict=True):
        first[h] = min(first.get(h, int(s)), int(s))
    return np.array([int(s) > first[h] for h, s in zip(hashes, split, strict=True)], dtype=bool)


def _enough(config: DataConfig, split: np.ndarray, distinct: int) -> None:
    counts = np.bincount(split, minlength=EXTRA)
    for k, name in enumerate(SPLITS):
        if counts[k] == 0:
            raise CallError(
                f"{len(split)} samples ({distinct} distinct) are too few to divide by {config.fractions}, "
                f"which leaves the {name} split empty; give more data or change data.fractions"
            )


def _part(pool: Pool, index: Tensor, number: int) -> Split:
    """The samples at `index`, and of unpaired columns the rows of split `number`."""
    columns = {}
    for name, column in pool.columns.items():
        columns[name] = column.take(
            index if column.paired else torch.from_numpy(np.flatnonzero(pool.unpaired[name] == number))
        )
    return Split(columns, {k: v[index] for k, v in pool.attributes.items()})


def _divide_unpaired(config: DataConfig, pool: Pool) -> None:
    """Say of every row of an unpaired column which split it is in, where the source did not."""
    for name, column in pool.columns.items():
        if not column.paired and name not in pool.unpaired:
            pool.unpaired[name] = by_hash(hash_samples(column.data), config.fractions, config.seed)


def _captions(pool: Pool) -> list[str]:
    """Columns of text beside samples that are none themselves."""
    texts = [k for k, c in pool.columns.items() if c.paired and c.spec.modality == "text" and k != "x"]
    return [] if pool.spec.is_tokens else texts


def _figures(pool: Pool, parts: dict[str, Split]) -> tuple[dict[str, Any], list[Finding]]:
    """Plain figures of the whole, and what is odd about values and classes."""
    spec = pool.spec
    findings, values = audit.value_range(pool.x, spec.levels)
    summary: dict[str, Any] = {
        "samples": {name: len(part) for name, part in parts.items()},
        "shape": list(spec.shape),
        "stored_as": str(pool.x.dtype).removeprefix("torch."),
        "levels": spec.levels if pool.x.dtype == torch.uint8 else None,
        "values": values,
        "classes": spec.classes,
    }
    for name in _captions(pool):
        more, figures = audit.captions(name, {k: p.columns[name].data for k, p in parts.items()}, NOTHING)
        findings += more
        summary.setdefault("captions", {})[name] = figures
    if spec.classes:
        names = spec.class_names or tuple(map(str, range(spec.classes)))
        counts = {
            s: torch.bincount(p.y, minlength=spec.classes).tolist()
            for s, p in parts.items()
            if p.y is not None
        }
        summary["class_counts"] = {s: dict(zip(names, row, strict=True)) for s, row in counts.items()}
        findings += audit.balance({s: counts[s] for s in SPLITS}, names)
    return summary, findings
