"""A hierarchical VAE: a dozen layers of latents from coarse to fine (Sønderby et al. 2016; Child 2021)."""

from __future__ import annotations

import math
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
    Graph,
    Levels,
    Phase,
    Port,
    Program,
    Real,
    ValueSpec,
    View,
)
from niwaki.models.registry import ModelConfig, register
from niwaki.models.vae.coding import Coding
from niwaki.models.vae.hierarchy import BottomUp, TopDownLayer, assign_sizes
from niwaki.models.vae.importance import log_mean_exp, repeat_rows, tile_rows
from niwaki.models.vae.levels import HEADS, Kind, usual_head
from niwaki.nn.layers.blocks import pyramid
from niwaki.nn.layers.images import (
    class_condition,
    class_shares,
    even_shares,
    image_shape,
    labels_of,
    to_signed,
)
from niwaki_runtime import noise
from niwaki_runtime.samplers import OneShot, Sampler

__all__ = ["HierarchicalVae", "HierarchicalVaeConfig"]


class HierarchicalVaeConfig(ModelConfig):
    """
    layers:     of latents, spread over the sizes from 1×1 (or the last that can be halved) to the image's own
    latent:     channels of each layer's latents
    width:      channels of the path that all layers read and add to
    inner:      channels inside their networks
    blocks:     residual branches of the encoder at each size
    dropout:    share of channels' values left out in the networks of the layers, in training
    likelihood: `categorical`, a logit for each level, or `logistic`, discretized; None: the first up to 64
                levels, the other beyond
    warmup:     share of training over which the weight of the KL term rises from 0
    bound:      samples of the latents that `log_prob` takes for its bound, for each class
    batches:    batches that frequencies of levels and classes are taken from when training starts
    """

    layers: int = Field(12, ge=1)
    latent: int = Field(4, ge=1)
    width: int = Field(48, ge=1)
    inner: int = Field(24, ge=1)
    blocks: int = Field(2, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    likelihood: Kind | None = None
    warmup: float = Field(0.0, ge=0, le=1)
    bound: int = Field(8, ge=1)
    batches: int = Field(32, ge=1)


@register("hierarchical-vae")
class HierarchicalVae(Coding):
    """p(x, z) = p(x | z) Π p(z_l | z_<l): every layer sees all above it, the encoder's features tell each
    posterior what x is. Latents are known to programs as the standard normals that make them.

    config: HierarchicalVaeConfig
    spec:   images `(C, H, W)` of stored levels, of at least 4×4
    """

    Config = HierarchicalVaeConfig
    config: HierarchicalVaeConfig
    log_prior: Tensor  # (classes,), of the classes among the training data

    def __init__(self, config: HierarchicalVaeConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        channels, height, width = image_shape(spec, self.name)
        if not isinstance(spec.values, Levels):
            raise CallError(f"'{self.name}' says the probability of stored levels; these images have none")
        self.classes = spec.classes if config.conditioning.wants("class") else 0
        self.conditions = class_condition(spec) if self.classes else {}
        c, sizes = config, pyramid(height, width, 1)
        at = assign_sizes(c.layers, len(sizes))
        # With fewer layers than sizes there is none at the coarsest, and nothing to look at there.
        self.at, sizes = tuple(size - at[0] for size in at), sizes[at[0] :]
        self.encoder = BottomUp(
            channels, sizes, width=c.width, inner=c.inner, blocks=c.blocks, dropout=c.dropout
        )
        self.layers = nn.ModuleList(
            TopDownLayer(
                c.width, c.inner, c.latent, sizes[at], first=i == 0, depth=2 * c.layers, dropout=c.dropout
            )
            for i, at in enumerate(self.at)
        )
        # Each place of four gets a map of its own: below 1×1 nothing else tells one corner from another.
        self.up = nn.ModuleList(nn.ConvTranspose2d(c.width, c.width, 2, stride=2) for _ in sizes[1:])
        self.embed = nn.Embedding(self.classes, c.width) if self.classes else None
        self.head = HEADS[c.likelihood or usual_head(spec.levels)](c.width, spec.x)
        self.shapes = [(c.latent, *sizes[at]) for at in self.at]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.register_buffer("log_prior", even_shares(self.classes))

    @property
    def latent(self) -> ValueSpec:
        """What z is: the normals of all layers, the coarsest first."""
        return ValueSpec("vector", (sum(self.sizes),), "C", Real(-math.inf, math.inf))

    def phases(self) -> tuple[Phase, ...]:
        embed = ("embed",) if self.classes else ()
        return (Phase("elbo", ("encoder", "layers", "up", *embed, "head")),)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """Frequencies of levels at each place, and of classes, from the first batches."""
        seen = [batches(k) for k in range(self.config.batches)]
        if not ctx.is_begun(self.head):
            self.head.begin(torch.cat([b.x for b in seen]))
        if self.classes:
            self.log_prior.copy_(class_shares(torch.cat([b["class"] for b in seen]), self.classes))

    def split(self, z: Tensor) -> list[Tensor]:
        """`(n, Σ)` → latents of each layer `(n, latent, h, w)`."""
        starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        return [
            z[:, start : start + size].unflatten(1, shape)
            for start, size, shape in zip(starts, self.sizes, self.shapes, strict=True)
        ]

    def enter(self, layer: int, h: Tensor | None, y: Tensor | None) -> Tensor | None:
        """The path as that layer finds it: told the class below the first, brought to the layer's size."""
        if h is None:
            return None
        if layer == 1:
            h = self._told(h, y)
        for at in range(self.at[layer - 1], self.at[layer]):
            h = self.up[at](h)
        return h

    def _told(self, h: Tensor, y: Tensor | None) -> Tensor:
        return h if self.embed is None else h + self.embed(y)[:, :, None, None]

    def path(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Standard normals `(n, Σ)` → what the head reads `(n, width, H, W)`, through the prior."""
        h: Tensor | None = None
        for i, (layer, noise_) in enumerate(zip(self.top_down(), self.split(z), strict=True)):
            h = self.enter(i, h, y)
            h = layer.add(h, noise_ if h is None else layer.prior_of(h).at(noise_))
        return self._leave(h, y)

    def _leave(self, h: Tensor | None, y: Tensor | None) -> Tensor:
        assert h is not None
        return h if len(self.at) > 1 else self._told(h, y)

    def top_down(self) -> list[TopDownLayer]:
        return [layer for layer in self.layers if isinstance(layer, TopDownLayer)]

    def infer(
        self, features: list[Tensor], eps: Tensor | None, y: Tensor | None, *, exact: bool = True
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Through the posterior, z_l = mean + σ·eps (its mean where eps is None).

        features: of every size
        eps:      standard normals `(n, Σ)`
        exact:    the divergence of each layer in closed form, else log q(z)/p(z) at the z that was drawn
        Returns what the head reads, the normals that `path` makes the same of, nats of each layer `(n,)`.
        """
        h: Tensor | None = None
        made, nats = [], []
        drawn = [None] * len(self.at) if eps is None else self.split(eps)
        for i, (layer, e) in enumerate(zip(self.top_down(), drawn, strict=True)):
            h = self.enter(i, h, y)
            q = layer.posterior_of(h, features[self.at[i]])
            p = q.standard() if h is None else layer.prior_of(h)
            z = q.mean if e is None else q.at(e)
            made.append(p.noise_of(z))
            by_value = q.divergence(p) if exact or e is None else q.log_ratio(p, e)
            nats.append(by_value.flatten(1).sum(1))
            h = layer.add(h, z)
        return self._leave(h, y), made, nats

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        y = labels_of(batch, self.classes, self.name)
        features = self.encoder(to_signed(batch.x, self.spec))
        eps = torch.randn(len(batch), sum(self.sizes), generator=ctx.rng, device=batch.x.device)
        h, _, nats = self.infer(features, eps, y)
        reconstruction = -self.head.log_prob(batch.x, h).mean()
        kl = torch.stack(nats).sum(0).mean()
        ramp = min(1.0, ctx.progress / self.config.warmup) if self.config.warmup else 1.0
        size = self.spec.size
        ctx.log(bits_per_dim=(reconstruction + kl) / (size * math.log(2.0)), nats_of_latents=kl)
        return {"reconstruction": reconstruction / size, "kl": ramp * kl / size}

    def class_bound(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> Tensor:
        """log 1/k Σ P(x, z)/q(z | x) over k samples of z by eps `(n, k, Σ)`, in nats `(n,)`: in expectation
        at most log P(x), or log P(x | y), and nearer to it the more samples (Burda et al. 2016)."""
        k = eps.shape[1]
        features = [repeat_rows(f, k) for f in self.encoder(to_signed(x, self.spec))]
        y = None if y is None else repeat_rows(y, k)
        h, _, nats = self.infer(features, eps.flatten(0, 1), y, exact=False)
        weights = self.head.log_prob(repeat_rows(x, k), h) - torch.stack(nats).sum(0)
        return log_mean_exp(weights, k)

    def bound_of_draws(self, eps: Tensor, x: Tensor) -> Tensor:
        """A lower bound of log P(x) in nats `(n,)`; with classes log Σ_y p(y) e^bound(x | y), the draws of
        each class being the same."""
        if not self.classes:
            return self.class_bound(x, eps)
        k = self.classes
        y = torch.arange(k, device=x.device)[:, None].expand(k, x.shape[0]).reshape(-1)
        each = self.class_bound(tile_rows(x, k), tile_rows(eps, k), y).reshape(k, -1)
        return torch.logsumexp(each + self.log_prior[:, None], 0)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The normals `(n, Σ)` that `decode` makes the posterior means of."""
        _, made, _ = self.infer(self.encoder(to_signed(x, self.spec)), None, y)
        return torch.cat([z.flatten(1) for z in made], 1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x | z] `(n, C, H, W)` in the spec's range."""
        return self.head.mean(self.path(z, y))

    def draw(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x ~ p(x | z), made of normals `(n, Σ + C·H·W)`: those of the latents, then one for each value."""
        values = z[:, sum(self.sizes) :].unflatten(1, self.spec.shape)
        return self.head.draw(self.path(z[:, : sum(self.sizes)], y), values)

    def graphs(self) -> dict[str, Graph]:
        c, total = self.config, sum(self.sizes)
        asked = (Port("class", (1,), "int64", high=self.classes),) if self.classes else ()
        x, z, eps = Port("x", (1, *self.spec.shape)), Port("z", (1, total)), Port("eps", (1, c.bound, total))
        noise_ = Port("z", (1, total + self.spec.size))
        return {
            # Not a `generator`: nothing can be learnt from a level that was drawn.
            "drawer": Graph("drawer", View(self, "draw"), (noise_, *asked), ("x",)),
            "decoder": Graph("decoder", View(self, "decode"), (z, *asked), ("x",)),
            "encoder": Graph("encoder", View(self, "encode"), (x, *asked), ("z",)),
            "bound": Graph("likelihood", View(self, "bound_of_draws"), (eps, x), ("bound",)),
            **self.coding_graphs(),
        }

    def coded_groups(self) -> tuple[int, ...]:
        return tuple(self.sizes)

    def standard_posterior(self, u: Tensor, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z = m + s·u with the prior's m and s, so that q has the mean (μ − m)/s and the deviation σ/s."""
        features = self.encoder(to_signed(x, self.spec))
        h: Tensor | None = None
        means, deviations = [], []
        for i, (layer, part) in enumerate(zip(self.top_down(), self.split(u), strict=True)):
            h = self.enter(i, h, y)
            q = layer.posterior_of(h, features[self.at[i]])
            p = q.standard() if h is None else layer.prior_of(h)
            means.append(p.noise_of(q.mean).flatten(1))
            deviations.append((q.log_scale - p.log_scale).flatten(1))
            h = layer.add(h, p.at(part))
        return torch.cat(means, 1), torch.cat(deviations, 1)

    def level_weights(self, u: Tensor, y: Tensor | None = None) -> Tensor:
        return self.head(self.path(u, y)).movedim(2, -1).flatten(1, 3)

    def sampler(self) -> Sampler:
        shape = (sum(self.sizes) + self.spec.size,)
        return OneShot(shape, "drawer", tuple(self.conditions)).override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`encode` gives the normals that `decode` takes, `decode` the mean of p(x | z), `log_prob` a lower
        bound of log P(x) by `bound` samples of the latents for each class."""
        asked, z = tuple(self.conditions), self.latent
        nats = ValueSpec("vector", (), "", Real(-math.inf, math.inf), names=("log_probability",))
        x = ConditionSpec(self.spec.x)
        return {
            **super().programs(),
            "encode": Program(OneShot(None, "encoder", ("x", *asked)), {"x": x, **self.conditions}, z),
            "decode": Program(
                OneShot(None, "decoder", ("z", *asked)),
                {"z": ConditionSpec(z), **self.conditions},
                self.spec.x,
            ),
            "log_prob": Program(OneShot((self.config.bound, *z.shape), "bound", ("x",)), {"x": x}, nats),
            **self.coding_programs(),
        }

    def log_prob(self, x: Tensor, *, draws: int = 0, seed: int = 0) -> Tensor:
        """The bound by `draws` counter-based samples (0: those of the config), in nats `(n,)`."""
        shape = (draws or self.config.bound, sum(self.sizes))
        return self.bound_of_draws(torch.from_numpy(noise.normal(seed, 0, x.shape[0], shape)).to(x), x)
