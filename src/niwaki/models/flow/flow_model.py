"""What every flow is: layers with an inverse, scored exactly and sampled by the same networks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

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
from niwaki.models.flow.coding import coding_graphs, coding_programs
from niwaki.models.flow.marginals import Marginals
from niwaki.models.registry import ModelConfig
from niwaki.nn.layers.images import class_condition, class_shares, even_shares, labels_of
from niwaki_runtime.samplers import OneShot, Sampler

__all__ = ["FlowConfig", "FlowModel"]

_CELLS = 32
_MOST_CELLS = 64


class FlowConfig(ModelConfig):
    """
    marginals: begin with each value's own histogram in the training data; off, with equal cells
    batches:   batches that histograms and activation normalization are set from when training starts
    """

    marginals: bool = True
    batches: int = Field(32, ge=1)


class FlowModel(GenerativeModel):
    """x ↔ z ~ N(0, I) through marginals and layers, given the class, with an exact density in one call.

    Stored levels are dequantised: log-densities are those of x + noise over the level's own cell.
    A subclass says its `layers`: modules on flattened samples `(n, size)` with `forward(x, y)` → z and
    log|det|, `inverse(z, y)` → x, and `begin(x, y)` where they follow from data.

    spec: amounts or levels of two values or more; what has no bounds has no histograms
    """

    config: FlowConfig
    log_prior: Tensor  # (classes,), of the classes among the training data

    def __init__(self, config: FlowConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        x = spec.x
        if x.is_tokens or x.size < 2:
            raise CallError(
                f"'{self.name}' models two or more amounts; this data set holds "
                f"{x.modality} of shape {x.shape}"
            )
        self.classes = spec.classes if config.conditioning.wants("class") else 0
        self.conditions = class_condition(spec) if self.classes else {}
        # Of a level, half a step to either side belongs to its cell.
        self.step = x.values.step if isinstance(x.values, Levels) else 0.0
        cells = x.levels if 0 < x.levels <= _MOST_CELLS else _CELLS
        edges = x.low - self.step / 2, x.high + self.step / 2
        self.marginals = Marginals(x.size, *edges, cells) if self.bounded else None
        self.flow = nn.ModuleList(self.layers())
        self.register_buffer("log_prior", even_shares(self.classes))

    @property
    def bounded(self) -> bool:
        """Whether the values have bounds."""
        return math.isfinite(self.spec.high - self.spec.low)

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """From x, or its marginals, to z."""

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("nll", ("flow",)),)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """Histograms, shares of the classes and activation normalization, from the first batches; of weights
        with a past only the shares."""
        seen = [batches(k) for k in range(self.config.batches)]
        x = torch.cat([self.dequantise(b.x, ctx.rng) for b in seen]).flatten(1)
        y = torch.cat([b["class"] for b in seen]) if self.classes else None
        if y is not None:
            self.log_prior.copy_(class_shares(y, self.classes))
        # Layers know samples only as the histograms and norms hand them over.
        begun = ctx.is_begun(self.marginals, used_by=self.flow)
        if self.marginals is not None and self.config.marginals and not begun:
            self.marginals.fit(x)
        h, _ = self._begin(x)
        for layer in self.flow:
            if hasattr(layer, "begin") and not ctx.is_begun(layer):
                layer.begin(h, y)  # type: ignore[operator]
            h, _ = layer(h, y)

    def dequantise(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """x + step·(u − ½), u uniform in [0, 1): levels fill their cells (Theis et al. 2016, Section 3.1)."""
        if not self.step:
            return x
        return x + self.step * (torch.rand(x.shape, generator=rng, device=x.device, dtype=x.dtype) - 0.5)

    def filled(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Levels with noise from q, and log q of the noise in parts of a cell `(n,)`: 0 where it is uniform.

        log P(x) ≥ E_q [log p(x + noise) − log q(noise | x)] + size · log step (Ho et al. 2019, Equation 12).
        """
        return self.dequantise(x, rng), x.new_zeros(x.shape[0])

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        y = labels_of(batch, self.classes, self.name)
        x, log_q = self.filled(batch.x, ctx.rng)
        nats = (log_q - self.class_log_prob(x, y)).mean() / self.spec.size
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
        return self._end(z)

    def _end(self, h: Tensor) -> Tensor:
        """Through the marginals' inverse, where the values have bounds: `(n, size)` → x `(n, *shape)`."""
        x = h if self.marginals is None else self.marginals.inverse(h)
        return x.reshape(-1, *self.spec.shape)

    def _begin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Through the marginals, where the values have bounds: `(n, size)` and log|det| `(n,)`."""
        return (x, x.new_zeros(x.shape[0])) if self.marginals is None else self.marginals(x)

    def cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values between and on the levels `(n, size)` → where the layers begin, and the logarithms of the
        slopes `(n, size)`."""
        assert self.marginals is not None  # levels have bounds
        return self.marginals.each(x)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """z `(n, size)`."""
        return self.forward(x, y)[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x `(n, *shape)` in the spec's range."""
        return self.within(self.inverse(z, y))

    def within(self, x: Tensor) -> Tensor:
        """x in the spec's range, where it has bounds."""
        return x.clamp(self.spec.low, self.spec.high) if self.bounded else x

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
            **coding_graphs(self),
        }

    def sampler(self) -> Sampler:
        return self.decoding().override(**self.config.sampling)

    def decoding(self, z: str = "") -> Sampler:
        """How z becomes x: drawn, or the condition of that name."""
        asked = tuple(self.conditions)
        if z:
            return OneShot(None, "generator", (z, *asked))
        return OneShot((self.spec.size,), "generator", asked)

    def programs(self) -> dict[str, Program]:
        asked, anything = tuple(self.conditions), Real(-math.inf, math.inf)
        z = ValueSpec("vector", (self.spec.size,), "C", anything)
        x = ConditionSpec(self.spec.x)
        return {
            **super().programs(),
            "encode": Program(OneShot(None, "encoder", ("x", *asked)), {"x": x, **self.conditions}, z),
            "decode": Program(self.decoding("z"), {"z": ConditionSpec(z), **self.conditions}, self.spec.x),
            "log_prob": Program(
                OneShot(None, "density", ("x",)), {"x": x}, ValueSpec("vector", (), "", anything)
            ),
            **coding_programs(self),
        }
