"""What a change of one layer will cost on either axis, without sampling: a proxy, to be believed as far as
its rank correlation with measured damage goes.

With g = ∂S/∂y the gradient of an axis' statistic with respect to a layer's outputs y, and Δy what a change
does to them, E(g·Δy)² = Δyᵀ F Δy is the Fisher-weighted output error (F = E ggᵀ; as second-order pruning
has it: Hassibi & Stork 1993, Singh & Alistarh 2020). There are two of them, one for each axis: S goes through
the extractor to the real samples near each made one. Every option of every layer then costs one call of that
layer, on inputs seen once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from niwaki.compression.quantization.adaptive import as_batches
from niwaki.compression.quantization.ranges import Items
from niwaki.core.contract import GenerativeModel
from niwaki.core.errors import CallError, NiwakiError
from niwaki.evaluation.equivalence.margins import AXES, K
from niwaki.evaluation.pairwise.neighbourhood import CLIP
from niwaki.features.extractor import Extractor, NetworkExtractor
from niwaki.surgery.quantized import is_quantizable

__all__ = ["Proxies", "RankCorrelation", "collect", "rank_correlation", "soft_coverage", "soft_realism"]

_VALUES = 1 << 27  # of inputs, outputs and gradients, kept at a time: half a gigabyte
_SOFT = 0.1  # of a claim, in log squared distance

Changed = Callable[[Tensor], Tensor]
"""The inputs of a layer → its outputs after the change."""


@dataclass(frozen=True)
class Proxies:
    """What every layer is given and makes, and how the axes' statistics answer to it.

    inputs, outputs: by layer, the samples first
    gradients: by layer and axis, like the outputs; empty where nothing can be differentiated
    plain:     why both axes are the plain relative output error; empty where they are not
    skipped:   layer → why there is no proxy of it
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    gradients: Mapping[str, Mapping[str, Tensor]]
    plain: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)

    @torch.no_grad()
    def of(self, layer: str, changed: Changed) -> dict[str, float]:
        """By axis E(g·Δy)², or E‖Δy‖²/E‖y − Ey‖² on both where there are no gradients.

        changed: for pruned inputs, the layer as it was refitted, of those that stay
        Raises CallError for a layer that was not collected.
        """
        if layer not in self.inputs:
            raise CallError(f"there is no proxy of '{layer}': {self.skipped.get(layer, 'no graph calls it')}")
        y = self.outputs[layer]
        off = (changed(self.inputs[layer]) - y).double().flatten(1)
        if layer not in self.gradients:
            spread = (y - y.mean(0)).double().square().sum(tuple(range(1, y.ndim))).mean()
            error = float(off.square().sum(1).mean() / spread.clamp_min(1e-30))
            return dict.fromkeys(AXES, error)
        return {
            axis: float((g.double().flatten(1) * off).sum(1).square().mean())
            for axis, g in self.gradients[layer].items()
        }


