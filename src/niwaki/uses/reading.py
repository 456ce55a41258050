"""Files that a user names as the samples of a spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from niwaki.core.array_files import read_array_file
from niwaki.core.errors import CallError
from niwaki.data.reading.pictures import MODES, is_grey, read_picture
from niwaki.uses.base import Call
from niwaki.uses.paths import ARRAYS, PICTURES, files_below
from niwaki.uses.reading_sounds import SOUNDS, fitted
from niwaki_runtime.codec import is_sound
from niwaki_runtime.specs import ValueSpec

__all__ = ["are_arrays", "read_exactly", "read_samples", "read_texts", "samples_of"]

_TEXTS = (".txt", ".md", ".rst")


def samples_of(call: Call, spec: ValueSpec, split: str = "test") -> tuple[np.ndarray, list[str]]:
    """What the user named, or where nothing is named the subject's own data: `(n, *shape)` and names."""
    if call.files:
        return read_samples(call.files, spec)
    dataset = call.dataset()
    if dataset is None:
        raise CallError("name the files to work on; this subject has no data of its own")
    part = {"test": dataset.test, **dataset.extra}.get(split)
    if part is None:
        raise CallError(f"the data have no split '{split}'")
    column = part.columns["x"]
    if column.spec.shape != spec.shape:
        raise CallError(f"the data hold {column.spec.shape}, and the model wants {spec.shape}")
    x = part.values().cpu().numpy()
    return x, [f"{split} {i}" for i in range(len(x))]


def read_samples(places: Sequence[Path], spec: ValueSpec) -> tuple[np.ndarray, list[str]]:
    """Pictures (brought to the size), sounds (to rate and length) and arrays as samples `(n, *shape)` in the
    spec's range; their names.

    Raises CallError for a file that cannot be read as one.
    """
    return _read(places, spec, _picture)


def read_exactly(places: Sequence[Path], spec: ValueSpec) -> tuple[np.ndarray, list[str]]:
    """The same without changing a value: pictures must have the size, the colours and the levels already.

    Raises CallError for one that has not.
    """
    return _read(places, spec, _exact_picture)


def are_arrays(places: Sequence[Path]) -> bool:
    """Whether any of the named files is an array."""
    return any(place.suffix.lower() in ARRAYS for place in places)


def read_texts(places: Sequence[Path]) -> tuple[list[str], list[str], int]:
    """Files of UTF-8 text as they are (of a directory .txt, .md and .rst), their names, and their bytes.

    Raises CallError for one that cannot be read as text.
    """
    texts, names, size = [], [], 0
    for file in files_below(places, _TEXTS, "texts (.txt, .md, .rst)"):
        try:
            content = file.read_bytes()
            texts.append(content.decode())
        except UnicodeDecodeError as error:
            raise CallError(f"{file} is no UTF-8 text: byte {error.start} belongs to no character") from error
        except OSError as error:
            raise CallError(f"{file} cannot be read: {error.strerror or error}") from error
        names.append(file.name)
        size += len(content)
    return texts, names, size


def _read(
    places: Sequence[Path], spec: ValueSpec, picture: Callable[[Path, ValueSpec], np.ndarray]
) -> tuple[np.ndarray, list[str]]:
    parts, names = [], []
    if not places:
        raise CallError("name the files to work on: pictures, sounds, arrays, or folders of them")
    sound = is_sound(spec)
    for file in files_below(places, (*SOUNDS, *ARRAYS) if sound else (*PICTURES, *ARRAYS), _what(sound)):
        if file.suffix.lower() in ARRAYS:
            x = _array(file, spec)
            names += [f"{file.stem}-{i}" for i in range(len(x))] if len(x) != 1 else [file.stem]
        elif sound and file.suffix.lower() in SOUNDS:
            x = fitted(file, spec)[None]
            names.append(file.name)
        elif file.suffix.lower() in PICTURES:
            x = picture(file, spec)[None]
            names.append(file.name)
        else:
            kind, endings = ("sound", SOUNDS) if sound else ("picture", PICTURES)
            raise CallError(f"{file} is no {kind} ({', '.join(endings[:4])} …) and no .npy or .npz")
        parts.append(x.astype(spec.dtype))
    if not sum(map(len, parts)):
        raise CallError("the given files hold no samples")
    return np.concatenate(parts), names


def _what(sound: bool) -> str:
    return f"{'sounds' if sound else 'pictures'} and no arrays"


def _picture(file: Path, spec: ValueSpec) -> np.ndarray:
    _check_pictures(spec)
    pixels, reason = read_picture(file, spec.shape[1], spec.shape[0], 255)
    if pixels is None:
        raise CallError(f"{file} cannot be read: {reason}")
    if pixels.shape != spec.shape:
        raise CallError(f"{file} becomes {pixels.shape}, and the model wants {spec.shape}")
    return spec.low + (spec.high - spec.low) * pixels / 255.0


def _exact_picture(file: Path, spec: ValueSpec) -> np.ndarray:
    """A picture whose every pixel is one of the levels, as a picture file shows them."""
    from PIL import Image

    _check_pictures(spec)
    try:
        with Image.open(file) as opened:
            opened.load()
            pixels = np.asarray(opened.convert(MODES[spec.shape[0]]))
            size, mode = opened.size, opened.mode
    except Exception as error:  # PIL's parsers raise whatever broken bytes lead them to
        raise CallError(f"{file} cannot be read: {error}") from error
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if pixels.shape != spec.shape:
        wide, high = spec.shape[2], spec.shape[1]
        raise CallError(
            f"{file} has {size[0]}×{size[1]} pixels, and the model codes {wide}×{high}; resize it first"
        )
    if mode not in ("1", "L", "RGB", "RGBA", "P") or (spec.shape[0] == 1 and not is_grey(file)):
        raise CallError(f"{file} (of the mode {mode}) is more than the model's {spec.shape[0]} channels hold")
    shown = spec.to_uint8(np.linspace(spec.low, spec.high, spec.levels, dtype=np.float32))
    level = np.searchsorted(shown, pixels).clip(0, spec.levels - 1)
    if not np.array_equal(shown[level], pixels):
        odd = int(pixels[shown[level] != pixels].flat[0])
        raise CallError(
            f"{file} has the value {odd}, which is none of the {spec.levels} levels that the model codes "
            "without loss; code it lossy, or reduce it to them first"
        )
    return np.asarray(spec.values.seen(level))


def _check_pictures(spec: ValueSpec) -> None:
    if spec.axes != "CHW" or spec.shape[0] not in (1, 3, 4):
        raise CallError(f"the model takes {spec.modality} of the shape {spec.shape}, no pictures; give .npy")


def _array(file: Path, spec: ValueSpec) -> np.ndarray:
    arrays = read_array_file(file, wanted=lambda names: [n for n in ("x", "samples") if n in names][:1])
    if not arrays:
        raise CallError(f"{file} holds no array of samples (x or samples)")
    (x,) = arrays.values()
    if x.shape == spec.shape:
        x = x[None]
    if x.shape[1:] != spec.shape or x.dtype.kind not in "fiu":
        raise CallError(
            f"{file} holds {x.dtype} of the shape {x.shape}, and the model wants (n, {spec.shape})"
        )
    if x.dtype.kind in "iu" and spec.levels and not spec.is_tokens:
        if x.min(initial=0) < 0 or x.max(initial=0) >= spec.levels:
            raise CallError(f"{file} holds integers beyond the {spec.levels} levels of the model")
        return np.asarray(spec.values.seen(x))
    return np.asarray(x)
