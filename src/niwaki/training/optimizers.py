"""Optimizers by name, each a small frozen config that builds itself.

A new one is a class with `@optimizer("name")`; its fields are then valid settings of
`train.optimizers.<which>`. One without a kernel in torch is written in a file of its own (`lion.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field
from torch import nn, optim
from torch.optim import Optimizer

from niwaki.core.base_config import BaseConfig
from niwaki.training.lion import Lion
from niwaki.training.muon import Muon
from niwaki.training.soap import Soap
from niwaki_runtime.errors import CallError, nearest

__all__ = [
    "Beta",
    "Betas",
    "Groups",
    "OptimizerConfig",
    "build_optimizer",
    "optimizer",
    "optimizer_class",
    "optimizer_names",
]

Groups = list[dict[str, Any]]
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Beta, Beta]


class OptimizerConfig(BaseConfig):
    """What every optimizer has.

    lr:           peak learning rate, which the schedule scales
    weight_decay: of parameters with two dimensions or more
    """

    averages: ClassVar[bool] = False
    """Whether it makes an average of its own, which is what is kept (`average` of its state)."""

    lr: float = Field(2e-4, ge=0)
    weight_decay: float = Field(0.0, ge=0)

    def build(self, groups: Groups) -> Optimizer:
        """The torch optimizer over groups of parameters that carry their own `weight_decay`."""
        raise NotImplementedError

    def groups(self, parameters: Mapping[str, nn.Parameter]) -> Groups:
        """Named parameters in groups, each with its own `weight_decay`.

        Only parameters with two dimensions or more are decayed: pulling a bias or a norm's scale to zero
        regularizes nothing.
        """
        decayed = [p for p in parameters.values() if p.dim() >= 2]
        others = [p for p in parameters.values() if p.dim() < 2]
        return [
            {"params": params, "weight_decay": decay}
            for params, decay in ((decayed, self.weight_decay), (others, 0.0))
            if params
        ]

    @classmethod
    def from_betas(cls, betas: Betas) -> dict[str, Any]:
        """What `train.betas` means for this optimizer."""
        return {"betas": betas} if "betas" in cls.model_fields else {}


Config = TypeVar("Config", bound=type[OptimizerConfig])

_OPTIMIZERS: dict[str, type[OptimizerConfig]] = {}


def optimizer(name: str) -> Callable[[Config], Config]:
    """Class decorator: enter an optimizer under a name."""

    def enter(cls: Config) -> Config:
        _OPTIMIZERS[name] = cls
        return cls

    return enter


def optimizer_names() -> list[str]:
    return sorted(_OPTIMIZERS)


def optimizer_class(name: str) -> type[OptimizerConfig]:
    """Raises CallError for an unknown name."""
    if name not in _OPTIMIZERS:
        raise CallError(f"there is no optimizer '{name}'; {nearest(name, _OPTIMIZERS)}")
    return _OPTIMIZERS[name]


def build_optimizer(config: OptimizerConfig, parameters: Mapping[str, nn.Parameter]) -> Optimizer:
    """An optimizer over named parameters."""
    return config.build(config.groups(parameters))


def _fused(cls: type[Optimizer], groups: Groups, **options: Any) -> Optimizer:
    """The fused kernel (one pass over all parameters) where the device has one, else the foreach one; same
    formulas."""
    try:
        return cls(groups, fused=True, **options)  # type: ignore[call-arg]
    except RuntimeError:  # torch refuses `fused` for devices or dtypes without such a kernel
        return cls(groups, foreach=True, **options)  # type: ignore[call-arg]


@optimizer("adam")
class Adam(OptimizerConfig):
    """Kingma & Ba 2015, arXiv:1412.6980.

    betas:   decay of the first and second moment
    eps:     added to the root of the second moment
    amsgrad: divide by the largest second moment so far (Reddi, Kale & Kumar 2018)
    """

    betas: Betas = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    amsgrad: bool = False

    def build(self, groups: Groups) -> Optimizer:
        options = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "amsgrad": self.amsgrad}
        return _fused(optim.Adam, groups, **options)


@optimizer("adamw")
class AdamW(Adam):
    """Adam with decoupled weight decay: Loshchilov & Hutter 2019, arXiv:1711.05101."""

    def build(self, groups: Groups) -> Optimizer:
        options = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "amsgrad": self.amsgrad}
        return _fused(optim.AdamW, groups, **options)


@optimizer("sgd")
class Sgd(OptimizerConfig):
    """Stochastic gradient descent: m ← μm + g, p ← p − lr·m.

    momentum: μ
    nesterov: p ← p − lr·(g + μm) instead
    """

    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False

    def build(self, groups: Groups) -> Optimizer:
        options = {"lr": self.lr, "momentum": self.momentum, "nesterov": self.nesterov}
        return _fused(optim.SGD, groups, **options)

    @classmethod
    def from_betas(cls, betas: Betas) -> dict[str, Any]:
        return {"momentum": betas[0]}


@optimizer("rmsprop")
class RmsProp(OptimizerConfig):
    """Tieleman & Hinton 2012, Lecture 6.5: p ← p − lr·g / (√v + ε), v ← αv + (1 − α)g².

    alpha:    decay of the squared gradients' average
    eps:      added to its root
    momentum: of the steps
    centered: divide by the standard deviation of the gradients instead of their root mean square
    """

    alpha: float = Field(0.99, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    centered: bool = False

    def build(self, groups: Groups) -> Optimizer:
        options: dict[str, Any] = {"alpha": self.alpha, "eps": self.eps, "momentum": self.momentum}
        return optim.RMSprop(groups, lr=self.lr, centered=self.centered, foreach=True, **options)


@optimizer("radam")
class RAdam(OptimizerConfig):
    """Adam with the variance of its early steps rectified: Liu et al. 2020, arXiv:1908.03265.

    betas:     decay of the first and second moment
    eps:       added to the root of the second moment
    decoupled: weight decay as in AdamW
    """

    betas: Betas = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    decoupled: bool = False

    def build(self, groups: Groups) -> Optimizer:
        options: dict[str, Any] = {"betas": self.betas, "eps": self.eps}
        options["decoupled_weight_decay"] = self.decoupled
        return optim.RAdam(groups, lr=self.lr, foreach=True, **options)


@optimizer("lion")
class LionConfig(OptimizerConfig):
    """`niwaki.training.lion`. Its authors use a rate 3 to 10 times smaller than Adam's and more decay.

    betas: mixing of the update, decay of the momentum
    """

    betas: Betas = (0.9, 0.99)

    def build(self, groups: Groups) -> Optimizer:
        return Lion(groups, lr=self.lr, betas=self.betas)


@optimizer("muon")
class MuonConfig(OptimizerConfig):
    """`niwaki.training.muon`: matrices between layers by Muon, all else by AdamW at the same rate.

    momentum: of the matrices
    betas:    decay of AdamW's moments
    others:   how names of matrices begin that AdamW takes: tables of embeddings, the layer of the logits,
              what weighs counts
    """

    momentum: float = Field(0.95, ge=0, lt=1)
    betas: Betas = (0.9, 0.95)
    others: tuple[str, ...] = ("embed", "labels", "head", "memory")

    def groups(self, parameters: Mapping[str, nn.Parameter]) -> Groups:
        def turned(name: str, p: nn.Parameter) -> bool:
            return p.dim() >= 2 and not name.startswith(self.others)

        matrices = {n: p for n, p in parameters.items() if turned(n, p)}
        rest = super().groups({n: p for n, p in parameters.items() if n not in matrices})
        return [
            *({**group, "matrix": True} for group in super().groups(matrices)),
            *({**group, "matrix": False} for group in rest),
        ]

    def build(self, groups: Groups) -> Optimizer:
        return Muon(groups, lr=self.lr, momentum=self.momentum, betas=self.betas)


@optimizer("soap")
class SoapConfig(OptimizerConfig):
    """`niwaki.training.soap`: Adam in the eigenbasis of Shampoo's preconditioner.

    betas:   decay of the first moment; of the second moment and of the preconditioner
    eps:     added to the root of the second moment
    every:   steps between turns of the basis
    largest: side of a matrix that is turned
    """

    betas: Betas = (0.95, 0.95)
    eps: float = Field(1e-8, gt=0)
    every: int = Field(10, ge=1)
    largest: int = Field(1024, ge=2)

    def build(self, groups: Groups) -> Optimizer:
        options: dict[str, Any] = {"betas": self.betas, "eps": self.eps}
        return Soap(groups, lr=self.lr, every=self.every, largest=self.largest, **options)