def collect(
    model: GenerativeModel, items: Items, extractor: Extractor, real: np.ndarray, *, samples: int = 256
) -> Proxies:
    """One pass over the calibration `items`, and where samples are what one graph makes in one call, one pass
    back for each axis.

    model:     in eval mode
    extractor: niwaki's own (`NetworkExtractor`) are differentiated; with any other, for a sampler of several
               calls and for samples of tokens, both axes are the plain relative output error, and `plain`
               says why
    real:      features of real samples `(N, d)`
    samples:   of the items that are used, at most
    Raises NiwakiError where the items of no graph make one batch.
    """
    layers = {n: m for n, m in model.named_modules() if is_quantizable(m) and not isinstance(m, nn.Embedding)}
    seen = _Pass(model, as_batches(model, items, 1), layers, gradients=False)
    one = sum(
        x.numel() + 3 * y.numel() for x, y in zip(seen.inputs.values(), seen.made.values(), strict=True)
    )
    graphs = as_batches(model, items, max(1, min(samples, _VALUES // max(one, 1))))
    if not graphs:
        raise NiwakiError("the calibration inputs of no graph make one batch, so there is no proxy of damage")
    plain = _plain(model, graphs, extractor)
    seen = _Pass(model, graphs, layers, gradients=not plain)
    skipped = {n: f"it is called {k} times in a pass" for n, k in seen.calls.items() if k > 1}
    names = [n for n in seen.made if n not in skipped]
    gradients: dict[str, dict[str, Tensor]] = {n: {} for n in names}
    if not plain:
        assert isinstance(extractor, NetworkExtractor)
        features = _features(extractor, seen.samples)
        reals = torch.as_tensor(real).to(features)
        of = {"fidelity": soft_realism(features, reals).sum(), "diversity": soft_coverage(features, reals)}
        for axis in AXES:
            found = torch.autograd.grad(
                of[axis], [seen.made[n] for n in names], retain_graph=axis != AXES[-1], allow_unused=True
            )
            for name, g in zip(names, found, strict=True):
                gradients[name][axis] = torch.zeros_like(seen.made[name]) if g is None else g
    return Proxies(
        {n: seen.inputs[n] for n in names},
        {n: seen.made[n].detach() for n in names},
        {} if plain else gradients,
        plain,
        skipped,
    )


def soft_realism(features: Tensor, real: Tensor, k: int = K) -> Tensor:
    """Log realism of each sample `(n,)`, as `Neighbourhood` has it, with gradients: max_i log r_i/d_ij over
    the real ones, r_i the distance of i to its k-th neighbour, at most the median; −2 … 2."""
    with torch.no_grad():
        radius = _far(real, real).topk(k + 1, largest=False).values[:, -1]
        radius = radius.clamp(max=float(radius.median()))
    near = _far(features, real).clamp_min(1e-12)
    return (radius.log() - near.log()).amax(1).clamp(-CLIP, CLIP)


def soft_coverage(features: Tensor, real: Tensor, k: int = K, soft: float = _SOFT) -> Tensor:
    """Rarefied coverage by n samples, with gradients: real sample i is claimed by j as
    σ(log(ρ_j²/d_ij²)/soft), ρ_j between the distances of j to its k-th and its next neighbour, and reached as
    1 − exp(−Σ_j claims).

    ρ_j moves with the sample: moving off from all alike changes nothing, as with ranks.
    """
    near = _far(features, real).square().clamp_min(1e-24).log()
    edge = near.topk(k + 1, largest=False).values[:, -2:].mean(1, keepdim=True)
    claims = torch.sigmoid((edge - near) / soft)
    return (1.0 - torch.exp(-claims.sum(0))).mean()


def _far(a: Tensor, b: Tensor) -> Tensor:
    """Distances `(n, N)`, exact also of what is near."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


class _Pass:
    """One pass of every graph: inputs and outputs of the layers, with a graph to go back through."""

    def __init__(
        self,
        model: GenerativeModel,
        graphs: Mapping[str, tuple[Tensor, ...]],
        layers: Mapping[str, nn.Module],
        *,
        gradients: bool,
    ) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.made: dict[str, Tensor] = {}
        self.calls: Counter[str] = Counter()
        handles = [m.register_forward_hook(self._hook(n), with_kwargs=True) for n, m in layers.items()]
        required = [(p, p.requires_grad) for p in model.parameters()]
        model.requires_grad_(False)
        try:
            with torch.set_grad_enabled(gradients):
                for name, given in graphs.items():
                    self.samples: Any = model.shipped_graphs()[name](*given)
        finally:
            for handle in handles:
                handle.remove()
            for parameter, was in required:
                parameter.requires_grad_(was)

    def _hook(self, name: str) -> Any:
        def see(module: nn.Module, inputs: Any, named: Any, out: Tensor) -> Tensor:
            self.calls[name] += 1
            self.inputs[name] = (inputs[0] if inputs else named["input"]).detach().clone()
            if torch.is_grad_enabled() and not out.requires_grad:
                out = out.detach().requires_grad_(True)
            self.made[name] = out
            return out.clone()  # what follows may write into it

        return see


def _plain(model: GenerativeModel, graphs: Mapping[str, Any], extractor: Extractor) -> str:
    """Why the axes' statistics cannot be differentiated; empty where they can."""
    sampler = model.sampler()
    if model.spec.is_tokens:
        return "tokens have no gradient"
    if not isinstance(extractor, NetworkExtractor):
        return f"the extractor '{extractor.name}' is no torch network"
    if sampler.evaluations() != 1 or len(graphs) != 1 or set(sampler.graphs_used()) != set(graphs):
        return "samples are not what one graph makes in one call"
    with torch.no_grad():
        ((name, given),) = graphs.items()
        out = model.shipped_graphs()[name](*given)
    if not isinstance(out, Tensor) or out.shape[1:] != torch.Size(model.spec.shape):
        return "the graph does not make the samples themselves"
    return ""


def _features(extractor: NetworkExtractor, samples: Tensor) -> Tensor:
    """As the extractor takes them, with gradients."""
    x = samples.to(extractor.device)
    if extractor.spec.axes == "CHW":
        x = x.clamp(extractor.spec.low, extractor.spec.high)
    return extractor.tensor_features(x).float().cpu()


@dataclass(frozen=True)
class RankCorrelation:
    """rho: Spearman's ρ of n trials; lower: the bound that it lies above with 95 % (bootstrap percentile)."""

    rho: float
    lower: float
    n: int


def rank_correlation(
    proxy: Sequence[float], damage: Sequence[float], seed: int = 0, draws: int = 2000
) -> RankCorrelation:
    """Spearman's ρ between a proxy and measured damage, and its lower bound by resampling the trials (Efron
    1979). Infinite damage ranks last; a draw in which one of the two is constant counts as 0.

    Raises CallError for fewer than four trials, for as many of the two, and for NaN.
    """
    x, y = np.asarray(proxy, np.float64), np.asarray(damage, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise CallError(f"there are {x.size} proxies of {y.size} damages")
    if len(x) < 4:
        raise CallError(f"a rank correlation takes at least four trials, not {len(x)}")
    if np.isnan(x).any() or np.isnan(y).any():
        raise CallError("a proxy or a damage is not a number")
    rows = np.random.default_rng(seed).integers(len(x), size=(draws, len(x)))
    found = _spearman(x[rows], y[rows])
    return RankCorrelation(float(_spearman(x[None], y[None])[0]), float(np.quantile(found, 0.05)), len(x))


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each row `(draws, n)`: the correlation of mid-ranks."""
    a, b = (rankdata(v, axis=1) for v in (x, y))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), size, out=np.zeros(len(x)), where=size > 0)
