"""Filter: from a user's good and bad samples to a file that says which samples are to be withheld."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from niwaki.api.progress import with_progress
from niwaki.core.contract import CallError
from niwaki.workflow.context import EvaluationContext, context_for
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.subjects.array_samples import read_arrays
from niwaki.workflow.subjects.files import is_arrays, read_folder

__all__ = ["make_filter", "read_record"]


@with_progress
def make_filter(
    out: str | Path,
    *,
    good: Any,
    bad: Any,
    data: Any,
    features: str | None = None,
    rate: float = 0.01,
    held_out: float = 0.5,
    seed: int = 0,
    resize: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train a filter, write it to `out` (`NAME.filter`) and return its record: threshold, ROC, rates.

    good, bad: samples that are to be shown and that are to be withheld: a folder of images, an `.npz` or
               `.npy`, or arrays `(n, *shape)` in the range of the data
    data:      what the samples are like: a run, a recipe, a source, a data set
    features:  the extractor that it looks with; default: the first of the run's
    rate:      false-positive rate that the threshold is for
    held_out:  share of the samples that threshold and rates are taken from
    Raises CallError for too few samples, a rate that so few cannot promise, samples of another shape.
    """
    reporter = reporter or Quiet()
    out = Path(out)
    from niwaki.filters.fitting import fit_filter

    context = context_for(data, reporter=reporter)
    spec = context.dataset.spec
    usable = [name for name in context.config.features if name != "classifier" or spec.classes > 1]
    first = features or next(iter(usable), "random")
    context.config = context.config.model_copy(update={"features": (first,)})
    shown, withheld = (_samples(what, side, context, resize) for what, side in ((good, "good"), (bad, "bad")))
    extractor = context.extractors[0]
    reporter.stage("filter", f"{len(shown)} good and {len(withheld)} bad samples")
    name = context.dataset.name
    return fit_filter(
        out, shown, withheld, extractor, spec, rate=rate, held_out=held_out, seed=seed, data=name
    )  # fmt: skip


def read_record(path: str | Path) -> dict[str, Any]:
    """What a filter's file says of itself. Raises CallError where there is none, NiwakiError for a broken
    one."""
    from niwaki.filters import open_filter

    return open_filter(path).to_json()


def _samples(what: Any, side: str, context: EvaluationContext, resize: bool) -> np.ndarray:
    spec = context.dataset.spec
    if isinstance(what, np.ndarray):
        if what.shape[1:] != tuple(spec.shape):
            raise CallError(
                f"the {side} samples have the shape {what.shape[1:]}, the data {tuple(spec.shape)}"
            )
        return what
    path = Path(what)
    if not path.exists():
        raise CallError(
            f"{path} does not exist; the {side} samples are a folder of images, an .npz or an .npy"
        )
    read = (
        read_arrays(path, spec, resize=resize) if is_arrays(path) else read_folder(path, spec, resize=resize)
    )
    for file in read.broken:
        context.reporter.note(f"set aside: {file['file']}: {file['reason']}")
    for remark in read.remarks:
        context.reporter.note(remark)
    return read.x
