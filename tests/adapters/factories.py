"""Factories as people write them: some bring trained weights, others leave them to chance."""

from __future__ import annotations

from pathlib import Path

import torch
from outside import OutsideDcgan, tiny
from safetensors.torch import load_file
from torch import Tensor, nn

from niwaki.core.contract import DataSpec
from niwaki.models import build

FILE = Path("trained.safetensors")
"""Of `tiny`, in the current directory."""


def fresh() -> nn.Module:
    return tiny()


def seeded() -> nn.Module:
    torch.manual_seed(0)
    return tiny()


def of_a_generator() -> nn.Module:
    rng, module = torch.Generator().manual_seed(3), tiny()
    for weight in module.parameters():
        weight.data.normal_(0.0, 0.02, generator=rng)
    return module


def scaled() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Linear(4, 4)
    module.weight = nn.Parameter(torch.randn(4, 4) * 0.02)
    return module


def orthogonal() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Linear(4, 4)
    nn.init.orthogonal_(module.weight)
    nn.init.zeros_(module.bias)
    return module


def last_is_zero() -> nn.Module:
    torch.manual_seed(0)
    module = tiny()
    nn.init.zeros_(module[6].weight)
    nn.init.zeros_(module[6].bias)
    return module


def new_head() -> nn.Module:
    """Trained but for its last layer."""
    module = loaded()
    module[6] = nn.ConvTranspose2d(16, 1, 4, 2, 1)
    return module


def ours() -> nn.Module:
    torch.manual_seed(0)
    return build("dcgan", {"latent": 8, "width": 8}, DataSpec.of("image", (1, 8, 8)))


def loaded() -> nn.Module:
    module = tiny()
    module.load_state_dict(load_file(FILE))
    return module


def assigned() -> nn.Module:
    with torch.device("meta"):
        module = tiny()
    module.load_state_dict(load_file(FILE), assign=True)
    return module


def copied_by_hand() -> nn.Module:
    module, state = tiny(), load_file(FILE)
    with torch.no_grad():
        for name, value in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
            value.copy_(state[name])
    return module


def norm_alone() -> nn.Module:
    return nn.BatchNorm2d(1)


def constants() -> nn.Module:
    module = nn.Linear(4, 4)
    nn.init.eye_(module.weight)
    nn.init.zeros_(module.bias)
    return module


def without_weights() -> nn.Module:
    return nn.Tanh()


class Projected(nn.Module):
    """Looks through directions that are drawn anew, and are kept in no file."""

    directions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("directions", torch.randn(4, 4), persistent=False)
        self.layer = constants()

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z @ self.directions)


def once() -> nn.Module:
    """Cannot be called again."""
    if getattr(once, "called", False):
        raise RuntimeError("the device is taken")
    once.called = True  # type: ignore[attr-defined]
    return tiny()


def large() -> nn.Module:
    return OutsideDcgan()
