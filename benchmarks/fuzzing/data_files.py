"""Pictures, arrays, tables, texts and tokenizers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.target import damage_json, target

# Data


def _pictures(folder: Path) -> dict[str, bytes]:
    from PIL import Image

    ramp = (np.arange(12 * 10 * 3).reshape(12, 10, 3) * 7 % 256).astype(np.uint8)
    found = {}
    for name, mode, options in (
        ("png", "RGB", {}), ("png", "P", {}), ("png", "I;16", {}), ("jpeg", "RGB", {"exif": _exif()}),
        ("gif", "P", {}), ("bmp", "RGB", {}), ("tiff", "RGB", {}), ("webp", "RGB", {}), ("ppm", "L", {}),
    ):  # fmt: skip
        picture = Image.fromarray(ramp)
        picture = (
            Image.fromarray(ramp[..., 0].astype(np.uint16) * 200) if mode == "I;16" else picture.convert(mode)
        )
        file = io.BytesIO()
        picture.save(file, name, **options)
        found[f"{mode.replace(';', '')}.{name}"] = file.getvalue()
    return found


def _exif() -> Any:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    return exif


@target("picture", make=_pictures, share=3.0)
def _picture(path: Path) -> None:
    from niwaki.data.reading.pictures import is_grey, read_picture

    is_grey(path)
    array, reason = read_picture(path, 8, 3, 255)
    assert (array is None) or (array.shape == (3, 8, 8) and array.dtype == np.uint8)
    assert array is not None or reason, "a picture is left out without a reason"


def _arrays(folder: Path) -> dict[str, bytes]:
    x, y = np.arange(60 * 64, dtype=np.uint8).reshape(60, 8, 8), np.arange(60) % 3
    floats = np.linspace(0, 1, 480, dtype=np.float32).reshape(60, 8)
    found = {}
    for name, save in (
        ("x.npy", lambda f: np.save(f, x)),
        ("f.npy", lambda f: np.save(f, floats)),
        ("xy.npz", lambda f: np.savez(f, x=x, y=y)),
        ("small.npz", lambda f: np.savez_compressed(f, x=x, y=y)),
    ):
        file = io.BytesIO()
        save(file)
        found[name] = file.getvalue()
    return found


@target("arrays", make=_arrays, share=2.0)
def _array(path: Path) -> None:
    from niwaki.data.config import DataConfig, registered

    config = DataConfig.model_validate({"source": "arrays", "path": str(path)})
    registered("arrays").read(config, config.options(), None)


def _tables(folder: Path) -> dict[str, bytes]:
    rows = "\n".join(f"2024-01-01T00:{i // 60:02d}:{i % 60:02d},{i * 0.5},{-i}" for i in range(80))
    plain = "\n".join(f"{i};{i * i}" for i in range(80))
    return {"a.csv": f"time,a,b\n{rows}\n".encode(), "b.csv": f"x;y\n{plain}\n".encode()}


@target("csv", make=_tables, share=2.0)
def _table(path: Path) -> None:
    from niwaki.data.config import DataConfig, registered

    config = DataConfig.model_validate({"source": "series", "path": str(path), "past": 8, "future": 4})
    registered("series").read(config, config.options(), None)


def _texts(folder: Path) -> dict[str, bytes]:
    return {"a.txt": ("The cat sat on the mat; naïve café. " * 40).encode()}


@target("text", make=_texts)
def _text(path: Path) -> None:
    from niwaki.data.config import DataConfig, registered

    config = DataConfig.model_validate({"source": "text", "path": str(path), "length": 16})
    registered("text").read(config, config.options(), None)


# Tokenizers


def _tokenizers(folder: Path) -> dict[str, bytes]:
    from niwaki.data.reading.tokens import byte_tokenizer, learned_tokenizer

    return {
        "bytes.json": byte_tokenizer().encode(),
        "learned.json": learned_tokenizer(["the cat sat on the mat " * 20], 264).encode(),
    }


@target("tokenizer", make=_tokenizers, damage=damage_json)
def _tokenizer(path: Path) -> None:
    from niwaki_runtime.tokenizer import Tokenizer

    tokenizer = Tokenizer(path.read_bytes())
    tokenizer.decode(tokenizer.encode("the cat"))
