"""The step that trains on."""

from __future__ import annotations

from collections.abc import Mapping

from niwaki.compression.distillation.config import FinetuneConfig
from niwaki.compression.distillation.finetune import finetune
from niwaki.compression.steps import Outcome, Workshop, step
from niwaki.contract import GenerativeModel


@step("finetune", lambda config: config.steps)
def _finetune(model: GenerativeModel, config: FinetuneConfig, bench: Workshop) -> Outcome:
    def told(done: int, total: int, info: Mapping[str, float]) -> None:
        bench.told(done, total, info)

    split, directory = bench.training_split(), bench.directory / "training"
    return Outcome(
        finetune(model, bench.original, split, config, seed=bench.seed, directory=directory, progress=told)
    )
