"""The real samples that the report shows: some beside made ones, modes that are lost, originals of copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from niwaki.core.contract import NiwakiError
from niwaki.data import Dataset
from niwaki.data import load as load_data
from niwaki.report.originals import ORIGINALS, beside, wanted
from niwaki.report.pictures import spread
from niwaki.report.record import read_run
from niwaki.workflow.evidence import write_arrays
from niwaki.workflow.run_context import RunContext

__all__ = ["keep_originals"]


def keep_originals(context: RunContext) -> None:
    """Write `originals.npz` of a run: the real samples that its findings name, and where they stand in their
    splits, so that the report needs no data.

    The data are read only where something is missing. Where they cannot be read, or are not those that the
    run was judged by, nothing is written, and the reporter is told: the report then does without.
    """
    run = context.run
    record = read_run(run.path)
    need, count = wanted(record), beside(record)
    known = all(set(positions) <= record.originals.get(split, {}).keys() for split, positions in need.items())
    if known and (record.real or not count):
        return
    try:
        # not the context's own property: it would enter data that have changed since into the run's record
        dataset = vars(context).get("dataset") or load_data(context.recipe.data)
    except (NiwakiError, OSError) as error:
        context.reporter.note(f"the report shows no real samples: {error}")
        return
    if dataset.fingerprint != record.data.get("fingerprint"):
        context.reporter.note("the report shows no real samples: the data have changed since the evaluation")
        return
    arrays: dict[str, Any] = {"fingerprint": np.array(dataset.fingerprint)}
    for split, positions in need.items():
        index = np.array(sorted(set(positions)), dtype=np.int64)
        arrays[f"{split}_index"] = index
        arrays[split] = dataset.split(split).values(torch.from_numpy(index)).cpu().numpy()
    if count:
        arrays |= _beside(dataset, count)
    write_arrays(run.path / ORIGINALS, arrays)


def _beside(dataset: Dataset, count: int) -> dict[str, np.ndarray]:
    """Samples of the test split, the classes in turn, and their classes."""
    test = dataset.test
    labels = None if test.y is None else test.y.cpu().numpy()
    index = np.array(spread(labels, len(test), count), dtype=np.int64)
    found = {"real_samples": test.values(torch.from_numpy(index)).cpu().numpy()}
    return found if labels is None else {**found, "real_labels": labels[index]}
