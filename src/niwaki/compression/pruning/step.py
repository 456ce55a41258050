"""The step that prunes."""

from __future__ import annotations

from niwaki.compression.distillation.config import FinetuneConfig
from niwaki.compression.distillation.finetune import finetune
from niwaki.compression.pruning.channels import pruned
from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.steps import Outcome, Workshop, step
from niwaki.contract import GenerativeModel


@step("prune", lambda config: 20 * config.rounds + config.recover * (config.rounds - 1))
def _prune(model: GenerativeModel, config: PruneConfig, bench: Workshop) -> Outcome:
    def recover(cut: GenerativeModel, k: int) -> GenerativeModel:
        bench.told(k, config.rounds, {"round": k})
        settings = (bench.recovery or FinetuneConfig()).model_copy(update={"steps": config.recover})
        return finetune(cut, bench.original, bench.training_split(), settings, seed=bench.seed + k)

    done = pruned(model, config, seed=bench.seed, recover=recover if config.recover else None)
    return Outcome(done.model, widths=done.widths, skipped=done.skipped)
