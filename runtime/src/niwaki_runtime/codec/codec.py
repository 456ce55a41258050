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
from niwaki_runtime.codec.coder import Block, Labels, coder_of
from niwaki_runtime.codec.container import Header, check_extent, pack, unpack
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.exact_graphs import ExactGraph, open_exact
from niwaki_runtime.codec.labels import pack_labels, unpack_labels
from niwaki_runtime.entries import GraphEntry
from niwaki_runtime.errors import CallError
from niwaki_runtime.manifest import Manifest
from niwaki_runtime.programs import CODEC, Program
from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.tokenizer import FILE as TOKENIZER
from niwaki_runtime.tokenizer import Tokenizer

__all__ = ["CODEC", "Codec", "Coded", "Decoded", "open_codec"]


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
    lengths:  tokens of each text, where the samples are windows of texts and the names theirs
    """

    x: np.ndarray
    spec: ValueSpec
    names: tuple[str, ...]
    lost: tuple[int, ...]
    lossless: bool
    lengths: tuple[int, ...] | None = None


class Codec:
    """Codes samples by one bundle's networks. Made by `open_codec`.

    spec:   what one sample is
    labels: sizes of the conditions, by name
    lossless, lossy: which of both the model can
    tokenizer: what lies in the bundle to cut texts with (`TextCodec`)
    """

    def __init__(
        self, program: Program, graphs: Mapping[str, Any], digest: str, tokenizer: Tokenizer | None = None
    ) -> None:
        kind = coder_of(program.sampler.kind)
        asked = [name for name in program.sampler.conditions_used() if name != "x"]
        for name in asked:
            if not program.inputs[name].is_label:
                raise CallError(f"the codec does not write the condition '{name}': it is no label")
        self._coder, self._digest, self.tokenizer = kind(graphs, program), digest, tokenizer
        self.spec = program.inputs["x"].value
        self.labels = {name: program.inputs[name].size for name in asked}
        self.lossless, self.lossy = self._coder.lossless, self._coder.lossy

    def encode(
        self,
        x: np.ndarray,
        *,
        labels: Mapping[str, np.ndarray] | None = None,
        names: Sequence[str] = (),
        lossy: bool = False,
        quality: int = 0,
        block: int = 256,
        lengths: Sequence[int] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Coded:
        """Samples `(n, *shape)` in the spec's range as a file.

        labels:  what each sample is, for a model that is conditioned; kept in the file. Those that are left
                 out are chosen: the value that makes the sample shortest
        lossy:   fewer bits, and samples that are only alike (of latents: the posterior's means, each as
                 exactly as its posterior is narrow)
        quality: lossy: bits of each latent more than that, or fewer (−12 … 12)
        block:   samples of a block: a bad byte costs one block, and each block costs bits of its own
        lengths: tokens of each text, where the samples are windows of texts one after another, the last one
                 filled up with −1; the names are then the texts'
        progress: called with (samples done, samples in all)
        Raises CallError for values that are no levels of the spec, for labels outside of their range, and
        where the model has not this way of coding.
        """
        self._check_way(lossy, quality)
        x = np.asarray(x)
        if x.shape[1:] != self.spec.shape:
            raise CallError(f"samples must have the shape {('n', *self.spec.shape)}, not {x.shape}")
        check_extent(len(x), block, self.spec.size)
        called = len(x) if lengths is None else len(lengths)
        if names and len(names) != called:
            raise CallError(f"{called} samples need as many names, not {len(names)}")
        items = self._coder.items(x)
        given = self._given(labels or {}, items)
        settings = self._coder.settings(items, given, block=block, lossy=lossy, quality=quality)
        header = Header(
            self._digest,
            self.spec,
            len(items),
            block,
            not lossy,
            settings,
            tuple(names),
            None if lengths is None else tuple(lengths),
        )
        blocks, packed = [], []
        for first, end in header.counts():
            asked = tuple(y[first:end] for y in given)
            blocks.append(self._coder.encode(items[first:end], asked, settings, lossy=lossy))
            packed.append(pack_labels(asked))
            if progress:
                progress(end, len(items))
        return Coded(pack(header, blocks, packed), len(items), sum(b.bytes for b in blocks))

    def _check_way(self, lossy: bool, quality: int) -> None:
        if lossy and not self.lossy:
            raise CallError("this model codes without loss; leave 'lossy' out")
        if not lossy and not self.lossless:
            raise CallError("this model codes with loss only; say lossy=true where that is meant")
        if quality and not lossy:
            raise CallError("quality is of lossy files; a lossless one has no choice")

    def decode(self, data: bytes, *, progress: Callable[[int, int], None] | None = None) -> Decoded:
        """The samples of a coded file.

        Raises CodecError for a file that is none, that another model wrote, or whose header is damaged.
        """
        header, blocks = unpack(data)
        if header.model != self._digest:
            raise CodecError("another model wrote this file; give the bundle that it was written with")
        if header.spec != self.spec:
            raise CodecError("the file holds samples of another kind than the model makes")
        if not (self.lossless if header.lossless else self.lossy):
            raise CodecError("the file is coded in a way that its model has not")
        settings = self._coder.check(header.settings)
        found = np.full((header.n, *self.spec.shape), self.spec.low, self.spec.dtype)
        lost: list[int] = []
        for (first, end), part in zip(header.counts(), blocks, strict=True):
            try:
                items = self._decode_block(part, end - first, settings, not header.lossless)
                found[first:end] = self._coder.samples(items)
            except CodecError:
                lost += range(first, end)
            if progress:
                progress(end, header.n)
        return Decoded(found, self.spec, header.names, tuple(lost), header.lossless, header.lengths)

    def _decode_block(
        self, part: tuple[Block, bytes] | None, n: int, settings: Mapping[str, Any], lossy: bool
    ) -> np.ndarray:
        if part is None:
            raise CodecError("a block is damaged")
        block, packed = part
        asked = unpack_labels(packed, tuple(self.labels.values()), n)
        return self._coder.decode(block, n, asked, settings, lossy=lossy)

    def _given(self, labels: Mapping[str, np.ndarray], items: np.ndarray) -> Labels:
        """The labels of every sample, in the order of the networks' inputs."""
        n = len(items)
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
        return self._completed(items, found)

    def _completed(self, items: np.ndarray, given: list[np.ndarray | None]) -> Labels:
        """What is not given as what makes each sample shortest, by the model's bits."""
        free = [i for i, y in enumerate(given) if y is None]
        choices = list(itertools.product(*(range(list(self.labels.values())[i]) for i in free)))
        best = np.full(len(items), np.inf)
        found = [np.zeros(len(items), np.int64) if y is None else y for y in given]
        for choice in choices if free else ():
            asked = list(found)
            for i, value in zip(free, choice, strict=True):
                asked[i] = np.full(len(items), value, np.int64)
            bits = self._coder.bits(items, tuple(asked))
            shorter = bits < best
            best = np.where(shorter, bits, best)
            for i in free:
                found[i] = np.where(shorter, asked[i], found[i])
        return tuple(found)


