"""Sample: run any program of a run, a model or a bundle, and write what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.api.progress import with_progress
from niwaki.api.samples import Samples
from niwaki.core.contract import CallError, NiwakiError, Runner, ValueSpec
from niwaki.data.inputs import make_inputs, with_defaults
from niwaki.evaluation.judges.recognising import Recogniser
from niwaki.modalities import modality_of
from niwaki.modalities.provenance import provenance_of
from niwaki.modalities.signing import Certificate, certificate_for
from niwaki.workflow.choosing import Choosing
from niwaki.workflow.context import context_for
from niwaki.workflow.reporter import Quiet, Reporter, counter
from niwaki.workflow.sharing.shared import serve_where_not_first, shared
from niwaki.workflow.subjects.subject import Subject, open_subject
from niwaki_runtime.programs import SAMPLING, check_numbers
from niwaki_runtime.specs import resolve
from niwaki_runtime.text_conditions import as_tokens
from niwaki_runtime.watermark import Watermark, read_key

__all__ = ["Samples", "sample"]


@with_progress
def sample(
    what: Any,
    n: int = 60,
    *,
    program: str = SAMPLING,
    seed: int = 0,
    condition: Any = None,
    data: Any = None,
    start: int = 0,
    batch: int | None = None,
    engine: str = "auto",
    memory: int | str | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    devices: int = 1,
    out: str | Path | Sequence[str | Path] = (),
    stream: Callable[[str], Any] | None = None,
    watermark: str | Path | Watermark | None = None,
    sign: str | Path | Certificate | None = None,
    filter: Any = None,
    filter_action: str = "withhold",
    balance: str | None = None,
    reporter: Reporter | None = None,
    **overrides: Any,
) -> Samples:
    """Results start … start+n−1 of a program and a seed, from a run's trained model, a model, or a bundle on
    `engine`.

    program:   `sample`, or another that it has (`encode`, `translate_ab`, `continue` …)
    condition: a class (number or name), a list of names to take in turn, a text for a prompt, an array with
               one row per sample, or a mapping of input names to any of these; None asks for all classes in
               turn
    data:      where inputs come from that are not given and cannot be left out (a source, a recipe, a run);
               default: the test split of the run that `what` belongs to
    memory:    bytes, or `"32MB"`, for a bundle: `engine="auto"` takes an engine that needs no more
    weights:   a safetensors file with a factory's weights; "random" for those that it draws by chance
    device:    of a torch model: `auto`, `cpu`, `cuda` …; one that is passed in stays where it is
    devices:   processes that share the batches, one device each; the samples have the bits of one process
    out:       files to write (`Samples.write`)
    stream:    is told each piece of a text as it is made, sample after sample; "\\n\\n" comes between two
    watermark: a key's file (`niwaki detect --new-key`): the samples carry its mark, each whatever the batch
    sign:      a certificate's folder (`niwaki detect --new-certificate`): files are signed by it (C2PA)
    filter:    a filter's file, or a path with settings (`niwaki.filters.FilterPlace`): what it flags is left
               out and named in `screening`; where all is, nothing is written
    filter_action: `mark` leaves nothing out, and says the scores
    balance:   an attribute (`class`, another one, `class+font`) of which every value is to be equally often,
               as the extractors of `data` recognise it; `index` says which samples of the seed they are
    overrides: fields of the sampler (`steps=10`, `guidance=2.0`), and what steers texts (`stop="\\n\\n"`);
               inputs of the program by name, too (`caption="a red A"`), as in `condition`
    Raises CallError for a wrong path, program, condition, option or ending, a filter of other samples, an
    attribute that nothing recognises; NiwakiError where a filter withholds all of the samples that are to be
    written, and where a value of `balance` does not come often enough.
    """
    if n < 1:
        raise CallError(f"-n must be at least 1, not {n}")
    reporter = reporter or Quiet()
    mark = Watermark(read_key(watermark)) if isinstance(watermark, str | Path) else watermark
    if mark is not None and devices != 1:
        raise CallError("a watermark's key stays in one process; leave out devices")
    marking: dict[str, Any] = {} if mark is None else {"watermark": mark}
    opening: dict[str, Any] = {"engine": engine, "memory": memory, "weights": weights, "device": device}
    serve_where_not_first(what, **opening)
    subject = open_subject(what, **opening)
    runner = subject.runner
    if runner is None:
        raise CallError(f"{what} holds samples already; give a run, a model or a bundle")
    asked = runner.program(program)
    places = [Path(out)] if isinstance(out, str | Path) else [Path(p) for p in out]
    certificate = certificate_for(sign, places)
    for place in places:
        _check_ending(place, asked.output)
    check_numbers(n, start, seed, batch)
    by_name = {k for k in overrides if k in asked.inputs and not hasattr(asked.sampler, k)}
    condition = _with_named(condition, {k: overrides.pop(k) for k in by_name})
    choosing = Choosing.read(filter, filter_action, balance, asked.output, engine, stream is not None)
    recogniser = None
    if balance is not None:
        where = data if data is not None else subject.home
        if where is None:
            raise CallError(f"{what} belongs to no run; say with data whose '{balance}' is to be balanced")
        context = context_for(where, reporter=reporter)
        recogniser = Recogniser(context.dataset, context.extractors)

    def make(start: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        inputs = _inputs(subject, runner, program, n, start, condition, data, reporter)
        rows = resolve(asked.inputs, inputs, start, n)
        if stream is not None:
            x = _streamed(
                runner, program, n, stream, seed=seed, start=start, rows=rows, **marking, **overrides
            )
            return x, rows
        with shared(runner, what, devices, **opening):
            made = runner.run(
                program,
                n,
                seed=seed,
                inputs=inputs,
                start=start,
                batch=batch,
                progress=counter(reporter),
                **marking,
                **overrides,
            )
        return np.asarray(runner.backend().numpy(made)), rows

    reporter.stage("sample", f"{n} of seed {seed}")
    chosen = choosing.choose(make, n, seed, start, recogniser)
    marked = mark is not None
    source = provenance_of(
        what, program, seed=seed, start=start, n=n, watermarked=marked, certificate=certificate
    )
    samples = Samples(
        chosen.x, chosen.rows, seed, asked.output, start, runner.files, asked.inputs, source, chosen.index,
        chosen.screening, chosen.balance,
    )  # fmt: skip
    if places and not len(samples.x):
        raise NiwakiError(choosing.all_withheld(chosen))
    for place in places:
        samples.write(place)
    return samples


def _streamed(
    runner: Runner,
    program: str,
    n: int,
    told: Callable[[str], Any],
    *,
    start: int,
    rows: Mapping[str, np.ndarray],
    **options: Any,
) -> np.ndarray:
    """The same samples, one after another, while `told` hears them grow."""
    made = []
    for i in range(n):
        own = {name: values[i : i + 1] for name, values in rows.items()}
        text = runner.stream(program, inputs=own, start=start + i, **options)
        if i:
            told("\n\n")
        for piece in text:
            told(piece)
        made.append(text.tokens)
    return np.stack([tokens for tokens in made if tokens is not None])


def _check_ending(place: Path, spec: ValueSpec) -> None:
    endings = (*modality_of(spec).writers(spec), ".npz", ".npy")
    if place.suffix and place.suffix not in endings:
        raise CallError(f"samples are written as {', '.join(endings)}, not as '{place}'")


def _inputs(
    subject: Subject,
    runner: Runner,
    program: str,
    n: int,
    start: int,
    condition: Any,
    data: Any,
    reporter: Reporter,
) -> Any:
    """What the program is given: what the caller says; what it cannot do without from the data."""
    specs = runner.program(program).inputs
    given = _in_turn(condition, n)
    if not isinstance(given, Mapping):
        if given is not None and len(specs) != 1:
            labels = [name for name, spec in specs.items() if spec.is_label]
            if len(labels) != 1:
                return given  # the runner says what is wrong with it
            given = {labels[0]: given}
        elif given is not None:
            given = {next(iter(specs)): given}
    known = {name: _in_turn(value, n) for name, value in (given or {}).items()}
    known = {name: as_tokens(runner, specs.get(name), value) for name, value in known.items()}
    missing = [name for name, spec in specs.items() if name not in known and not with_defaults(spec)]
    if missing:
        where = data if data is not None else subject.home
        split = None if where is None else context_for(where, reporter=reporter).dataset.test
        found = make_inputs(runner, program, n, split, start=start)
        known |= {name: found[name] for name in missing if name in found}
    return known


def _with_named(condition: Any, named: Mapping[str, Any]) -> Any:
    """What is asked for, with inputs that were given by their names."""
    if not named:
        return condition
    if condition is not None and not isinstance(condition, Mapping):
        raise CallError(f"'{next(iter(named))}' was given by name; give the condition by its name, too")
    return {**(condition or {}), **named}


def _in_turn(value: Any, n: int) -> Any:
    """Several names or texts: in turn."""
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
        return [value[i % len(value)] for i in range(n)]
    return value
