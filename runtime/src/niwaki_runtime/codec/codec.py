"""Coded files of a bundle: samples in, bytes out, and back, on every machine alike."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from niwaki_runtime.bundle import open_files
from niwaki_runtime.codec.bits_back import Block, Coder
from niwaki_runtime.codec.container import MOST_AT_ONCE, MOST_BITS, Header, check_extent, pack, unpack
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.exact_graphs import open_exact
from niwaki_runtime.codec.labels import pack_labels, unpack_labels
from niwaki_runtime.errors import CallError
from niwaki_runtime.manifest import Manifest
from niwaki_runtime.programs import CODEC, Program
from niwaki_runtime.samplers import Noise, NumpyBackend
from niwaki_runtime.samplers.bits_back import BitsBack
from niwaki_runtime.specs import ValueSpec

__all__ = ["CODEC", "Codec", "Coded", "Decoded", "open_codec"]

_SPARE = 2
"""Bits of a latent beyond −log₂ of its posterior's width."""
_SILENT = 0.02
"""Bits that a latent must say on average, lest it be left at its mean."""
_SHARE = 0.01
"""The share of a block that the bits of its first samples' latents may be, which nothing gives back."""
_TRIAL = 64
"""Samples that these are measured on."""
_WEIGHTS = 1 << 22
"""Log-weights of levels in memory at once while they are."""


@dataclass(frozen=True)
class Coded:
    """A coded file and what it cost.

    data:    the file's bytes
    n:       samples in it
    payload: bytes of the coded samples alone, without header, labels and checksums
    """

    data: bytes
    n: int
    payload: int


@dataclass(frozen=True)
class Decoded:
    """What a coded file held.

    x:        samples `(n, *shape)` float32 in the spec's range; those of damaged blocks are at its low end
    spec:     what one of them is
    names:    what they were called, where they were files
    lost:     numbers of the samples whose block is damaged
    lossless: whether the others are exactly what was coded
    """

    x: np.ndarray
    spec: ValueSpec
    names: tuple[str, ...]
    lost: tuple[int, ...]
    lossless: bool


