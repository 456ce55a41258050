"""Losses that recipes name, for `test_user_losses.py`."""

from __future__ import annotations

import torch


def size(model, batch, ctx):
    return model.net(batch.x).float().square().mean()


def several(model, batch, ctx):
    out = model.net(batch.x).float()
    return {"mean": out.mean().square(), "step": out.sum() * 0.0 + float(ctx.step)}


def square(model, batch, ctx):
    return size(model, batch, ctx)


def broken(model, batch, ctx):
    value = size(model, batch, ctx)
    return value * float("nan") if ctx.step == 3 else value


def wrong(model, batch, ctx):
    return [1.0]


def penalty(model, batch, ctx):
    return torch.stack([p.square().sum() for p in model.critic.parameters()]).sum()


number = 3
