"""Detect: whether files carry a key's watermark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.array_files import read_array_file
from niwaki.core.errors import CallError
from niwaki.modalities.certificates import new_certificate
from niwaki.modalities.signing import ENDINGS, signature_in
from niwaki.modalities.text import samples_in
from niwaki_runtime.specs import Real, Tokens, ValueSpec
from niwaki_runtime.watermark import Key, new_key, read_key
from niwaki_runtime.watermark import detect as detect_in

__all__ = ["detect", "new_certificate", "new_key", "signatures"]

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_SOUNDS = (".wav", ".flac", ".ogg")
_BY_RANK = {2: "text", 4: "image", 5: "video"}
"""What an array without a description holds, by its axes."""


def detect(
    files: str | Path | Sequence[str | Path],
    key: str | Path | Key,
    *,
    bundle: str | Path | None = None,
    decoys: int = 19,
) -> dict[str, Any]:
    """Look for a key's mark in pictures, sounds, texts or arrays: files, or folders of them.

    key:    a key's file
    bundle: whose tokenizer texts are read by; arrays that say nothing of themselves are taken as its samples
    decoys: keys that marked nothing, to compare with
    Returns `p` (the chance of as much agreement of all files together where the key marked none of them),
    `p_rank` (the share of keys that agree as well, (1 + rank) / (1 + decoys)), `n`, `statistic`, and `files`:
    name, `p` and `statistic` of each.
    Raises CallError for files that cannot be read, and for samples that carry no mark.
    """
    key = key if isinstance(key, Key) else read_key(key)
    places = [Path(files)] if isinstance(files, str | Path) else [Path(f) for f in files]
    known = _shipped(bundle)
    found = [one for place in _files(places) for one in _read(place, *known)]
    if not found:
        raise CallError("there are no samples to look for a watermark in")
    kinds = sorted({spec.modality for _, _, spec in found})
    if len(kinds) > 1:
        raise CallError(f"{' and '.join(kinds)} samples are looked at apart; name files of one kind")
    finding = detect_in([x for _, x, _ in found], found[0][2], key, decoys=decoys)
    return {
        "key": key.name(),
        "n": len(found),
        "p": finding.together.p,
        "statistic": finding.together.statistic,
        "p_rank": finding.p_rank,
        "decoys": finding.decoys,
        "files": [
            {"name": name, "p": one.p, "statistic": one.statistic}
            for (name, _, _), one in zip(found, finding.each, strict=True)
        ],
    }


def signatures(
    files: str | Path | Sequence[str | Path], *, trust: str | Path | None = None
) -> dict[str, Any]:
    """Who signed files (C2PA), and whether they are as they were then: PNG, GIF, WAV and MP4, or folders.

    trust: a file of certificates (PEM) of those whose signature counts
    Returns `files`: `name`, `signed`, and of those that are `whole`, `trusted`, `by`, `wrong`, `provenance`
    (as niwaki wrote it). Raises CallError for other files, NiwakiError without c2pa.
    """
    places = [Path(files)] if isinstance(files, str | Path) else [Path(f) for f in files]
    anchors = Path(trust).read_text("ascii") if trust is not None else ""
    unsigned = {"signed": False, "whole": False, "trusted": False, "by": "", "wrong": [], "provenance": None}
    found = [(path, signature_in(path, anchors)) for path in _files(places, ENDINGS)]
    if not found:
        raise CallError(f"there are no {', '.join(ENDINGS)} files to look for signatures in")
    return {
        "files": [
            {"name": str(path), **(unsigned if one is None else {**unsigned, "signed": True, **one})}
            for path, one in found
        ]
    }


def _shipped(bundle: str | Path | None) -> tuple[dict[str, str], ValueSpec | None]:
    """A model's texts (its tokenizer), and what its samples are."""
    if bundle is None:
        return {}, None
    from niwaki.workflow.subjects.subject import open_subject

    runner = open_subject(bundle).runner
    if runner is None:
        raise CallError(f"{bundle} is no model; give a run or a bundle whose tokenizer reads the texts")
    return dict(runner.files), runner.program("sample").output


def _files(
    places: Sequence[Path], known: Sequence[str] = (*_PICTURES, *_SOUNDS, ".txt", ".npz", ".npy")
) -> list[Path]:
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise CallError(f"{place} does not exist")
        inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in known)
        found += inside if place.is_dir() else [place]
    return found


def _read(
    place: Path, files: dict[str, str], spec: ValueSpec | None
) -> list[tuple[str, np.ndarray, ValueSpec]]:
    """Name, values and kind of each sample of a file."""
    ending = place.suffix.lower()
    try:
        if ending in _PICTURES:
            from PIL import Image

            with Image.open(place) as picture:
                mode = picture.mode if picture.mode in ("L", "RGB", "RGBA") else "RGB"
                x = np.atleast_3d(np.asarray(picture.convert(mode), np.float32)).transpose(2, 0, 1)
            return [(str(place), x, ValueSpec("image", x.shape))]
        if ending in _SOUNDS:
            import soundfile

            sound, rate = soundfile.read(place, dtype="float32", always_2d=True)
            return [(str(place), sound.T, ValueSpec("audio", sound.T.shape, rate=float(rate)))]
        if ending == ".txt":
            parts = samples_in(place.read_text("utf-8"), files)
            names = [f"{place}[{i}]" for i in range(len(parts))] if len(parts) > 1 else [str(place)]
            texts = ValueSpec("text", (max(map(len, parts)),), values=Tokens(1 << 20))
            return [(name, part, texts) for name, part in zip(names, parts, strict=True)]
        if ending in (".npz", ".npy"):
            return _arrays(place, spec)
    except (OSError, ValueError, RuntimeError) as error:
        raise CallError(f"{place} cannot be read: {error}") from None
    raise CallError(f"{place}: watermarks are looked for in pictures, sounds, .txt, .npz and .npy")


def _arrays(place: Path, spec: ValueSpec | None) -> list[tuple[str, np.ndarray, ValueSpec]]:
    arrays = read_array_file(place)
    name = next((n for n in ("x", "samples") if n in arrays), None)
    if name is None:
        raise CallError(f"{place} holds neither 'x' nor 'samples'")
    if "spec" in arrays:
        spec = ValueSpec.from_json(json.loads(str(arrays["spec"])))
    held = arrays[name]
    if spec is None:
        if held.ndim not in _BY_RANK:
            raise CallError(f"{place} does not say what its arrays are; name the model with --bundle")
        values = Tokens(1 << 20) if held.ndim == 2 else Real()
        spec = ValueSpec(_BY_RANK[held.ndim], held.shape[1:], values=values)
    return [(f"{place}[{i}]", one, spec) for i, one in enumerate(held)]