class Codec:
    """Codes samples by one bundle's networks. Made by `open_codec`.

    spec:   what one sample is
    labels: sizes of the conditions, by name
    """

    def __init__(self, program: Program, graphs: Mapping[str, Any], digest: str) -> None:
        if not isinstance(program.sampler, BitsBack):
            raise CallError(f"a codec works by 'bits_back', not by the sampler '{program.sampler.kind}'")
        self._plan, self._graphs, self._digest = program.sampler, graphs, digest
        asked = [name for name in self._plan.conditions if name != "x"]
        for name in asked:
            if not program.inputs[name].is_label:
                raise CallError(f"the codec does not write the condition '{name}': it is no label")
        self.spec = program.inputs["x"].value
        self.labels = {name: program.inputs[name].size for name in asked}

    def encode(
        self,
        x: np.ndarray,
        *,
        labels: Mapping[str, np.ndarray] | None = None,
        names: Sequence[str] = (),
        lossy: bool = False,
        quality: int = 0,
        block: int = 256,
        progress: Callable[[int, int], None] | None = None,
    ) -> Coded:
        """Samples `(n, *shape)` in the spec's range as a file.

        labels:  what each sample is, for a model that is conditioned; kept in the file. Those that are left
                 out are chosen: the value that makes the sample shortest
        lossy:   the posterior's means instead of the samples, each as exactly as its posterior is narrow
        quality: lossy: bits of each latent more than that, or fewer (−12 … 12)
        block:   samples of a block: a bad byte costs one block, and each block costs bits of its own
        progress: called with (samples done, samples in all)
        Raises CallError for values that are no levels of the spec, and for labels outside of their range.
        """
        levels = self._levels(x)
        check_extent(len(levels), block, self.spec.size)
        if names and len(names) != len(levels):
            raise CallError(f"{len(levels)} samples need as many names, not {len(names)}")
        if quality and not lossy:
            raise CallError("quality is of lossy files; a lossless one has no choice")
        if not -MOST_BITS <= quality <= MOST_BITS:
            raise CallError(f"quality lies in {-MOST_BITS} … {MOST_BITS}, not {quality}")
        given = self._given(labels or {}, levels)
        bits, at_once = self._settings(levels, given, block, lossy, quality)
        header = Header(
            self._digest,
            self.spec,
            len(levels),
            block,
            not lossy,
            tuple(bits.tolist()),
            at_once,
            tuple(names),
        )
        coder = self._coder(bits, at_once)
        blocks, packed = [], []
        for first, end in header.counts():
            part, asked = levels[first:end], tuple(y[first:end] for y in given)
            blocks.append(coder.approximate(part, asked) if lossy else coder.encode(part, asked))
            packed.append(pack_labels(asked))
            if progress:
                progress(end, len(levels))
        return Coded(pack(header, blocks, packed), len(levels), sum(b.bytes for b in blocks))

    def decode(self, data: bytes, *, progress: Callable[[int, int], None] | None = None) -> Decoded:
        """The samples of a coded file.

        Raises CodecError for a file that is none, that another model wrote, or whose header is damaged.
        """
        header, blocks = unpack(data)
        if header.model != self._digest:
            raise CodecError("another model wrote this file; give the bundle that it was written with")
        if header.spec != self.spec:
            raise CodecError("the file holds samples of another kind than the model makes")
        if len(header.bits) != self._plan.latents:
            raise CodecError("the header of the coded file contradicts itself")
        coder = self._coder(np.array(header.bits), header.at_once)
        found = np.full((header.n, *self.spec.shape), self.spec.low, np.float32)
        lost: list[int] = []
        for (first, end), part in zip(header.counts(), blocks, strict=True):
            try:
                levels = self._decode_block(coder, part, end - first, header.lossless)
                found[first:end] = self._seen(levels)
            except CodecError:
                lost += range(first, end)
            if progress:
                progress(end, header.n)
        return Decoded(found, self.spec, header.names, tuple(lost), header.lossless)

    def _decode_block(
        self, coder: Coder, part: tuple[Block, bytes] | None, n: int, lossless: bool
    ) -> np.ndarray:
        if part is None:
            raise CodecError("a block is damaged")
        block, packed = part
        asked = unpack_labels(packed, tuple(self.labels.values()), n)
        return coder.decode(block, n, asked) if lossless else coder.reconstruct(block, n, asked)

    def _coder(self, bits: np.ndarray, at_once: int) -> Coder:
        return Coder(self._graphs, self._plan, self.spec.shape, self.spec.levels, bits, at_once)

    def _settings(
        self, levels: np.ndarray, given: tuple[np.ndarray, ...], block: int, lossy: bool, quality: int
    ) -> tuple[np.ndarray, int]:
        """Bits of each latent, and how many samples' latents are popped together."""
        part, asked = levels[:_TRIAL], tuple(y[:_TRIAL] for y in given)
        nothing = np.zeros(self._plan.latents, np.int64)
        if not len(part):
            return nothing, 1
        narrow, said = self._coder(nothing, 1).needs(part, asked)
        most = np.clip(np.ceil(narrow + (quality if lossy else _SPARE)), 0 if lossy else 1, MOST_BITS)
        bits = np.where(said > _SILENT, most, 0).astype(np.int64)
        if lossy:
            return bits, MOST_AT_ONCE
        whole = min(block, len(levels)) * float(self._expected(part, asked).mean())
        return bits, int(np.clip(_SHARE * whole / max(1, bits.sum()), 1, MOST_AT_ONCE))

    def _expected(self, levels: np.ndarray, asked: tuple[np.ndarray, ...]) -> np.ndarray:
        """Bits of each sample by the model, at one draw of the latents `(n,)`."""
        parts, step = [np.empty(0)], int(np.clip(_WEIGHTS // (self.spec.size * self.spec.levels), 1, _TRIAL))
        for first in range(0, len(levels), step):
            here = slice(first, first + step)
            given = dict(zip(self.labels, (y[here] for y in asked), strict=True))
            noise = Noise(NumpyBackend(), 0, first, len(levels[here]))
            parts.append(
                np.asarray(self._plan(self._graphs, noise, {"x": self._seen(levels[here]), **given}))
            )
        return np.concatenate(parts)

    def _levels(self, x: np.ndarray) -> np.ndarray:
        """Samples as integers `(n, size)`."""
        spec = self.spec
        x = np.asarray(x)
        if x.shape[1:] != spec.shape:
            raise CallError(f"samples must have the shape {('n', *spec.shape)}, not {x.shape}")
        at = (x.astype(np.float64) - spec.low) / (spec.high - spec.low) * (spec.levels - 1)
        found = np.round(at)
        if not np.isfinite(at).all() or np.abs(at - found).max(initial=0) > 1e-3:
            raise CallError(
                f"the codec writes the {spec.levels} levels of the model; some values lie between them"
            )
        if found.min(initial=0) < 0 or found.max(initial=0) >= spec.levels:
            raise CallError(f"the values must lie in {spec.low:g} … {spec.high:g}")
        return found.astype(np.int64).reshape(len(x), spec.size)

    def _given(self, labels: Mapping[str, np.ndarray], levels: np.ndarray) -> tuple[np.ndarray, ...]:
        """The labels of every sample, in the order of the networks' inputs."""
        n = len(levels)
        for name in labels:
            if name not in self.labels:
                raise CallError(f"this model is not asked for '{name}'")
        found: list[np.ndarray | None] = []
        for name, size in self.labels.items():
            y = labels.get(name)
            if y is not None:
                y = np.broadcast_to(np.asarray(y), (n,)).astype(np.int64)
                if y.min(initial=0) < 0 or y.max(initial=0) >= size:
                    raise CallError(f"'{name}' must lie in 0 … {size - 1}")
            found.append(y)
        return self._completed(levels, found)

    def _completed(self, levels: np.ndarray, given: list[np.ndarray | None]) -> tuple[np.ndarray, ...]:
        """What is not given as what makes each sample shortest, by the bits of one draw of the latents."""
        free = [i for i, y in enumerate(given) if y is None]
        choices = list(itertools.product(*(range(list(self.labels.values())[i]) for i in free)))
        best = np.full(len(levels), np.inf)
        found = [np.zeros(len(levels), np.int64) if y is None else y for y in given]
        for choice in choices if free else ():
            asked = list(found)
            for i, value in zip(free, choice, strict=True):
                asked[i] = np.full(len(levels), value, np.int64)
            bits = self._expected(levels, tuple(asked))
            shorter = bits < best
            best = np.where(shorter, bits, best)
            for i in free:
                found[i] = np.where(shorter, asked[i], found[i])
        return tuple(found)

    def _seen(self, levels: np.ndarray) -> np.ndarray:
        step = (self.spec.high - self.spec.low) / (self.spec.levels - 1)
        return (self.spec.low + step * levels).reshape(-1, *self.spec.shape)


def open_codec(path: Path | str) -> Codec:
    """The codec of a bundle: its networks, verified, in exact arithmetic.

    Raises BundleError for a damaged bundle, CallError for one that has no codec.
    """

    def opened(directory: Path, manifest: Manifest) -> Codec:
        if CODEC not in manifest.programs:
            raise CallError(
                f"{path} has no codec; export a VAE of stored levels with export.programs=[sample,codec]"
            )
        program, entries = manifest.programs[CODEC], manifest.graphs
        names = program.sampler.graphs_used()
        files = sorted({entries[name].file for name in names} & set(manifest.files))
        weights = sorted(f for f in {*manifest.files, *manifest.packed} if not f.endswith((".onnx", ".json")))
        digest = hashlib.sha256(repr(replace(program).to_json()).encode())
        for name in (*files, *weights):
            entry = manifest.packed.get(name) or manifest.files[name]
            digest.update(f"{name} {entry.sha256}".encode())
        graphs = {
            name: open_exact(directory / entries[name].file, entries[name].input_names, entries[name].outputs)
            for name in names
        }
        return Codec(program, graphs, digest.hexdigest()[:32])

    return open_files(Path(path), opened)  # type: ignore[no-any-return]
