"""The loss that all models with a denoiser share: of samples, of latents, of clips."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, GenerativeModel, Graph, Levels, Phase, Port
from niwaki.models.diffusion.config import DenoiserConfig
from niwaki.models.diffusion.weak import STRENGTH, WEAK
from niwaki.nn.alignment import Alignment
from niwaki.nn.couplings import coupled
from niwaki.nn.diffusion import TensorProcess, columns, last_estimate, noised
from niwaki.nn.directional_derivative import DirectionalDerivative
from niwaki.nn.layers.magnitude_preserving import force_unit_rows
from niwaki.nn.layers.shrinking import backbone
from niwaki.nn.learned_variance import variance_bound
from niwaki.nn.loss_weights import Uncertainty, min_snr_weight
from niwaki_runtime.samplers.backend import outputs

__all__ = ["Denoising"]


class _Told(NamedTuple):
    """Samples at times t, noised to `x` = α clean + σ ε, what the network says of them, and its squared
    error."""

    clean: Tensor
    t: Tensor
    a: Tensor
    s: Tensor
    x: Tensor
    said: Tensor
    more: tuple[Tensor, ...]
    error: Tensor


class Denoising(GenerativeModel):
    """A network `denoiser` that takes noise away along the config's process.

    A subclass calls `prepare_loss` and `prepare_weak` in its constructor, and says what is noised (`clean`)
    and what the network is asked for (`asked`).
    """

    config: DenoiserConfig
    denoiser: nn.Module
    clip: ClassVar[float] = 1.0  # bound of |x₀| in sampling, 0 for none

    def prepare_loss(self) -> None:
        """Make what the loss needs beside the denoiser: the process, what weighs its levels, and what a layer
        is aligned to."""
        self.path, repa = TensorProcess(self.config.process()), self.config.repa
        self.alignment = None if repa is None else Alignment(repa, self.spec, self.denoiser)
        if repa is not None:
            self.features = backbone(self.spec, repa.encoder_width, repa.encoder_features)
        self.uncertainty = Uncertainty() if self.config.weighting == "learned" else None

    def prepare_weak(self, make: Callable[[DenoiserConfig], nn.Module]) -> None:
        """Make the weak denoiser that the config asks for, by what makes the network of a config."""
        c = self.config
        self.weak = None if c.weak is None else make(c.model_copy(update={**c.weak.changes(), "weak": None}))

    @abstractmethod
    def asked(self, batch: Batch, ctx: Context) -> list[Tensor]:
        """The conditions as the network is given them in training, in their order."""

    def clean(self, batch: Batch) -> Tensor:
        """What noise is added to: the samples."""
        return batch.x

    def trained_parts(self) -> tuple[str, ...]:
        """Names of what the loss trains."""
        return ("denoiser",)

    def phases(self) -> tuple[Phase, ...]:
        beside = {"uncertainty": self.uncertainty, "alignment": self.alignment}
        trained = (*self.trained_parts(), *(name for name, part in beside.items() if part is not None))
        phase, weak = Phase("denoiser", trained), self.config.weak
        if weak is None or not weak.every:
            return (phase,)
        return phase, Phase(WEAK, (WEAK,), every=weak.every, fresh_batch=False, validate=False)

    def weak_graphs(self, inputs: tuple[Port, ...]) -> dict[str, Graph]:
        """The graph of the weak denoiser, which is given what the denoiser is; none where there is none."""
        return {} if self.weak is None else {WEAK: self.denoiser_graph(self.weak, inputs)}

    def guiding(self) -> dict[str, Any]:
        """Fields of a sampler that is guided by the weak denoiser, where there is one."""
        return {} if self.weak is None else {"guide": WEAK, "guidance": STRENGTH}

    def denoiser_graph(self, module: nn.Module, inputs: tuple[Port, ...]) -> Graph:
        """The graph of a denoiser whose inputs are x, t and the conditions: the last estimate of x₀ follows
        them where there is one, and variances the prediction."""
        if self.config.self_conditioning:
            inputs = (*inputs, Port("estimate", inputs[0].shape))
        outputs = ("output", "variance") if self.config.learns_variance else ("output",)
        return Graph("denoiser", module, inputs, outputs)

    def with_derivative(self, graphs: dict[str, Graph]) -> dict[str, Graph]:
        """The graphs and, where the config asks for likelihoods, `derivative` of the denoiser."""
        if not self.config.likelihood:
            return graphs
        denoiser = graphs["denoiser"]
        inputs = (*denoiser.inputs, Port("v", denoiser.inputs[0].shape))
        module = DirectionalDerivative(denoiser.module)
        return {**graphs, "derivative": Graph("likelihood", module, inputs, ("output", "slope"))}

    def level_step(self) -> float:
        """Distance of two levels of what is noised; 0 where it has none."""
        values = self.spec.x.values
        return values.step if isinstance(values, Levels) else 0.0

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """The denoiser's; the weak one's is the same, but that it learns nothing of how levels weigh."""
        if phase != WEAK or self.weak is None:
            return self.aligned_loss(batch, ctx)
        terms = self.denoising_loss(self.weak, batch, ctx)
        return {f"{WEAK}_{name}": term for name, term in terms.items() if name != "uncertainty"}

    def aligned_loss(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """The denoiser's loss and, early in training, the term `repa`. On held-out data that measures
        nothing, and a network that was cut has learnt already."""
        repa = self.alignment
        if repa is None or not self.training or self.surgery or ctx.progress >= repa.config.until:
            return self.denoising_loss(self.denoiser, batch, ctx)
        with repa.listening(self.denoiser) as heard:
            terms = self.denoising_loss(self.denoiser, batch, ctx)
        return {**terms, "repa": repa.loss(self.features, batch.x, heard[-1])}

    def after_step(self, ctx: Context) -> None:
        """Weights of unit rows stay so; other networks have none."""
        force_unit_rows(self)

    def denoising_loss(self, denoiser: Callable[..., Any], batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """E w ‖target − prediction‖² over the process's times: uniform ones and w = 1 for DDPM (Ho, Jain &
        Abbeel 2020, Equation 14).

        denoiser: x_t, t and what is asked → what the config's `prediction` says
        """
        told = self._told(denoiser, batch, ctx)
        terms = self.weighted(told.error, told.a, told.s)
        if self.config.learns_variance:
            known = self.path.process.conversion(self.config.prediction)
            guess, _ = known.to_x0_eps(told.x, told.said.detach().float(), told.a, told.s)
            terms["variance"] = self.variance_term(told.clean, guess, told.more[0].float(), told.t)
        return terms

    def log_likelihoods(self, batch: Batch, ctx: Context) -> Tensor:
        """−w ‖target − prediction‖² at one time and noise: a term of the bound of log p, by the weight of the
        loss (Wallace et al. 2023, Equation 14)."""
        told = self._told(self.denoiser, batch, ctx)
        weight = self.path.process.loss_weight(self.config.prediction, told.a, told.s)
        return -(weight * told.error).flatten(1).sum(1)

    def _told(self, denoiser: Callable[..., Any], batch: Batch, ctx: Context) -> _Told:
        """What the network says of the samples at random times."""
        process = self.path.process
        known = process.conversion(self.config.prediction)
        clean = self.clean(batch)
        t = self.path.draw(len(batch), ctx.rng)
        eps = self.coupled_noise(clean, batch, ctx)
        a, s = (columns(level, clean) for level in self.path.levels(t))
        x = noised(clean, eps, a, s)
        inputs = [process.network_input(x, a, s), self.path.network_time(t), *self.asked(batch, ctx)]
        if self.config.self_conditioning:
            inputs.append(last_estimate(denoiser, inputs, known, (x, a, s), self.clip, ctx.rng))
        said, *more = outputs(denoiser(*inputs))
        error = (said.float() - known.target(clean, eps, a, s)).square()
        return _Told(clean, t, a, s, x, said, tuple(more), error)

    def variance_term(self, clean: Tensor, guess: Tensor, share: Tensor, t: Tensor) -> Tensor:
        """λ L_vlb with λ = 0.001 of the sum over timesteps, in bits (Nichol & Dhariwal 2021, Equation 16)."""
        now, before = (
            (columns(a, clean), columns(s, clean)) for a, s in (self.path.levels(t), self.path.before(t))
        )
        least = self.path.least_posterior()
        bound = variance_bound(clean, guess, share, now, before, least, self.level_step())
        return bound.mean() * (self.path.process.timesteps / 1000.0)

    def coupled_noise(self, clean: Tensor, batch: Batch, ctx: Context) -> Tensor:
        """The noise that each sample is led to, as the config couples them."""
        noise = torch.randn(clean.shape, generator=ctx.rng, device=clean.device)
        c = self.config
        if c.coupling == "none":
            return noise
        known = [batch[name] for name in self.conditions] if c.coupling == "c2ot" else []
        return coupled(noise, clean, known, c.coupling_share)

    def weighted(self, error: Tensor, a: Tensor, s: Tensor) -> dict[str, Tensor]:
        """Terms of the loss, of the squared error of what the network says.

        error: like the samples; a, s: α and σ, broadcast against it
        """
        process, c = self.path.process, self.config
        if c.weighting == "min_snr":
            weight = min_snr_weight(process.conversion(c.prediction), a, s, c.min_snr_gamma)
        else:
            weight = process.loss_weight(c.prediction, a, s)
        if self.uncertainty is None:
            return {"denoiser": (weight * error).mean()}
        u = self.uncertainty(a, s)
        return {"denoiser": (weight / u.exp() * error).mean(), "uncertainty": u.mean()}
