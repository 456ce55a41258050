"""RealNVP (Dinh, Sohl-Dickstein & Bengio 2017): affine couplings, sampled and scored by the same networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Levels,
    Phase,
    Port,
    Program,
    Real,
    ValueSpec,
    View,
)
from niwaki.models.flow.layers import ActNorm, Coupling
from niwaki.models.flow.marginals import Marginals
from niwaki.models.flow.masks import coupling_masks
from niwaki.models.flow.transforms import TRANSFORMS, Transform
from niwaki.models.registry import ModelConfig, register, register_preset
from niwaki.nn.layers.images import class_condition, labels_of
from niwaki_runtime.samplers import OneShot, Sampler

__all__ = ["RealNvp", "RealNvpConfig"]

_CELLS = 32
_MOST_CELLS = 64


class RealNvpConfig(ModelConfig):
    """
    layers:    coupling layers; two that follow each other move all values
    width:     hidden units of each conditioner
    depth:     hidden layers of each conditioner
    dropout:   share of hidden units left out in training
    coupling:  `affine`, `additive` as in NICE, or `spline`
    bins:      segments of a spline
    actnorm:   scale and shift all values after every second layer; after the last one it is always done
    marginals: begin with each value's own histogram in the training data; off, with equal cells
    batches:   batches that histograms and activation normalization are set from when training starts
    """

    layers: int = Field(8, ge=2)
    width: int = Field(128, ge=1)
    depth: int = Field(2, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    coupling: Literal["affine", "additive", "spline"] = "affine"
    bins: int = Field(8, ge=2, le=64)
    actnorm: bool = True
    marginals: bool = True
    batches: int = Field(32, ge=1)


register_preset(
    "nice",
    "realnvp",
    "NICE (Dinh, Krueger & Bengio 2015): additive couplings, one scaling at the end",
    coupling="additive",
    actnorm=False,
)


register_preset(
    "neural-spline",
    "realnvp",
    "Neural spline flow (Durkan et al. 2019): couplings by rational-quadratic splines",
    coupling="spline",
)


def _transform(config: RealNvpConfig) -> Transform:
    options = {"bins": config.bins} if config.coupling == "spline" else {}
    return TRANSFORMS[config.coupling](**options)


@register("realnvp")
class RealNvp(GenerativeModel):
    """An invertible network of coupling layers, with an exact density in one call.

    x ↔ z ~ N(0, I) through marginals, couplings and activation normalization, given the class.
    Stored levels are dequantised: log-densities are those of x + noise over the level's own cell.

    config: RealNvpConfig
    spec:   amounts or levels of any shape, of two values or more; what has no bounds has no histograms, and
            begins with activation normalization instead
    """

    Config = RealNvpConfig
    config: RealNvpConfig
    log_prior: Tensor  # (classes,), of the classes among the training data

    def __init__(self, config: RealNvpConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        x = spec.x
        if x.is_tokens or x.size < 2:
            raise CallError(
                f"'{self.name}' models two or more amounts; this data set holds "
                f"{x.modality} of shape {x.shape}"
            )
        asked = config.conditioning.columns
        self.classes = spec.classes if asked is None or "class" in asked else 0
        self.conditions = class_condition(spec) if self.classes else {}
        # Of a level, half a step to either side belongs to its cell.
        self.step = x.values.step if isinstance(x.values, Levels) else 0.0
        cells = x.levels if 0 < x.levels <= _MOST_CELLS else _CELLS
        bounded = math.isfinite(x.high - x.low)
        edges = x.low - self.step / 2, x.high + self.step / 2
        self.marginals = Marginals(x.size, *edges, cells) if bounded else None
        layers: list[nn.Module] = [] if bounded else [ActNorm(x.size)]
        for i, mask in enumerate(coupling_masks(x.shape, config.layers)):
            layers.append(
                Coupling(
                    torch.from_numpy(mask), _transform(config), width=config.width, depth=config.depth,
                    classes=self.classes, dropout=config.dropout,
                )
            )  # fmt: skip
            if i + 1 == config.layers or (config.actnorm and i % 2):
                layers.append(ActNorm(x.size))
        self.flow = nn.ModuleList(layers)
        self.register_buffer(
            "log_prior", torch.full((max(self.classes, 1),), -math.log(max(self.classes, 1)))
        )

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("nll", ("flow",)),)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """Histograms, shares of the classes and activation normalization, from the first batches."""
        seen = [batches(k) for k in range(self.config.batches)]
        x = torch.cat([self.dequantise(b.x, ctx.rng) for b in seen]).flatten(1)
        y = torch.cat([b["class"] for b in seen]) if self.classes else None
        if y is not None:
            counts = torch.bincount(y, minlength=self.classes).to(x) + 1.0
            self.log_prior.copy_(torch.log(counts / counts.sum()))
        if self.marginals is not None and self.config.marginals:
            self.marginals.fit(x)
        h, _ = self._begin(x)
        for layer in self.flow:
            if isinstance(layer, ActNorm):
                layer.begin(h)
            h, _ = layer(h, y)

    def dequantise(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """x + step·(u − ½), u uniform in [0, 1): levels fill their cells (Theis et al. 2016, Section 3.1)."""
        if not self.step:
            return x
        return x + self.step * (torch.rand(x.shape, generator=rng, device=x.device, dtype=x.dtype) - 0.5)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        y = labels_of(batch, self.classes, self.name)
        nats = -self.class_log_prob(self.dequantise(batch.x, ctx.rng), y).mean() / self.spec.size
        ctx.log(bits_per_dim=nats / math.log(2.0) - (math.log2(self.step) if self.step else 0.0))
        return {"nll": nats}

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x `(n, *shape)` → z `(n, size)` and log|det ∂z/∂x| `(n,)`, given the class."""
        h, total = self._begin(x.flatten(1))
        for layer in self.flow:
            h, logdet = layer(h, y)
            total = total + logdet
        return h, total

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z `(n, size)` → x `(n, *shape)`, also half a step beyond the spec's range."""
        for layer in reversed(self.flow):
            z = layer.inverse(z, y)  # type: ignore[operator]
        x = z if self.marginals is None else self.marginals.inverse(z)
        return x.reshape(-1, *self.spec.shape)

    def _begin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Through the marginals, where the values have bounds: `(n, size)` and log|det| `(n,)`."""
        return (x, x.new_zeros(x.shape[0])) if self.marginals is None else self.marginals(x)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """z `(n, size)`."""
        return self.forward(x, y)[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x `(n, *shape)` in the spec's range."""
        x = self.inverse(z, y)
        return x if self.marginals is None else x.clamp(self.spec.low, self.spec.high)

    def class_log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x | y) in nats `(n,)`: log N(z; 0, I) + log|det ∂z/∂x|."""
        z, logdet = self.forward(x, y)
        return logdet - 0.5 * z.square().sum(1) - 0.5 * self.spec.size * math.log(2.0 * math.pi)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats `(n,)`; with classes exactly log Σ_y p(y) p(x | y), in one pass for each."""
        if not self.classes:
            return self.class_log_prob(x)
        k, n = self.classes, x.shape[0]
        y = torch.arange(k, device=x.device)[:, None].expand(k, n).reshape(-1)
        each = self.class_log_prob(x[None].expand(k, *x.shape).reshape(-1, *x.shape[1:]), y)
        return torch.logsumexp(each.reshape(k, n) + self.log_prior[:, None], dim=0)

    def graphs(self) -> dict[str, Graph]:
        x, z = Port("x", (1, *self.spec.shape)), Port("z", (1, self.spec.size))
        y = (Port("class", (1,), "int64", high=self.classes),) if self.classes else ()
        return {
            "generator": Graph("generator", View(self, "decode"), (z, *y), ("x",)),
            "encoder": Graph("encoder", View(self, "encode"), (x, *y), ("z",)),
            "density": Graph("encoder", View(self, "log_prob"), (x,), ("log_prob",)),
        }

    def sampler(self) -> Sampler:
        sampler = OneShot(latent=(self.spec.size,), graph="generator", conditions=tuple(self.conditions))
        return sampler.override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        asked, anything = tuple(self.conditions), Real(-math.inf, math.inf)
        z = ValueSpec("vector", (self.spec.size,), "C", anything)
        x = ConditionSpec(self.spec.x)
        return {
            **super().programs(),
            "encode": Program(OneShot(None, "encoder", ("x", *asked)), {"x": x, **self.conditions}, z),
            "decode": Program(
                OneShot(None, "generator", ("z", *asked)),
                {"z": ConditionSpec(z), **self.conditions},
                self.spec.x,
            ),
            "log_prob": Program(
                OneShot(None, "density", ("x",)), {"x": x}, ValueSpec("vector", (), "", anything)
            ),
        }
