"""Live memory in closed form: chains need what goes in and out of a layer, connections what they skip."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compression import small_models
from torch import Tensor, nn

from niwaki.compression.live_memory import live_memory
from niwaki.core.contract import DataSpec, Graph, Port
from niwaki_runtime.samplers import OneShot


class Chain(nn.Module):
    """4 → 8 → 16 → 2 values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 8), nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.third(self.second(self.first(z)))
        return out


class Skipped(Chain):
    """The first layer's 8 values wait for the end, where they and 2 more are joined into 10."""

    def forward(self, z: Tensor) -> Tensor:
        waits = self.first(z)
        return torch.cat([self.third(self.second(waits)), waits], 1)


class Viewed(Chain):
    """Views and reshapes hold nothing of their own."""

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z)
        out: Tensor = self.third(
            self.second(x.reshape(-1, 2, 4).transpose(1, 2).transpose(1, 2).reshape(-1, 8))
        )
        return out


class OneNetwork(small_models.SmallGan):
    """A generator that is one of the networks above."""

    def __init__(self, network: nn.Module) -> None:
        nn.Module.__init__(self)
        self.network, self.spec, self.conditions = network, DataSpec.of("vector", (2,)), {}

    def graphs(self) -> dict[str, Graph]:
        return {"generator": Graph("generator", self.network, (Port("z", (1, 4)),), ("x",))}

    def sampler(self) -> Any:
        return OneShot(latent=(4,))


@pytest.mark.parametrize(
    ("network", "points"),
    [
        (Chain(), {"first": 8, "second": 8 + 16, "third": 16 + 2}),
        (Viewed(), {"first": 8, "second": 8 + 16, "third": 16 + 2}),
        (Skipped(), {"first": 8, "second": 8 + 16, "third": 8 + 16 + 2}),
    ],
)
def test_chains_and_connections(network: nn.Module, points: dict[str, int]) -> None:
    found = live_memory(OneNetwork(network))
    assert dict(found.points) == {f"network.{name}": 4 * values for name, values in points.items()}
    assert found.peak == 4 * max(points.values())
    assert found.where == f"network.{max(points, key=lambda name: points[name])}"


def test_nothing_is_held_after_the_pass() -> None:
    model = small_models.ddpm().eval()
    assert live_memory(model) == live_memory(model)
    assert live_memory(model).peak > 0


def test_fewer_channels_need_less() -> None:
    assert live_memory(small_models.gan(width=8)).peak < live_memory(small_models.gan(width=16)).peak
