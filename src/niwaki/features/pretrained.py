"""Extractors with weights from outside: Inception, DINOv2, CLIP, by kind and source.

They were trained on photographs: of digits, spectrograms or scans they know little, and the ladders on the
real data say how little. An extractor's identity is the SHA-256 of its weights, its form and its
preprocessing; where the weights lie and what the file is called is no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec, nearest
from niwaki.data import Dataset
from niwaki.features.extractor import Array, NetworkExtractor
from niwaki.features.hub import load_clip, load_dinov2
from niwaki.features.inception import Inception, load_inception
from niwaki.features.preprocess import Preprocess
from niwaki.features.weights import Loaded

__all__ = ["KINDS", "InceptionExtractor", "Pretrained", "is_pretrained", "pretrained_extractor"]

_AT_ONCE = 32
"""Pictures at a time: at 299 pixels each of them takes 15 MB in the first layers."""


class Prepared(nn.Module):
    """Preprocessing and then the network: samples in the data's range → features."""

    def __init__(self, loaded: Loaded, spec: DataSpec) -> None:
        super().__init__()
        self.network = loaded.network
        self.preprocess = loaded.preprocess
        self.range = (spec.low, spec.high)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x if self.preprocess is None else self.preprocess(x, *self.range))


class Pretrained(NetworkExtractor):
    """A network from outside, with the preprocessing it was trained on.

    name:   what reports and the cache's files call it
    kind:   what it is, part of the fingerprint
    most:   samples that the network sees at once, whatever batch is asked for; None is no limit
    Raises CallError for data that the preprocessing cannot prepare.
    """

    def __init__(
        self,
        name: str,
        spec: DataSpec,
        loaded: Loaded,
        *,
        kind: str,
        cache: Path | None = None,
        device: str = "auto",
        most: int | None = _AT_ONCE,
    ) -> None:
        if loaded.preprocess is not None:
            loaded.preprocess.check(spec)
        prepared = None if loaded.preprocess is None else loaded.preprocess.to_json()
        settings = {**loaded.settings, "preprocess": prepared}
        network = Prepared(loaded, spec)
        super().__init__(kind, spec, network, dim=loaded.dim, settings=settings, cache=cache, device=device)
        self.name = name  # after the hash: the same weights elsewhere are the same extractor
        self.preprocess: Preprocess | None = loaded.preprocess
        self._most = most

    def __call__(self, x: Array, batch: int = 256) -> np.ndarray:
        return super().__call__(x, batch if self._most is None else min(batch, self._most))


class InceptionExtractor(Pretrained):
    """Inception's pooled features, and its answers for the inception score."""

    classes = 1008

    def probabilities(self, x: Array, batch: int = 256) -> np.ndarray:
        """(n, C, H, W) → (n, 1008) float32; rows add up to 1."""
        return self.probabilities_of(self(x, batch))

    def probabilities_of(self, features: np.ndarray) -> np.ndarray:
        """The same from features that are already there: (n, 2048) → (n, 1008)."""
        assert isinstance(self.network, Prepared)
        assert isinstance(self.network.network, Inception)
        with torch.inference_mode():
            given = torch.from_numpy(np.array(features, dtype=np.float32)).to(self.device)
            return self.network.network.probabilities(given).cpu().numpy()


@dataclass(frozen=True)
class _Kind:
    load: Callable[[str], Loaded]
    example: str
    extractor: type[Pretrained] = Pretrained


_KINDS = {
    "inception": _Kind(load_inception, "/path/weights.safetensors", InceptionExtractor),
    "dinov2": _Kind(load_dinov2, "facebook/dinov2-base"),
    "clip": _Kind(load_clip, "openai/clip-vit-base-patch32"),
}
KINDS = tuple(_KINDS)
"""Named with a source: `inception:/weights.safetensors`, `dinov2:facebook/dinov2-base`, `clip:/folder`."""


def is_pretrained(name: str) -> bool:
    """Whether a name of features, with or without its source, is of a kind known here."""
    return name.partition(":")[0] in _KINDS


def pretrained_extractor(
    kind: str, source: str, dataset: Dataset, cache: Path | None = None, device: str = "auto"
) -> Pretrained:
    """The extractor of a kind with the weights at `source`, for the images of a data set.

    kind:   `inception`, `dinov2` or `clip`
    source: a safetensors file (`inception`); a folder or a name on the hub (`dinov2`, `clip`)
    Raises CallError for an unknown kind, no source, pickled weights, data that is not grey or RGB images, and
    where the package `transformers` is needed and missing; NiwakiError for weights that cannot be had or are
    of another network.
    """
    if kind not in _KINDS:
        raise CallError(f"there are no pretrained features '{kind}'; {nearest(kind, _KINDS)}")
    known = _KINDS[kind]
    if not source:
        raise CallError(f"the features '{kind}' need their weights: '{kind}:{known.example}'")
    loaded = known.load(source)
    return known.extractor(_name(kind, source), dataset.spec, loaded, kind=kind, cache=cache, device=device)


def _name(kind: str, source: str) -> str:
    """`dinov2-base` of `facebook/dinov2-base`, `inception-weights` of `/path/weights.safetensors`: fit for a
    file's name."""
    last = Path(source).name.removesuffix(".safetensors")
    plain = re.sub(r"[^\w.-]+", "-", last).strip("-.") or kind
    return plain if plain.startswith(kind) else f"{kind}-{plain}"
