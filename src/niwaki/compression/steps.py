"""The steps that a plan can name, model in, model out: a new one is a function with `@step` and a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from niwaki.compression.config import FinetuneConfig, PruneConfig, QuantizeConfig
from niwaki.compression.finetune import finetune
from niwaki.compression.pruning import pruned
from niwaki.compression.quantize import quantize
from niwaki.contract import CallError, GenerativeModel
from niwaki.deployment import export_graphs

__all__ = ["STEPS", "Outcome", "Step", "Workshop", "step"]

Told = Callable[[int, int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Workshop:
    """What a step may need.

    original:  the uncompressed model: the teacher
    dataset:   the data, or None
    seed:      of this step
    directory: of this step
    condition: what calibration samples are asked for
    told:      progress of this step: (done, total, figures)
    recovery:  how to train between rounds of pruning
    """

    original: GenerativeModel
    dataset: Any
    seed: int
    directory: Path
    condition: Any
    told: Told
    recovery: Any = None


@dataclass
class Outcome:
    """What a step made. `graphs` are its exported files where it made them (integers live only there)."""

    model: GenerativeModel
    graphs: dict[str, Path] = field(default_factory=dict)
    widths: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """carry_out: (model, config, workshop) → outcome; work: config → units of progress (training steps)."""

    carry_out: Callable[[GenerativeModel, Any, Workshop], Outcome]
    work: Callable[[Any], int]


STEPS: dict[str, Step] = {}


def step(kind: str, work: Callable[[Any], int]) -> Callable[[Callable[..., Outcome]], Callable[..., Outcome]]:
    """Decorator: what carries out the configs of this `kind`."""

    def enter(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
        STEPS[kind] = Step(function, work)
        return function

    return enter


@step("prune", lambda config: 20 * config.rounds + config.recover * (config.rounds - 1))
def _prune(model: GenerativeModel, config: PruneConfig, bench: Workshop) -> Outcome:
    def recover(cut: GenerativeModel, k: int) -> GenerativeModel:
        bench.told(k, config.rounds, {"round": k})
        settings = (bench.recovery or FinetuneConfig()).model_copy(update={"steps": config.recover})
        return finetune(cut, bench.original, _training_split(bench), settings, seed=bench.seed + k)

    done = pruned(model, config, seed=bench.seed, recover=recover if config.recover else None)
    return Outcome(done.model, widths=done.widths, skipped=done.skipped)


@step("finetune", lambda config: config.steps)
def _finetune(model: GenerativeModel, config: FinetuneConfig, bench: Workshop) -> Outcome:
    def told(done: int, total: int, info: Mapping[str, float]) -> None:
        bench.told(done, total, info)

    split, directory = _training_split(bench), bench.directory / "training"
    return Outcome(
        finetune(model, bench.original, split, config, seed=bench.seed, directory=directory, progress=told)
    )


@step("quantize", lambda config: 100)
def _quantize(model: GenerativeModel, config: QuantizeConfig, bench: Workshop) -> Outcome:
    floats = export_graphs(model, bench.directory / "graphs")
    graphs = quantize(model, floats, bench.directory / "graphs" / "int8", config, condition=bench.condition)
    return Outcome(model, graphs=graphs)


def _training_split(bench: Workshop) -> Any:
    if bench.dataset is None:
        raise CallError(
            "fine-tuning needs data: give compress() a dataset, or leave 'finetune' and 'recover' out"
        )
    return bench.dataset.train