def _exact(directory: Path, entry: GraphEntry) -> ExactGraph:
    return open_exact(directory / entry.file, entry.input_names, entry.output_names, entry.state)


def open_codec(path: Path | str) -> Codec:
    """The codec of a bundle: its networks, verified, in exact arithmetic.

    Raises BundleError for a damaged bundle, CallError for one that has no codec.
    """

    def opened(directory: Path, manifest: Manifest) -> Codec:
        if CODEC not in manifest.programs:
            raise CallError(
                f"{path} has no codec; export a model that can with export.programs=[sample,codec]"
            )
        program, entries = manifest.programs[CODEC], manifest.graphs
        names = program.sampler.graphs_used()
        files = sorted({entries[name].file for name in names} & set(manifest.files))
        weights = sorted(f for f in {*manifest.files, *manifest.packed} if not f.endswith((".onnx", ".json")))
        digest = hashlib.sha256(repr(replace(program).to_json()).encode())
        for name in (*files, *weights):
            entry = manifest.packed.get(name) or manifest.files[name]
            digest.update(f"{name} {entry.sha256}".encode())
        tokenizer = None
        if TOKENIZER in manifest.files:
            tokenizer = Tokenizer((directory / TOKENIZER).read_bytes())
            digest.update(manifest.files[TOKENIZER].sha256.encode())
        graphs = {name: _exact(directory, entries[name]) for name in names}
        return Codec(program, graphs, digest.hexdigest()[:32], tokenizer)

    return open_files(Path(path), opened)  # type: ignore[no-any-return]
