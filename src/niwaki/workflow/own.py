"""A model that belongs to no run (your own generator): evaluated and compressed against data you name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.compression import CompressConfig, SamplingConfig
from niwaki.compression import compress as carry_out
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.core.store import jsonable, write_json
from niwaki.data import DataConfig, Dataset
from niwaki.data import load as load_data
from niwaki.deployment import bundle_bytes, measure_together
from niwaki.deployment.baselines import compiled_bf16, eager_float32, torch_threads
from niwaki.deployment.measure import bundle_way
from niwaki.evaluation import DEFAULT_METRICS, Comparison, check_metrics, compare
from niwaki.evaluation.equivalence.text import TextComparison
from niwaki.workflow.judged import judged_record
from niwaki.workflow.judges import ask, judges
from niwaki.workflow.margins import keep_margins, kept_margins, margins_file
from niwaki.workflow.measure import weight_bytes
from niwaki.workflow.off_path import tell_off_path
from niwaki.workflow.reporter import Quiet, Reporter, counter
from niwaki.workflow.samples_of import sample_model
from niwaki.workflow.seal import seal
from niwaki.workflow.text import is_text, judge_text
from niwaki_runtime import load as load_bundle
from niwaki_runtime.bundle import Bundle
from niwaki_runtime.samplers import OneShot

__all__ = ["compress_model", "evaluate_model"]

Data = str | Mapping[str, Any] | DataConfig | Dataset


def compress_model(
    model: GenerativeModel,
    *,
    data: Data,
    out: str | Path,
    plan: CompressConfig | Sequence[Mapping[str, Any]] | None = None,
    seed: int = 0,
    n: int = 1000,
    features: Sequence[str] = ("classifier", "random"),
    engine: str = "openvino",
    threads: int = 2,
    torch_compile: bool = False,
    rounds: int = 30,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Carry out a plan on `model`, judge the bundle on its engine against the model, and measure both.

    data:     a source by name, its settings, or a loaded data set; samples are compared with its test split
    out:      directory: `<name>.niwaki` (the bundle), `compressed/` (weights and steps), `compression.json`
    plan:     steps; default: prune half of the channels, fine-tune, match the temperature of a generator,
              quantize to int8
    n:        pairs of samples that the verdict rests on; of text: windows of the test split, at most
    features: extractors that look at them; those that need labels are left out where there are none, and
              text is read by the models themselves (`niwaki.evaluation.equivalence.text`)
    rounds:   timed calls per batch size
    Returns what `compression.json` holds: steps, `measured` (`before`, `after`), `verdict` by axis, `bundle`.
    Raises CallError where the model's samples are not of the data's shape, NiwakiError where a step fails.
    """
    reporter, out = reporter or Quiet(), Path(out)
    dataset = _dataset(data, model)
    config = _config(plan, model)
    extractors: list[Any] = []
    if not is_text(model):
        extractors = judges(dataset, features, seed=seed, cache=out / "cache", reporter=reporter)
    reporter.stage("compress", " → ".join(step.kind for step in config.steps))
    made = carry_out(
        model,
        dataset,
        config,
        workdir=out / "compressed",
        seed=seed,
        progress=counter(reporter),
        engine=engine,
        warn=lambda found: tell_off_path(found, reporter),
        extractor=next(iter(extractors), None),
    )
    small = load_bundle(made.bundle, engine=engine, threads=threads)
    comparison: Comparison | TextComparison
    if is_text(model):
        comparison = judge_text(model, small, dataset, n=n, seed=seed, reporter=reporter)
    else:
        comparison = _judge_samples(model, small, dataset, extractors, out, n=n, seed=seed, reporter=reporter)
    verdict = {axis: jsonable(getattr(comparison, axis)) for axis in ("fidelity", "diversity")}
    reporter.stage("measure", f"{threads} threads")
    ways: dict[str, Any] = {
        "before": eager_float32(model),
        "after": bundle_way(made.bundle, engine=engine, threads=threads),
    }
    if torch_compile:
        ways["compiled"] = compiled_bf16(model)
    with torch_threads(threads):
        latency = measure_together(ways, batches=(1, 16), rounds=rounds, progress=counter(reporter))
    bundle = out / f"{out.name}.niwaki"
    seal(made.bundle, bundle, name=out.name, measured={"latency": latency["after"]}, verdict=verdict)
    measured: dict[str, Any] = {name: {"latency": by} for name, by in latency.items()}
    measured["before"]["bytes"], measured["after"]["bytes"] = weight_bytes(model), bundle_bytes(bundle)
    found = {
        "bundle": bundle.name,
        "steps": [jsonable(r) for r in made.records],
        "measured": jsonable(measured),
        "verdict": verdict,
        "comparison": jsonable(comparison),
        "n": comparison.n,
        "seed": seed,
    }
    write_json(out / "compression.json", found)
    return {**found, "bundle": bundle}


