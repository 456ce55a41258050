"""Features of clips that know how things move: a network that tells what was done to time (Jenni, Meishvili &
Favaro, "Video representation learning by recognizing temporal transformations", ECCV 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, DataSpec, Phase
from niwaki.features.encoders import Encoder, EncoderConfig, register_encoder
from niwaki.nn.layers.shrinking import backbone

__all__ = ["CHANGES", "Motion", "MotionConfig"]

_FEWEST = 4  # frames of which an order can be told


class MotionConfig(EncoderConfig):
    """
    width:    channels of the convolutions over space and time
    features: length of the representation
    """

    width: int = Field(32, ge=16, multiple_of=16)
    features: int = Field(64, ge=2)


@register_encoder("motion")
class Motion(Encoder):
    """Learns which of `CHANGES` each clip has been through, and, where the data have classes, its class. A
    Fréchet distance of these features is one of clips, not of frames: it plays the part of the Fréchet video
    distance (FVD, Unterthiner et al. 2018), and its numbers have nothing to do with those of a network that
    was trained on films of people (I3D)."""

    Config = MotionConfig
    batch = 64
    views = 1

    def __init__(self, config: MotionConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.dim = config.features
        self.backbone = backbone(spec, config.width, config.features)
        self.told = nn.Linear(config.features, len(CHANGES))
        self.classes = nn.Linear(config.features, spec.classes) if spec.classes > 1 else None

    @classmethod
    def refuse(cls, spec: DataSpec) -> None:
        super().refuse(spec)
        if spec.axes != "TCHW" or spec.shape[0] < _FEWEST:
            raise CallError(
                f"'{cls.name}' looks at clips of {_FEWEST} frames or more, not at {spec.modality} of shape "
                f"{tuple(spec.shape)}"
            )

    def phases(self) -> tuple[Phase, ...]:
        heads = ("told",) if self.classes is None else ("told", "classes")
        return (Phase("time", ("backbone", *heads)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        x = batch.x
        kind = torch.randint(len(CHANGES), (len(x),), generator=ctx.rng, device=x.device)
        changed = torch.stack([change(x, ctx.rng) for change in CHANGES.values()])
        seen = changed[kind, torch.arange(len(x), device=x.device)]
        z = F.relu(self.features(seen))
        terms = {"change": F.cross_entropy(self.told(z).float(), kind)}
        if self.classes is not None:
            whole = kind != _CUT  # of a cut clip half belongs to another class
            each = F.cross_entropy(self.classes(z).float(), batch["class"], reduction="none")
            terms["class"] = (each * whole).sum() / whole.sum().clamp(min=1)
        return terms

    def features(self, x: Tensor) -> Tensor:
        """(n, T, C, H, W) → (n, dim)"""
        return self.backbone(x)


def _shuffled(x: Tensor, rng: torch.Generator) -> Tensor:
    """The frames of each clip in an order of its own."""
    order = torch.rand(x.shape[:2], generator=rng, device=x.device).argsort(1)
    return x[torch.arange(len(x), device=x.device)[:, None], order]


def _still(x: Tensor, rng: torch.Generator) -> Tensor:
    """One frame of each clip, held."""
    at = torch.randint(x.shape[1], (len(x),), generator=rng, device=x.device)
    return x[torch.arange(len(x), device=x.device), at][:, None].expand_as(x)


def _stuttering(x: Tensor, rng: torch.Generator) -> Tensor:
    """Every other frame, each shown twice."""
    at = torch.arange(x.shape[1], device=x.device)
    return x[:, at - at % 2]


def _cut(x: Tensor, rng: torch.Generator) -> Tensor:
    """From somewhere in its middle on, another clip of the batch."""
    frames = x.shape[1]
    at = torch.randint(2, frames - 1, (len(x), 1), generator=rng, device=x.device)
    later = torch.arange(frames, device=x.device) >= at
    return torch.where(later[:, :, None, None, None], x.roll(1, 0), x)


CHANGES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "none": lambda x, rng: x,
    "shuffled": _shuffled,
    "still": _still,
    "stuttering": _stuttering,
    "cut": _cut,
}
"""What is done to clips `(n, T, C, H, W)`, by name."""
_CUT = list(CHANGES).index("cut")
