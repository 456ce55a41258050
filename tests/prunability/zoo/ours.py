"""The models of niwaki itself, the seven shapes of the contract, and the traps of the compression tests."""

from __future__ import annotations

import importlib

import torch
from compression import small_models
from contract import shapes
from prunability.zoo.case import add

from niwaki.core.contract import GenerativeModel
from niwaki.models.registry import build

SMALL = {
    "ddpm": {"widths": (16, 32), "blocks": 1, "groups": 4, "attention": (4,), "heads": 2, "steps": 3},
    "dcgan": {"width": 16},
    "vae": {"width": 16},
}


def registered(name: str) -> GenerativeModel:
    torch.manual_seed(0)
    return build(name, SMALL[name], small_models.IMAGE)


for _name in SMALL:
    add(
        f"niwaki-{_name}", "ours", lambda name=_name: registered(name), leaves=0.97
    )  # with the critic or encoder
for _name, _shape in shapes.SHAPES.items():
    importlib.import_module(_shape.module)  # registers it, for the process that reads it back
    add(_name, "ours", lambda name=_name: shapes.make(name)[0], leaves=0.95)
for _body in ("plain", "transposed", "hard"):
    add(f"gan-{_body}", "traps", lambda body=_body: small_models.gan(body), fast=_body == "hard")
add("ddpm-fused-qkv", "traps", small_models.ddpm)
add("affine-flow", "traps", small_models.flow)
add("recurrent-cell", "traps", small_models.recurrent)