def _judge_samples(
    model: GenerativeModel,
    small: Bundle,
    dataset: Dataset,
    extractors: Sequence[Any],
    out: Path,
    *,
    n: int,
    seed: int,
    reporter: Reporter,
) -> Comparison:
    """Pairs of samples, as extractors see them; margins are kept in `out`."""
    asked, labels = ask(model.conditions, dataset, n)
    reporter.stage("verdict", f"{n:,} pairs of samples, torch and {small.engine}")
    before = sample_model(model, n, seed, asked, reporter)
    after = small.sample(n, seed=seed, condition=asked)
    kept = margins_file(out)
    comparison = compare(
        before, after, dataset, extractors, labels=labels, seed=seed, calibration=kept_margins(kept)
    )
    keep_margins(kept, comparison.calibration)
    return comparison


def evaluate_model(
    model: GenerativeModel,
    *,
    data: Data,
    n: int | None = None,
    seed: int = 0,
    features: Sequence[str] = ("classifier", "random"),
    metrics: Sequence[str] = DEFAULT_METRICS,
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Fidelity and diversity of `model`'s samples against the test split of `data`.

    n:       samples; default: as many as the test split has
    metrics: by name, or `("all",)`
    cache:   directory where extractors are kept for the next time
    Returns what a run's `evaluation.json` holds: the metrics under `trained`, what else was found, `fitness`.
    Raises CallError where the model's samples are not of the data's shape, and for unknown names.
    """
    reporter = reporter or Quiet()
    check_metrics(metrics)
    dataset = _dataset(data, model)
    n = n or len(dataset.test)
    place = None if cache is None else Path(cache)
    extractors = judges(dataset, features, seed=seed, cache=place, reporter=reporter)
    asked, labels = ask(model.conditions, dataset, n)
    reporter.stage("evaluate", f"{n:,} samples")
    samples = sample_model(model, n, seed, asked, reporter)
    return judged_record(
        samples, labels, dataset, extractors,
        metrics=metrics, seed=seed, name="trained", cache=place, reporter=reporter,
    )  # fmt: skip


def _config(
    plan: CompressConfig | Sequence[Mapping[str, Any]] | None, model: GenerativeModel
) -> CompressConfig:
    """The plan, or the default one, in which a generator's samples are also given their distances back."""
    if isinstance(plan, CompressConfig):
        return plan
    if plan is not None:
        return CompressConfig.model_validate({"steps": plan})
    config, sampler = CompressConfig(), model.sampler()
    if not isinstance(sampler, OneShot) or sampler.latent is None:
        return config
    *steps, last = config.steps
    return CompressConfig(steps=(*steps, SamplingConfig(temperature="match"), last))


def _dataset(data: Data, model: GenerativeModel) -> Dataset:
    """The data, whose samples must be of the model's shape."""
    if isinstance(data, str):
        data = {"source": data}
    if not isinstance(data, Dataset):
        data = load_data(data if isinstance(data, DataConfig) else DataConfig(**data))
    if tuple(model.spec.shape) != tuple(data.spec.shape):
        raise CallError(
            f"the model makes samples of shape {tuple(model.spec.shape)}, "
            f"the data '{data.name}' have {tuple(data.spec.shape)}"
        )
    return data
