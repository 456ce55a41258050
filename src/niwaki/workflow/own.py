"""A model that belongs to no run (your own generator): evaluated and compressed against data you name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.compression import CompressConfig
from niwaki.compression import compress as carry_out
from niwaki.contract import CallError, GenerativeModel
from niwaki.data import DataConfig, Dataset
from niwaki.data import load as load_data
from niwaki.deployment import bundle_bytes, measure_together
from niwaki.deployment.baselines import compiled_bf16, eager_float32, torch_threads
from niwaki.deployment.measure import bundle_way
from niwaki.evaluation import compare
from niwaki.evaluation import evaluate as judge
from niwaki.store import jsonable, write_json
from niwaki.workflow.judges import asked_of, balanced_labels, judges
from niwaki.workflow.measure import weight_bytes
from niwaki.workflow.reporter import Quiet, Reporter, counter
from niwaki.workflow.seal import seal
from niwaki_runtime import load as load_bundle

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
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Carry out a plan on `model`, judge the bundle on its engine against the model, and measure both.

    data:     a source by name, its settings, or a loaded data set; samples are compared with its test split
    out:      directory: `<name>.niwaki` (the bundle), `compressed/` (weights and steps), `compression.json`
    plan:     steps; default: prune half of the channels, fine-tune, quantize to int8
    n:        pairs of samples that the verdict rests on
    features: extractors that look at them; those that need labels are left out where there are none
    Returns what `compression.json` holds: steps, `measured` (`before`, `after`), `verdict` by axis, `bundle`.
    Raises CallError where the model's samples are not of the data's shape, NiwakiError where a step fails.
    """
    reporter, out = reporter or Quiet(), Path(out)
    dataset = _dataset(data, model)
    config = plan if isinstance(plan, CompressConfig) else CompressConfig.model_validate(_steps(plan))
    reporter.stage("compress", " → ".join(step.kind for step in config.steps))
    made = carry_out(
        model, dataset, config, workdir=out / "compressed", seed=seed, progress=counter(reporter)
    )
    extractors = judges(dataset, features, seed=seed, cache=out / "cache", reporter=reporter)
    asked = asked_of(model.conditions, dataset, n)
    labels = balanced_labels(dataset, n) if asked else None
    small = load_bundle(made.bundle, engine=engine, threads=threads)
    reporter.stage("verdict", f"{n:,} pairs of samples, torch and {small.engine}")
    before = model.sample(n, seed=seed, condition=asked).float().cpu().numpy()
    after = small.sample(n, seed=seed, condition=asked)
    comparison = compare(before, after, dataset, extractors, labels=labels, seed=seed)
    verdict = {axis: jsonable(getattr(comparison, axis)) for axis in ("fidelity", "diversity")}
    reporter.stage("measure", f"{threads} threads")
    ways: dict[str, Any] = {
        "before": eager_float32(model),
        "after": bundle_way(made.bundle, engine=engine, threads=threads),
    }
    if torch_compile:
        ways["compiled"] = compiled_bf16(model)
    with torch_threads(threads):
        latency = measure_together(ways, batches=(1, 16), progress=counter(reporter))
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
        "n": n,
        "seed": seed,
    }
    write_json(out / "compression.json", found)
    return {**found, "bundle": bundle}


def evaluate_model(
    model: GenerativeModel,
    *,
    data: Data,
    n: int | None = None,
    seed: int = 0,
    features: Sequence[str] = ("classifier", "random"),
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Fidelity and diversity of `model`'s samples against the test split of `data`.

    n:     samples; default: as many as the test split has
    cache: directory where extractors are kept for the next time
    Raises CallError where the model's samples are not of the data's shape.
    """
    reporter = reporter or Quiet()
    dataset = _dataset(data, model)
    n = n or len(dataset.test)
    place = None if cache is None else Path(cache)
    extractors = judges(dataset, features, seed=seed, cache=place, reporter=reporter)
    asked = asked_of(model.conditions, dataset, n)
    labels = balanced_labels(dataset, n) if asked else None
    reporter.stage("evaluate", f"{n:,} samples")
    samples = model.sample(n, seed=seed, condition=asked, progress=counter(reporter)).float().cpu().numpy()
    return dict(jsonable(judge(samples, labels, dataset, extractors, seed=seed)))


def _steps(plan: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    return {} if plan is None else {"steps": plan}


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
