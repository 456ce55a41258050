"""Inpainting by a diffusion sampler of latents, its autoencoder around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from niwaki_runtime.samplers.around import AroundDiffusion
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, register
from niwaki_runtime.samplers.blocks import means_of
from niwaki_runtime.samplers.inpaint import Inpaint

__all__ = ["LatentInpaint", "filled"]


@register
@dataclass(frozen=True)
class LatentInpaint(AroundDiffusion):
    """What `Inpaint` does, on the latents of what is known: a latent counts as known where all the pixels are
    that lie in its place (Avrahami, Fried & Lischinski 2023, "Blended latent diffusion", Section 4.1).

    What is not known is first filled with means of what is, so that nothing of it reaches the encoder. In the
    end the known pixels are put over what was decoded: they are what was given, and the decoder's error at
    them is left out.

    sampler: the diffusion sampler of latents `(c, h, w)`
    encoder, decoder: graphs of one input: samples `(C, H, W)` → latents and back; H and W are multiples of
             h and w
    known:   name of the condition that holds the known values, of the shape of a sample
    mask:    name of the condition that is 1 where they are known and 0 elsewhere, `(1, H, W)`
    repeats: how often each step is taken; 1 leaves the sampler's solver as it is
    """

    kind: ClassVar[str] = "latent_inpaint"
    own: ClassVar[tuple[str, ...]] = ("repeats",)
    given: ClassVar[tuple[str, ...]] = ("known", "mask")
    refusal: ClassVar[str] = "inpainting is done around a diffusion sampler, not around '{kind}'"
    encoder: str = "encoder"
    decoder: str = "decoder"
    known: str = "known"
    mask: str = "mask"
    repeats: int = 1

    def __post_init__(self) -> None:
        self._inner()  # which checks the repeats

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        known, mask = conditions[self.known], conditions[self.mask]
        xp = noise.backend.namespace(known)
        latents = outputs(graphs[self.encoder](filled(xp, known, mask)))[0]
        held = {**conditions, self.known: latents, self.mask: _whole(xp, mask, tuple(latents.shape)[-2:])}
        z = self._inner()(graphs, noise, held, project=project, progress=progress)
        made = outputs(graphs[self.decoder](z))[0]
        return mask * known + (1.0 - mask) * made

    def _inner(self) -> Inpaint:
        return Inpaint(self.sampler, self.known, self.mask, self.repeats)

    def graphs_used(self) -> tuple[str, ...]:
        return (self.encoder, *self.sampler.graphs_used(), self.decoder)

    def evaluations(self) -> int:
        return self._inner().evaluations()


def filled(xp: Any, x: Array, mask: Array) -> Array:
    """x `(n, C, H, W)` where the mask `(n, 1, H, W)` is 1; elsewhere the mean of what is known in the
    smallest block around that has any: of 2×2 pixels, 4×4 …, else of all; 0 where nothing is known
    ("pull-push", Gortler, Grzeszczuk, Szeliski & Cohen 1996, Section 3.4, without its blur)."""
    height, width = tuple(x.shape)[-2:]
    fill, sides = _mean_of_known(xp, x, mask, height, width)[0], [2]
    while not (height % sides[-1] or width % sides[-1]):
        sides.append(2 * sides[-1])
    for side in reversed(sides[:-1]):
        mean, share = _mean_of_known(xp, x, mask, side, side)
        fill = xp.where(share > 0.0, mean, fill)
    return mask * x + (1.0 - mask) * fill


def _mean_of_known(xp: Any, x: Array, mask: Array, rows: int, columns: int) -> tuple[Array, Array]:
    """Mean of the known pixels of the block that each lies in, and the share of it that is known."""
    share = means_of(xp, mask, rows, columns)
    mean = means_of(xp, mask * x, rows, columns) / share.clip(1e-12, None)
    return _pixels(mean, rows, columns, x), _pixels(share, rows, columns, mask)


def _pixels(blocks: Array, rows: int, columns: int, like: Array) -> Array:
    """`(…, H/rows, 1, W/columns, 1)` → of the shape of `like`, each as large as its block."""
    *before, height, width = tuple(like.shape)
    ones = like.reshape((*before, height // rows, rows, width // columns, columns)) * 0.0 + 1.0
    return (blocks * ones).reshape(tuple(like.shape))


def _whole(xp: Any, mask: Array, size: tuple[int, ...]) -> Array:
    """`(n, 1, H, W)` → `(n, 1, h, w)`: 1 where all pixels of a block are known, else 0."""
    n, _, height, width = tuple(mask.shape)
    share = means_of(xp, mask, height // size[0], width // size[1]).reshape((n, 1, *size))
    return xp.where(share > 1.0 - 1e-6, share * 0.0 + 1.0, share * 0.0)
