"""PixelCNN (van den Oord et al. 2016a) and gated PixelCNN (2016b): the exact probability of an image's stored
levels, pixel after pixel and channel after channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

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
    State,
    ValueSpec,
    View,
)
from niwaki.models.autoregressive.level_heads import LEVELS, Distribution, PixelHead
from niwaki.models.registry import ModelConfig, register, register_preset
from niwaki.nn.layers.images import (
    class_condition,
    class_shares,
    even_shares,
    image_shape,
    labels_of,
    level_of,
)
from niwaki.nn.layers.raster import GatedStack, MaskedStack, RasterStack
from niwaki_runtime.samplers import OneShot, Raster, Sampler

__all__ = ["PixelCnn", "PixelCnnConfig"]

_STACKS: dict[str, type[MaskedStack] | type[GatedStack]] = {"masked": MaskedStack, "gated": GatedStack}
_ENCODED = 2  # numbers that say the level of one channel
_FEW = 64  # levels up to which each has a logit of its own


class PixelCnnConfig(ModelConfig):
    """
    stack:        `gated`, two stacks without a blind spot, or `masked`, one stack of masked convolutions
    layers:       of the stack
    width:        of the value that layers read and add to
    reach:        places to each side that one convolution sees
    hidden:       width of the network that says the levels of a channel
    dropout:      of what layers add
    distribution: `categorical`, a logit for each level, or `logistic`, a mixture of discretized logistics;
                  None: the first up to 64 levels, the other beyond
    components:   of the mixture
    batches:      batches that the frequencies of classes are taken from when training starts
    """

    stack: Literal["masked", "gated"] = "gated"
    layers: int = Field(6, ge=1)
    width: int = Field(48, ge=2)
    reach: int = Field(1, ge=1)
    hidden: int = Field(64, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    distribution: Distribution | None = None
    components: int = Field(5, ge=1)
    batches: int = Field(32, ge=1)


@register("gated-pixelcnn")
class PixelCnn(GenerativeModel):
    """p(x) = Π p(level of channel k at place i | all places before it, channels before k there, class).

    Sampling reads each row and each pixel once. `log_prob` is exact; with classes it is
    log Σ_y p(y) p(x | y).

    config: PixelCnnConfig
    spec:   images `(C, H, W)` of stored levels, of at least 4×4
    """

    Config = PixelCnnConfig
    config: PixelCnnConfig
    log_prior: Tensor  # (classes,), of the classes among the training data
    one_of: Tensor  # (classes, classes), what places are told of each

    def __init__(self, config: PixelCnnConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.shape = image_shape(spec, self.name)
        if not isinstance(spec.values, Levels):
            raise CallError(f"'{self.name}' says the probability of stored levels; these images have none")
        self.levels = spec.levels
        self.classes = spec.classes if config.conditioning.wants("class") else 0
        self.conditions = class_condition(spec) if self.classes else {}
        c, channels = config, self.shape[0]
        self.stack: RasterStack = _STACKS[c.stack](
            _ENCODED * channels, c.width, layers=c.layers, reach=c.reach, told=self.classes, dropout=c.dropout
        )
        kind = c.distribution or ("categorical" if self.levels <= _FEW else "logistic")
        self.head = PixelHead(c.width, channels, _ENCODED, c.hidden, LEVELS[kind](self.levels, c.components))
        self.register_buffer("log_prior", even_shares(self.classes))
        self.register_buffer("one_of", torch.eye(max(self.classes, 1)), persistent=False)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("nll", ("stack", "head")),)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """Frequencies of the classes, from the first batches."""
        if self.classes:
            seen = torch.cat([batches(k)["class"] for k in range(self.config.batches)])
            self.log_prior.copy_(class_shares(seen, self.classes))

    def encode(self, k: Tensor) -> Tensor:
        """Levels `(n, C, …)` → `(n, 2C, …)`: of each channel a value in −1 … 1 and a 1; zeros where nothing
        is (level `levels`)."""
        there = (k < self.levels).float()
        values = (k * (2.0 / (self.levels - 1)) - 1.0) * there
        return torch.stack([values, there], 2).flatten(1, 2)

    def level_of(self, x: Tensor) -> Tensor:
        """Values as seen → numbers of the nearest levels, int64."""
        assert isinstance(self.spec.values, Levels)
        return level_of(x, self.spec.values)

    def told(self, y: Tensor | None) -> Tensor | None:
        return None if y is None else self.one_of[y]  # openvino does not compile one_hot in all graphs

    def log_probs(self, k: Tensor, y: Tensor | None = None) -> Tensor:
        """Levels `(n, C, H, W)` → log-probabilities of each place's levels `(n, C, levels, H, W)`, given all
        before it."""
        return self.log_probs_of(self.encode(k), y)

    def log_probs_of(self, encoded: Tensor, y: Tensor | None = None) -> Tensor:
        """As `log_probs`, of encoded levels `(n, 2C, H, W)`."""
        hidden = self.stack(encoded, self.told(y)).movedim(1, -1)
        each: Tensor = self.head(hidden, encoded.movedim(1, -1))
        return each.movedim((3, 4), (1, 2))

    def log_prob_of(self, k: Tensor, y: Tensor | None = None) -> Tensor:
        """log P of levels, or log P(· | y), in nats `(n,)`."""
        return self.log_probs(k, y).gather(2, k.unsqueeze(2)).flatten(1).sum(1)

    exact_likelihoods = True

    def log_likelihoods(self, batch: Batch, ctx: Context) -> Tensor:
        """log P of the stored levels, in nats `(n,)`."""
        return self.log_prob_of(self.level_of(batch.x), labels_of(batch, self.classes, self.name))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Cross-entropy of the next level, in nats per value."""
        y = labels_of(batch, self.classes, self.name)
        nll = -self.log_prob_of(self.level_of(batch.x), y).mean() / self.spec.size
        ctx.log(bits_per_dim=nll / math.log(2.0))
        return {"nll": nll}

    def log_prob(self, x: Tensor) -> Tensor:
        """log P(x) in nats `(n,)`, of the stored levels."""
        k = self.level_of(x)
        if not self.classes:
            return self.log_prob_of(k)
        n, c = k.shape[0], self.classes
        y = torch.arange(c, device=k.device)[:, None].expand(c, n).reshape(-1)
        each = self.log_prob_of(k.repeat(c, 1, 1, 1), y).reshape(c, n)
        return torch.logsumexp(each + self.log_prior[:, None], 0)

    def read_row(self, levels: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Levels of the row above `(n, C, W)` → what it says of every place `(n, W, features)`, new state."""
        y, state = self._asked(rest)
        return self.stack.read_row(self.encode(levels).unsqueeze(2), self.told(y), state)

    def read_pixel(self, levels: Tensor, above: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Levels of the pixel to the left `(n, C)` → the hidden value of this place, new state."""
        y, state = self._asked(rest)
        encoded = self.encode(levels)[:, :, None, None]
        return self.stack.read_pixel(encoded, above, self.told(y), state)

    def say_channels(self, hidden: Tensor, levels: Tensor) -> Tensor:
        """Hidden value, levels of this pixel so far `(n, C)` → log-probabilities `(n, C, levels)`."""
        logits: Tensor = self.head(hidden, self.encode(levels))
        return logits

    def _asked(self, rest: tuple[Tensor, ...]) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        return (rest[0], rest[1:]) if self.classes else (None, rest)

    def graphs(self) -> dict[str, Graph]:
        channels, _, columns = self.shape
        y = (Port("class", (1,), "int64", high=self.classes),) if self.classes else ()

        def levels(*shape: int) -> Port:  # one more than there are: nothing
            return Port("levels", (1, channels, *shape), "int64", high=self.levels + 1)

        def state(shapes: list[tuple[int, ...]]) -> tuple[State, ...]:
            return tuple(State(f"state_{i}", f"state_{i}_new", shape) for i, shape in enumerate(shapes))

        above, hidden = Port("above", (1, self.stack.features)), Port("hidden", (1, self.stack.width))
        x = Port("x", (1, *self.shape))
        rows, places = state(self.stack.row_state(columns)), state(self.stack.pixel_state())
        return {
            "row": Graph("prior", View(self, "read_row"), (levels(columns), *y), ("above",), rows),
            "pixel": Graph("prior", View(self, "read_pixel"), (levels(), above, *y), ("hidden",), places),
            "channel": Graph("prior", View(self, "say_channels"), (hidden, levels()), ("logits",)),
            "likelihood": Graph("likelihood", View(self, "log_prob"), (x,), ("log_probability",)),
        }

    def sampler(self) -> Sampler:
        values = self.spec.values
        assert isinstance(values, Levels)
        return Raster(
            self.shape, self.levels, values.low, values.step, conditions=tuple(self.conditions)
        ).override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`log_prob` is exact, of the stored levels, in nats."""
        nats = ValueSpec("vector", (), "", Real(-math.inf, math.inf), names=("log_probability",))
        read = OneShot(None, "likelihood", ("x",))
        return {**super().programs(), "log_prob": Program(read, {"x": ConditionSpec(self.spec.x)}, nats)}


register_preset(
    "pixelcnn",
    "gated-pixelcnn",
    "one stack of masked convolutions, with its blind spot (van den Oord et al. 2016a)",
    stack="masked",
)
