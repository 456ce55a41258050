"""Policy gradient (Williams 1992, REINFORCE) with a leave-one-out baseline (Kool, van Hoof & Welling 2019)
and the KL divergence from the reference in the reward (Ziegler et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from niwaki.core.contract import Batch, Context, GenerativeModel
from niwaki.data import Split
from niwaki.training.preference.config import PreferConfig
from niwaki.training.preference.drawing import asked_of, draw, likelihoods
from niwaki.training.preference.objective import Objective, objective
from niwaki.training.schedule import seed_of
from niwaki_runtime.errors import CallError

__all__ = ["PolicyGradient", "leave_one_out"]


def leave_one_out(values: Tensor) -> Tensor:
    """Each value less the mean of the others of its row `(rows, group)`; rows of the result sum to 0."""
    group = values.shape[1]
    return (values - values.mean(1, keepdim=True)) * (group / (group - 1))


@objective("policy_gradient")
class PolicyGradient(Objective):
    """∇ E[r(x) − β log π(x)/π_ref(x)] over samples of the policy, drawn anew in every step; its maximum is
    π ∝ π_ref exp(r/β) (Rafailov et al. 2023, Equation 4).

    A batch asks batch / group questions, each for `group` samples. For models whose `log_likelihoods` are
    exact and whose samples at temperature 1 follow them.
    """

    def __init__(self, config: PreferConfig, reference: GenerativeModel, split: Split, seed: int) -> None:
        if not reference.exact_likelihoods:
            raise CallError(
                f"policy_gradient needs exact probabilities of samples, which '{reference.name}' does not "
                "have; use dpo or reward_weighted"
            )
        super().__init__(config, reference, split, seed)

    def terms(self, model: GenerativeModel, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        group = self.config.group
        questions = len(batch) // group
        if not questions:
            raise CallError(f"a batch of {len(batch)} holds no group of {group} (train.prefer.group)")
        rows = torch.arange(questions, device=batch.x.device).repeat_interleave(group)
        asked = {name: value[rows] for name, value in asked_of(model, batch).items()}
        state = ctx.rng.get_state()
        drawn = int(torch.randint(2**31, (1,), generator=ctx.rng, device=ctx.rng.device))
        x = draw(model, len(rows), asked, seed=seed_of(self.seed, "policy", drawn) % 2**31, plain=True)
        assert self.worth is not None
        worth, made = self.worth(x, asked), Batch({"x": x, **asked})
        now = likelihoods(model, made, ctx, state)
        with torch.no_grad():
            leaving = now - likelihoods(self.reference, made, ctx, state)
            value = worth - self.config.beta * leaving
            advantage = leave_one_out(value.reshape(questions, group)).flatten()
        ctx.log(reward=worth.mean(), kl=leaving.mean())
        return {"policy_gradient": -(advantage * now).mean()}
