"""A data set in memory: three splits of samples, kept as small integers where they are pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from niwaki.core.contract import Batch, CallError, SampleSpec, nearest
from niwaki.data.audit import Audit

__all__ = ["Dataset", "Split"]


@dataclass
class Split:
    """Samples of one split, all on one device.

    x:          `(n, *shape)`; uint8 holds grey levels 0 … levels−1, float32 holds values in the spec's range;
                tokens (modality `text`) are integers 0 … levels−1 of any type
    y:          class labels `(n,)` int64, or None
    attributes: further integer facts about every sample, `(n,)` int64 each (the font of a glyph)
    x_b:        samples of a second, unpaired domain `(m, *shape_b)`, stored like `x`
    """

    spec: SampleSpec
    x: Tensor
    y: Tensor | None = None
    attributes: dict[str, Tensor] = field(default_factory=dict)
    x_b: Tensor | None = None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def values(self, index: Tensor | None = None) -> Tensor:
        """Samples as a model sees them: float32 in [low, high] (tokens: int64); those at `index`, or all."""
        return self._scaled(self.x if index is None else self.x[index])

    def _scaled(self, stored: Tensor) -> Tensor:
        if self.spec.modality == "text":
            return stored.long()  # tokens are names, not amounts
        if stored.dtype != torch.uint8:
            return stored
        spec = self.spec
        # u / (levels−1) first: the ends are then exactly low and high, and all values lie between them
        return stored.float().div_(spec.levels - 1).mul_(spec.high - spec.low).add_(spec.low)

    def batch(self, index: Tensor, index_b: Tensor | None = None) -> Batch:
        """The samples at `index` `(n,)` int64, gathered where the split lives; no host synchronisation.

        index_b: positions in the second domain; default: `index`, wrapped round its length
        """
        index = index.to(self.x.device, non_blocking=True)
        x_b = None
        if self.x_b is not None:
            index_b = (
                index % len(self.x_b) if index_b is None else index_b.to(self.x_b.device, non_blocking=True)
            )
            x_b = self._scaled(self.x_b[index_b])
        y = None if self.y is None else self.y[index]
        return Batch(x=self.values(index), y=y, x_b=x_b, index=index)

    def select(self, index: Tensor) -> Split:
        """The part at `index` (positions or a mask); the second domain stays whole."""
        y = None if self.y is None else self.y[index]
        return replace(
            self, x=self.x[index], y=y, attributes={k: v[index] for k, v in self.attributes.items()}
        )

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return replace(
            self,
            x=self.x.to(device),
            y=None if self.y is None else self.y.to(device),
            attributes={k: v.to(device) for k, v in self.attributes.items()},
            x_b=None if self.x_b is None else self.x_b.to(device),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that the split holds, by name: what its fingerprint is taken over."""
        named = {"x": self.x, **{f"attributes.{k}": v for k, v in self.attributes.items()}}
        if self.y is not None:
            named["y"] = self.y
        if self.x_b is not None:
            named["x_b"] = self.x_b
        return named


@dataclass
class Dataset:
    """Three splits, and what was found out about them.

    train:           what models learn from
    validation:      early stopping, search, margins
    test:            touched by the final evaluation alone
    extra:           further splits by name (`ood`: samples from outside the distribution)
    attribute_names: what the integers of each attribute mean
    fingerprint:     SHA-256 over all tensors and the config; equal for equal content wherever the files lie
    """

    name: str
    spec: SampleSpec
    train: Split
    validation: Split
    test: Split
    extra: dict[str, Split] = field(default_factory=dict)
    attribute_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    audit: Audit = field(default_factory=Audit)
    fingerprint: str = ""

    @property
    def splits(self) -> Mapping[str, Split]:
        """All splits by name, the extra ones last."""
        return {"train": self.train, "validation": self.validation, "test": self.test, **self.extra}

    def split(self, name: str) -> Split:
        """Raises CallError for a split that this data set does not have."""
        if name not in self.splits:
            raise CallError(f"the data set '{self.name}' has no split '{name}'; {nearest(name, self.splits)}")
        return self.splits[name]
