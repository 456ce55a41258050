"""Direct preference optimization (Rafailov et al. 2023) of models with a likelihood, and of diffusion, where
a term of its bound stands in the likelihood's place (Wallace et al. 2023, "Diffusion-DPO")."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from niwaki.core.contract import Batch, Context, GenerativeModel
from niwaki.data import Feeder, Split
from niwaki.data.columns import Column
from niwaki.training.preference.config import PreferConfig
from niwaki.training.preference.drawing import likelihoods
from niwaki.training.preference.objective import Objective, objective
from niwaki.training.preference.pair_files import read_pairs
from niwaki_runtime.errors import CallError

__all__ = ["REJECTED", "Dpo", "dpo_loss"]

REJECTED = "rejected"


def dpo_loss(margin: Tensor) -> Tensor:
    """−log σ(m) of m = β [log π(w)/π_ref(w) − log π(l)/π_ref(l)] `(n,)` (Rafailov et al. 2023, Equation 7);
    log 2 where the policy is the reference."""
    return -F.logsigmoid(margin).mean()


@objective("dpo")
class Dpo(Objective):
    """Of diffusion, −w‖target − prediction‖² at one time and noise, the same for both samples and both
    models, stands for log π (Wallace et al. 2023, Equation 14, whose βTω(λ) is β w here).

    Pairs are read from `config.pairs`, or are the best and the worst by reward of every group that the
    reference makes for one question; groups of equal rewards make none.
    """

    def __init__(self, config: PreferConfig, reference: GenerativeModel, split: Split, seed: int) -> None:
        super().__init__(config, reference, split, seed)
        chosen, rejected, asked = self._made() if config.pairs is None else self._read(Path(config.pairs))
        spec = split.spec
        columns = {"x": Column(spec.x, chosen), REJECTED: Column(spec.x, rejected)}
        self.pairs = Split({**columns, **{name: Column(spec[name], value) for name, value in asked.items()}})

    def _made(self) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        assert self.worth is not None
        x, asked = self.pool()
        worth = self.worth(x, asked).reshape(-1, self.config.group)
        first = torch.arange(len(worth), device=x.device) * self.config.group
        best, worst = first + worth.argmax(1), first + worth.argmin(1)
        differ = worth.amax(1) > worth.amin(1)
        if not differ.any():
            raise CallError(
                f"train.prefer.reward: '{self.config.reward_name}' finds all samples of every group alike; "
                "there is nothing to prefer"
            )
        best, worst = best[differ], worst[differ]
        return x[best], x[worst], {name: value[best] for name, value in asked.items()}

    def _read(self, path: Path) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        chosen, rejected, asked = read_pairs(path, self.reference, self.split.spec)
        return chosen.to(self.device), rejected.to(self.device), self._on_device(asked)

    def batches(self, size: int, offset: int) -> Feeder:
        return Feeder(self.pairs, size, seed=self.seed, offset=offset)

    def terms(self, model: GenerativeModel, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        state = ctx.rng.get_state()
        chosen = batch.replaced(**{REJECTED: None})
        rejected = chosen.replaced(x=batch[REJECTED])
        with torch.no_grad():
            before = [likelihoods(self.reference, side, ctx, state) for side in (chosen, rejected)]
        now = [likelihoods(model, side, ctx, state) for side in (chosen, rejected)]
        gains = [a - b for a, b in zip(now, before, strict=True)]
        margin = self.config.beta * (gains[0] - gains[1])
        ctx.log(accuracy=(margin > 0).float().mean(), margin=margin.mean(), chosen_gain=gains[0].mean())
        return {"dpo": dpo_loss(margin)}
