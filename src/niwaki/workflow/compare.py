"""Compare: two runs, bundles, folders of images or arrays side by side, with a verdict on each axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.store import jsonable
from niwaki.evaluation import compare as decide
from niwaki.evaluation.equivalence.calibration import calibration_key
from niwaki.evaluation.equivalence.margins import real_size
from niwaki.workflow.evaluate import setting_for
from niwaki.workflow.findings import FINDINGS, fitness
from niwaki.workflow.judged import extractor_records, judged
from niwaki.workflow.margins import keep_margins, kept_margins, margins_file
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.samples_of import Source, home, kind_of, samples_of
from niwaki.workflow.setting import as_overrides

__all__ = ["compare"]

SIDES = ("before", "after")


def compare(
    before: str | Path,
    after: str | Path,
    overrides: Sequence[str] = (),
    *,
    data: Any = None,
    features: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    resize: bool = False,
    engine: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Is `after` worse than `before`? Each is a run, a saved model, a bundle, a folder of images or an array
    file.

    Sample by sample where both were made from the same seeds for the same classes; otherwise as two sets that
    share nothing. Of paired sides the longer one is cut.
    data, features, metrics, resize: as for `evaluate`; engine: of bundles
    Returns `before` and `after` (metrics), `sources`, `paired`, `comparison` (verdicts, damage, what was
    lost), `clusters`, `bias` and `gate` by side, `fitness`, `extractors`, `n`, `seed`.
    Raises CallError as `evaluate` does.
    """
    reporter = reporter or Quiet()
    changes = [*overrides, *as_overrides(features, metrics)]
    setting = setting_for([before, after], data, changes, reporter)
    sides: list[Source] = []
    for what in (before, after):
        on = engine if kind_of(what) == "bundle" else "auto"
        sides.append(samples_of(what, setting, reporter, engine=on, resize=resize))
    n = min(len(s.x) for s in sides)
    cut = [s.first(n) for s in sides]
    paired = same_noise(*cut)
    if paired:
        sides = cut
    dataset, extractors, seed = setting.dataset, setting.extractors, setting.evaluate.seed
    record: dict[str, Any] = {
        "n": n,
        "seed": seed,
        "paired": paired,
        "sources": {name: side.to_json() for name, side in zip(SIDES, sides, strict=True)},
        "extractors": extractor_records(extractors),
        **{part: {} for part in FINDINGS},
    }
    for name, side in zip(SIDES, sides, strict=True):
        reporter.stage("evaluate", f"{len(side.x):,} samples of {side.path}")
        evaluation, found = judged(
            side.x, side.labels, dataset, extractors, metrics=setting.evaluate.metrics, seed=seed, name=name
        )
        record[name] = jsonable(evaluation)
        for part in FINDINGS:
            record[part] |= found[part]
    reporter.stage("verdict", f"{n:,} pairs of samples" if paired else "two sets without common seeds")
    told: dict[str, Any] = {"labels": sides[0].labels}
    if not paired:
        told |= {"labels_after": sides[1].labels, "paired": False}
    size = real_size(len(dataset.test), n)
    key = calibration_key(sides[0].x, dataset, extractors, seed=seed, size=size)
    own = setting.cache / "margins" / f"{key[:24]}.json"
    run = home(before)
    places = [own] if run is None else [margins_file(run), own]
    known = [found for found in map(kept_margins, places) if found is not None and found.key == key]
    told["calibration"] = known[0] if known else None
    comparison = decide(sides[0].x, sides[1].x, dataset, extractors, seed=seed, **told)
    keep_margins(own, comparison.calibration)
    record["comparison"] = jsonable(comparison)
    record["fitness"] = fitness(dataset, extractors, cache=setting.cache, reporter=reporter)
    return record


def same_noise(a: Source, b: Source) -> bool:
    """Whether sample i of both was made from the same noise, for the same class: same known seed, same number
    of samples, same labels."""
    if a.seed is None or a.seed != b.seed or len(a.x) != len(b.x):
        return False
    if a.labels is None or b.labels is None:
        return a.labels is None and b.labels is None
    return bool(np.array_equal(a.labels, b.labels))
