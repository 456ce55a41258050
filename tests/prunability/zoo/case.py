"""One architecture of the zoo, and the clothes in which niwaki prunes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Graph, Phase, Port
from niwaki.models.registry import ModelConfig, register
from niwaki_runtime.samplers import OneShot, Sampler

CASES: dict[str, Case] = {}


@dataclass(frozen=True)
class Case:
    """model: built with the same weights every time; fast: run by `make test`; refuses: what the refusal says
    where it is expected; unexportable: why the architecture itself, uncut, has no ONNX form; leaves: the
    largest share of the parameters that may be left."""

    name: str
    family: str
    model: Callable[[], GenerativeModel]
    fast: bool = False
    refuses: str = ""
    unexportable: str = ""
    leaves: float = 0.85


def floats(name: str, *shape: int) -> Port:
    return Port(name, (1, *shape))


def whole(name: str, high: int, *shape: int) -> Port:
    return Port(name, (1, *shape), "int64", high=high)


def case(family: str, *inputs: Port, name: str = "", **expected: Any) -> Callable[..., Any]:
    """Decorator: the function (or class) that makes a module of these inputs is a case."""

    def enter(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        title = name or make.__name__.replace("_", "-").lower()
        _MODULES[title] = (make, inputs)
        add(title, family, lambda: build(title), **expected)
        return make

    return enter


def add(name: str, family: str, model: Callable[[], GenerativeModel], **expected: Any) -> None:
    assert name not in CASES
    CASES[name] = Case(name, family, model, **expected)


_MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[Port, ...]]] = {}


def build(name: str) -> GenerativeModel:
    torch.manual_seed(0)
    return ZooModel(ZooConfig(case=name), DataSpec.of("vector", (4,)))


class ZooConfig(ModelConfig):
    case: str = ""


@register("prunability-zoo")
class ZooModel(GenerativeModel):
    """Any module as a model with one graph."""

    Config = ZooConfig

    def __init__(self, config: ZooConfig, spec: DataSpec) -> None:
        super().__init__()
        make, self.ports = _MODULES[config.case or next(iter(_MODULES))]
        self.config, self.spec, self.conditions = config, spec, {}
        self.network = make()
        for p in self.network.parameters():  # what starts at zero would hide what hangs on it
            if p.is_floating_point() and not bool(p.any()):
                nn.init.normal_(p, std=0.05)
        self.eval()
        with torch.no_grad():
            out = self.network(*(p.example(2) for p in self.ports))
        self.outs = tuple(f"out{i}" for i in range(len(out) if isinstance(out, tuple | list) else 1))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("all", ("network",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        out = self.network(*(p.example(2) for p in self.ports))
        return {"size": sum(o.square().mean() for o in (out if isinstance(out, tuple | list) else (out,)))}

    def graphs(self) -> dict[str, Graph]:
        return {"network": Graph("generator", self.network, self.ports, self.outs)}

    def sampler(self) -> Sampler:
        return OneShot(latent=(4,), graph="network")


class Calls(nn.Module):
    """A module of another library, called as `call(module, *inputs)` says."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *inputs: Tensor) -> Any:
        return self.call(self.module, *inputs)


class Residual(nn.Module):
    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)
