"""Samples and texts as small files, and back: the runtime's codec on what people have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.paths import files_below
from niwaki.uses.reading import are_arrays, read_exactly, read_samples, read_texts
from niwaki.uses.reading_sounds import read_recordings
from niwaki_runtime.codec import Codec, Coded, Decoded, RecordingCodec, TextCodec, is_sound, open_codec
from niwaki_runtime.sounds import RATE, wav
from niwaki_runtime.specs import ConditionSpec, resolve

__all__ = ["Decode", "Encode"]


class EncodeOptions(UseOptions):
    """
    lossy:   far fewer bits (of a VAE the latents alone, of a VQ-VAE the codes); pictures of another size or
             with other levels are brought to the model's. Sounds always are, and cut into windows
    quality: lossy: bits more (or fewer) for each latent than its posterior is narrow
    block:   samples (of texts and sounds windows) that are lost together with a bad byte; None: 256, of
             windows 32
    """

    lossy: bool = False
    quality: int = Field(0, ge=-12, le=12)
    block: int | None = Field(None, ge=1)


@register_use("encode")
class Encode(Use):
    """Pictures, sounds, arrays or texts → one coded file."""

    Options = EncodeOptions
    summary = "pictures, sounds or texts as one small file, without loss or lossy"
    example = "digits.niwaki *.png -o digits.nwk"
    makes, opens = False, False

    def apply(self, call: Call, options: EncodeOptions) -> Outcome:
        codec = open_codec(call.path)
        if not call.files:
            raise CallError("name the pictures, sounds, texts or arrays to encode")
        if codec.tokenizer and not are_arrays(call.files):
            return _encode_texts(call, codec, options)
        if is_sound(codec.spec) and not are_arrays(call.files):
            return _encode_recordings(call, codec, options)
        read = read_samples if options.lossy else read_exactly
        x, names = read(call.files, codec.spec)
        labels = _labels(codec.labels, call.asked, len(x))
        if options.lossy and codec.spec.levels and not codec.spec.is_tokens:  # to the nearest levels
            step = (codec.spec.high - codec.spec.low) / (codec.spec.levels - 1)
            x = codec.spec.low + step * np.clip(
                np.round((x - codec.spec.low) / step), 0, codec.spec.levels - 1
            )
        coded = codec.encode(
            x, labels=labels, names=names, lossy=options.lossy, quality=options.quality,
            block=options.block or 256, progress=call.progress,
        )  # fmt: skip
        size = sum(p.stat().st_size for p in files_below(call.files))
        per_value = 8.0 * coded.payload / (len(x) * codec.spec.size)
        return _coded_file(
            coded, f"{len(x)} samples", f"{per_value:.3f} bits per value", size, options.lossy,
            n=len(x), bits_per_dim=per_value,
        )  # fmt: skip


def _coded_file(
    coded: Coded, what: str, cost: str, size: int, lossy: bool, *, n: int, **rate: float
) -> Outcome:
    """What was coded as one file. what, cost: in words; size: bytes of the files; rate: for the record"""
    return Outcome(
        record={
            "n": n,
            "bytes": len(coded.data),
            "payload": coded.payload,
            **rate,
            "bytes_before": size,
            "lossless": not lossy,
        },
        lines=[
            f"{what} in {len(coded.data):,} bytes ({cost}{'' if lossy else ', without loss'}); "
            f"the files were {size:,} bytes"
        ],
        data=coded.data,
        ending=".nwk",
    )


def _encode_texts(call: Call, codec: Codec, options: EncodeOptions) -> Outcome:
    if options.lossy or options.quality:
        raise CallError("texts are coded without loss; leave 'lossy' and 'quality' out")
    texts, names, size = read_texts(call.files)
    coded = TextCodec(codec).encode(
        texts, labels=_labels(codec.labels, call.asked, 1), names=names, block=options.block or 32,
        progress=call.progress,
    )  # fmt: skip
    per_byte = 8.0 * coded.payload / max(1, size)
    return _coded_file(
        coded, f"{len(texts)} texts", f"{per_byte:.3f} bits per byte", size, False,
        n=len(texts), bits_per_byte=per_byte,
    )  # fmt: skip


def _encode_recordings(call: Call, codec: Codec, options: EncodeOptions) -> Outcome:
    if options.quality:
        raise CallError("sounds are coded in one quality; leave that out")
    sounds, names, size = read_recordings(call.files, codec.spec)
    steps = sum(sound.shape[1] for sound in sounds)
    windows = -(-steps // codec.spec.shape[-1])
    coded = RecordingCodec(codec).encode(
        sounds, labels=_labels(codec.labels, call.asked, windows), names=names, lossy=options.lossy,
        block=options.block or 32, progress=call.progress,
    )  # fmt: skip
    seconds = steps / (codec.spec.rate or RATE)
    rate = 8.0 * coded.payload / seconds
    return _coded_file(
        coded, f"{len(sounds)} recordings of {seconds:.2f} s", f"{rate:,.0f} bits per second", size,
        options.lossy, n=len(sounds), seconds=seconds, bits_per_second=rate,
    )  # fmt: skip


@register_use("decode")
class Decode(Use):
    """A coded file → pictures, sounds, an array or texts."""

    Options = UseOptions
    summary = "the pictures, sounds or texts of a coded file, by the bundle that wrote it"
    example = "digits.niwaki digits.nwk -o pictures/"
    makes, opens = False, False

    def apply(self, call: Call, options: UseOptions) -> Outcome:
        codec = open_codec(call.path)
        if len(call.files) != 1:
            raise CallError("name one coded file, as digits.nwk")
        found = codec.decode(_bytes_of(Path(call.files[0])), progress=call.progress)
        if found.lengths is not None:
            return (_decoded_recordings if is_sound(codec.spec) else _decoded_texts)(codec, found)
        keep = np.setdiff1d(np.arange(len(found.x)), found.lost)
        names = [found.names[i] for i in keep] if found.names else []
        lost = len(found.lost)
        said = "" if found.lossless else ", as near as a lossy file says"
        return Outcome(
            record={"n": len(keep), "lost": list(found.lost), "lossless": found.lossless},
            lines=[f"{len(keep)} samples{said}"],
            x=found.x[keep],
            spec=found.spec,
            names=names,
            ending="/",
            failed=f"{lost} of {len(found.x)} samples lay in damaged blocks and are lost" if lost else "",
        )


def _decoded_texts(codec: Codec, found: Decoded) -> Outcome:
    texts = TextCodec(codec).texts_of(found)
    lost, n = len(texts.lost), len(texts.texts)
    return Outcome(
        record={"n": n, "lost": list(texts.lost), "lossless": True},
        lines=[f"{n} texts"],
        texts=texts.texts,
        names=texts.names,
        ending="/",
        failed=f"{lost} of {n} texts lay partly in damaged blocks; � stands for what is lost" if lost else "",
    )


def _decoded_recordings(codec: Codec, found: Decoded) -> Outcome:
    made = RecordingCodec(codec).recordings_of(found)
    lost, n = len(made.lost), len(made.sounds)
    said = "" if found.lossless else ", as near as a lossy file says"
    return Outcome(
        record={"n": n, "lost": list(made.lost), "lossless": found.lossless},
        lines=[f"{n} recordings{said}"],
        texts=[wav(sound, codec.spec) for sound in made.sounds],
        names=[f"{Path(name).stem}.wav" for name in made.names] or [f"{i}.wav" for i in range(n)],
        ending="/",
        failed=f"{lost} of {n} recordings lay partly in damaged blocks; silence stands for what is lost"
        if lost
        else "",
    )


def _bytes_of(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError as error:
        raise CallError(f"{place} cannot be read: {error.strerror or error}") from error


def _labels(sizes: dict[str, int], asked: Any, n: int) -> dict[str, np.ndarray]:
    """What the user says that the samples are; what is not said the codec chooses."""
    if asked is None or not sizes:
        return {}
    given = asked if isinstance(asked, dict) else {next(iter(sizes)): asked}
    specs = {name: ConditionSpec.label(sizes[name]) for name in given if name in sizes}
    if len(specs) < len(given):
        raise CallError(f"this model is asked for {', '.join(sizes)} only")
    turned = {
        k: [v[i % len(v)] for i in range(n)] if isinstance(v, list | tuple) else v for k, v in given.items()
    }
    return resolve(specs, turned, 0, n)
