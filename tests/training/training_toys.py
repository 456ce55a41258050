"""Trainables of a few weights, each stressing one promise of the trainer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, Phase, Trainable


class Regression(Trainable):
    """Predicts the sum of a vector's entries; no randomness but the batch's."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("fit", ("net",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        error = self.net(batch.x).float().squeeze(1) - batch.x.sum(1)
        return {"square": error.square().mean()}


class Adversaries(Trainable):
    """Two networks against each other with everything that has to be resumed: repeats, a lazy penalty with
    a double backward, dropout from the global generator, batch statistics, noise from `ctx.rng`, and a
    counting buffer."""

    def __init__(self, repeats: int = 2, every: int = 3) -> None:
        super().__init__()
        self.repeats, self.every = repeats, every
        self.generator = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
        self.critic = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Softplus(), nn.Linear(8, 1))
        self.register_buffer("pool", torch.zeros(5, 4))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.seen: list[tuple[str, int, list[int]]] = []

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("critic", ("critic",), repeats=self.repeats),
            Phase(
                "penalty",
                ("critic",),
                every=self.every,
                fresh_batch=False,
                optimizer="critic",
                double_backward=True,
            ),
            Phase("generator", ("generator",), fresh_batch=False),
        )

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        self.seen.append((phase, ctx.step, batch.index.tolist()))
        z = torch.randn(len(batch), 3, generator=ctx.rng, device=batch.x.device)
        if phase == "penalty":
            x = batch.x.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.critic(x).float().sum(), x, create_graph=True)
            return {"penalty": gradient.square().sum(1).mean()}
        fake = self.generator(z)
        if phase == "generator":
            return {"realism": -self.critic(fake).float().mean()}
        self.pool.copy_(torch.roll(self.pool, 1, 0))
        self.pool[0] = fake[0].detach()
        ctx.log(size=fake.detach().float().square().mean())
        real, made = self.critic(batch.x).float().mean(), self.critic(fake.detach()).float().mean()
        return {"real": -real, "fake": made, "decay": self.critic(self.pool).float().square().mean()}

    def after_step(self, ctx: Context) -> None:
        self.steps += 1


class TwoStages(Trainable):
    """A codec, then a prior over its codes."""

    def __init__(self) -> None:
        super().__init__()
        self.codec = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Linear(2, 4))
        self.prior = nn.Linear(2, 2)

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("codec", ("codec",), stage="codec"),
            Phase("prior", ("prior",), stage="prior"),
        )

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        if phase == "codec":
            return {"error": (self.codec(batch.x).float() - batch.x).square().mean()}
        code = self.codec[:2](batch.x).float()
        return {"error": (self.prior(code.detach()).float() - code.roll(1, 0)).square().mean()}


class Images(Trainable):
    """A convolution whose loss is a mean over its output."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("fit", ("net",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        noise = torch.randn(batch.x.shape, generator=ctx.rng, device=batch.x.device)
        return {"error": (self.net(batch.x + noise).float() - batch.x).square().mean()}


class Poisoned(Trainable):
    """Something stops being finite in step `at` (counted from 1): in a module, a loss term, or a gradient."""

    def __init__(self, where: str, at: int) -> None:
        super().__init__()
        self.where, self.at = where, at
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.spoiler = Spoiler()

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("warm", ("first",)), Phase("main", ("first", "second"), optimizer="warm"))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        now = phase == "main" and ctx.step + 1 == self.at
        h = self.second(self.spoiler(self.first(batch.x), now and self.where == "module")).float()
        term = h.square().mean()
        if now and self.where == "term":
            term = term + torch.log(-term.detach().abs())
        if now and self.where == "gradient":
            term = term + torch.sqrt(h.sum() * 0.0)  # √0 = 0, but its slope there is infinite
        return {"size": term, "other": h.mean()}


class Spoiler(nn.Module):
    def forward(self, x: Tensor, now: bool) -> Tensor:
        return x / 0.0 if now else x
