"""Use: what people do with a trained model beyond sampling (`niwaki.uses`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.core.contract import CallError
from niwaki.data.dataset import Dataset
from niwaki.modalities.provenance import provenance_of
from niwaki.modalities.signing import Certificate, certificate_for
from niwaki.uses import Call, Outcome, find_use
from niwaki.workflow.context import context_for
from niwaki.workflow.reporter import Quiet, Reporter, counter
from niwaki.workflow.run_directory import RunDirectory, is_run
from niwaki.workflow.subjects.subject import home_of, is_bundle, open_subject

__all__ = ["use"]


@with_progress
def use(
    name: str,
    what: Any,
    files: str | Path | Sequence[str | Path] = (),
    *,
    condition: Any = None,
    seed: int = 0,
    data: Any = None,
    engine: str = "auto",
    memory: int | str | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    sign: str | Path | Certificate | None = None,
    reporter: Reporter | None = None,
    say: Callable[[str], None] | None = None,
    **options: Any,
) -> Outcome:
    """Apply a use (`interpolate`, `reconstruct`, `anomalies`, `swap`, `encode`, `decode` …) to a run, a model
    or a bundle.

    files:     what it works on: pictures, arrays, folders of them, a coded file
    condition: what the given samples are, where the model is conditioned: a value for all, a list in
               turn, or a mapping of names to these
    data:      where samples come from if no files are given; default: the data of the run that `what` is of
    out:       a file, or a directory for a file each; nothing is written without
    sign:      a certificate's folder, as for `niwaki.sample`
    say:       called with the pieces of an answer as they are made (`chat`)
    options:   the use's own settings
    Raises CallError for an unknown use or setting, and where the model lacks what the use needs.
    """
    found = find_use(name)
    settings = found.options(options)
    certificate = certificate_for(sign, [Path(out)] if out is not None else ())
    reporter = reporter or Quiet()
    words = _named(files)
    places = [Path(word) for word in words]

    def dataset() -> Dataset | None:
        where = data if data is not None else home_of(what)
        return None if where is None else context_for(where, reporter=reporter).dataset

    if found.opens:
        subject = open_subject(what, engine=engine, memory=memory, weights=weights, device=device)
        runner, path = subject.runner, subject.path
    else:
        runner, path = None, _bundle_of(what)
    reporter.stage(name, str(path))
    call = Call(runner, path, places, words, condition, seed, dataset, counter(reporter), say)
    outcome = found.apply(call, settings)
    outcome.given = [*places, *([path] if path.is_file() else ())]
    if found.makes:
        n = 0 if outcome.x is None else len(outcome.x)
        edited = found.edits and bool(words)
        outcome.source = provenance_of(what, name, seed=seed, n=n, edited=edited, certificate=certificate)
    if out is not None:
        outcome.write(Path(out))
    return outcome


def _named(files: Any) -> list[str]:
    """Names as they were given. Raises CallError for samples in memory and whatever else is no name."""
    several = isinstance(files, Iterable) and not isinstance(files, str | bytes | Path)
    given: list[Any] = list(files) if several else [files]
    for one in given:
        if not isinstance(one, str | Path):
            kind = type(one).__name__
            raise CallError(f"files are named, and {kind} is no name; save an array first, with np.save")
    return [str(one) for one in given]


def _bundle_of(what: Any) -> Path:
    """The bundle's file: of a run the one that ships."""
    place = getattr(what, "path", what)
    if not isinstance(place, str | Path):
        raise CallError(
            "a coded file is written and read by a bundle; export the model (niwaki.export) and give that"
        )
    path = Path(place)
    if is_bundle(path):
        return path
    if is_run(path):
        bundle = RunDirectory.open(path).bundle
        if bundle.exists():
            return bundle
        raise CallError(f"{path} has no bundle yet; run `niwaki export {path}` first")
    raise CallError(f"{path} is no bundle and no run")
