"""Who reads foreign files: for every kind valid examples, and the call that a user's file would meet."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fuzzing.mutations import damage_bytes, damage_document

__all__ = ["TARGETS", "Target", "inputs"]

Make = Callable[[Path], dict[str, bytes]]


@dataclass(frozen=True)
class Target:
    """make: writes what lies beside the file that is damaged, gives valid examples by name
    read:    reads the damaged file, as a user's call would
    damage:  of an example
    share:   of all inputs; the slow ones get fewer
    seconds: that one input may take
    """

    name: str
    make: Make
    read: Callable[[Path], Any]
    damage: Callable[[bytes, random.Random], bytes] = damage_bytes
    share: float = 1.0
    seconds: float = 20.0
    needs: tuple[str, ...] = field(default=())


TARGETS: dict[str, Target] = {}


def _target(name: str, **settings: Any) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
    def enter(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        TARGETS[name] = Target(name, read=read, **settings)
        return read

    return enter


def _document(data: bytes, rng: random.Random) -> bytes:
    """A JSON document with other values, or (one in five) other bytes."""
    if rng.random() < 0.2:
        return damage_bytes(data, rng)
    return json.dumps(damage_document(json.loads(data), rng)).encode()


def _sealed(data: bytes, rng: random.Random) -> bytes:
    """A manifest with other values and the digest of those, so that what comes after the digest is met."""
    found = damage_document(json.loads(data), rng)
    if isinstance(found, dict):
        found.pop("sha256", None)
        plain = json.dumps(found, sort_keys=True, separators=(",", ":"))
        found["sha256"] = hashlib.sha256(plain.encode()).hexdigest()
    return json.dumps(found).encode()


def _yaml(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return damage_bytes(data, rng)
    return yaml.safe_dump(damage_document(yaml.safe_load(data), rng), allow_unicode=True).encode()


# Recipes


def _recipes(folder: Path) -> dict[str, bytes]:
    root = Path(__file__).parents[2] / "recipes"
    return {path.name: path.read_bytes() for path in sorted(root.glob("*.yaml"))}


@_target("recipe", make=_recipes, damage=_yaml, share=2.0)
def _recipe(path: Path) -> None:
    from niwaki.recipe.reading import load_recipe

    load_recipe(path)


# Bundles, whole and by their manifest


def _model() -> Any:
    import torch

    from niwaki.core.contract import DataSpec
    from niwaki.models import build

    torch.manual_seed(0)
    spec = DataSpec.of("image", (1, 8, 8), classes=3)
    return build("dcgan", {"latent": 4, "width": 4, "max_width": 8}, spec).eval()


def _bundle_directory(folder: Path) -> Path:
    from niwaki.deployment import export_graphs, package

    made, model = folder / "whole", _model()
    if not made.exists():
        package(model, export_graphs(model, folder / "graphs"), made, archive=False)
    return made


def _bundles(folder: Path) -> dict[str, bytes]:
    from niwaki_runtime.archive import pack

    return {"whole.niwaki": pack(_bundle_directory(folder), folder / "kept.niwaki").read_bytes()}


def _manifests(folder: Path) -> dict[str, bytes]:
    return {"manifest.json": (_bundle_directory(folder) / "manifest.json").read_bytes()}


@_target("bundle", make=_bundles)
def _bundle(path: Path) -> None:
    import niwaki_runtime

    niwaki_runtime.load(path, engine="onnxruntime").sample(1)


@_target("manifest", make=_manifests, damage=_sealed, share=1.5)
def _manifest(path: Path) -> None:
    import niwaki_runtime

    whole = path.parents[1] / "whole"
    for other in whole.iterdir():
        if other.name != path.name and not (path.parent / other.name).exists():
            if other.is_dir():
                (path.parent / other.name).symlink_to(other, target_is_directory=True)
            else:
                (path.parent / other.name).hardlink_to(other)
    niwaki_runtime.load(path.parent, engine="onnxruntime").sample(1)


# Saved models


def _saved(folder: Path) -> dict[str, bytes]:
    from niwaki.models import save_model

    save_model(_model(), folder / "model")
    return {"model.safetensors": (folder / "model" / "model.safetensors").read_bytes()}


def _described(folder: Path) -> dict[str, bytes]:
    _saved(folder)
    return {"model.json": (folder / "model" / "model.json").read_bytes()}


def _beside(path: Path, name: str) -> None:
    if not (path.parent / name).exists():
        (path.parent / name).hardlink_to(path.parents[1] / "model" / name)


@_target("safetensors", make=_saved, share=1.5)
def _weights(path: Path) -> None:
    from niwaki.models import load_model

    _beside(path, "model.json")
    load_model(path.parent)


@_target("model.json", make=_described, damage=_document)
def _model_json(path: Path) -> None:
    from niwaki.models import load_model

    _beside(path, "model.safetensors")
    load_model(path.parent)


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


@_target("picture", make=_pictures, share=3.0)
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


@_target("arrays", make=_arrays, share=2.0)
def _array(path: Path) -> None:
    from niwaki.data.config import DataConfig, registered

    config = DataConfig.model_validate({"source": "arrays", "path": str(path)})
    registered("arrays").read(config, config.options(), None)


def _tables(folder: Path) -> dict[str, bytes]:
    rows = "\n".join(f"2024-01-01T00:{i // 60:02d}:{i % 60:02d},{i * 0.5},{-i}" for i in range(80))
    plain = "\n".join(f"{i};{i * i}" for i in range(80))
    return {"a.csv": f"time,a,b\n{rows}\n".encode(), "b.csv": f"x;y\n{plain}\n".encode()}


@_target("csv", make=_tables, share=2.0)
def _table(path: Path) -> None:
    from niwaki.data.config import DataConfig, registered

    config = DataConfig.model_validate({"source": "series", "path": str(path), "past": 8, "future": 4})
    registered("series").read(config, config.options(), None)


def _texts(folder: Path) -> dict[str, bytes]:
    return {"a.txt": ("The cat sat on the mat; naïve café. " * 40).encode()}


@_target("text", make=_texts)
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


@_target("tokenizer", make=_tokenizers, damage=_document)
def _tokenizer(path: Path) -> None:
    from niwaki_runtime.tokenizer import Tokenizer

    tokenizer = Tokenizer(path.read_bytes())
    tokenizer.decode(tokenizer.encode("the cat"))


# Folders of other libraries


def _language(folder: Path) -> dict[str, bytes]:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=17, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "model")
    return {"config.json": (folder / "model" / "config.json").read_bytes()}


@_target("language model", make=_language, damage=_document, share=0.05, needs=("transformers",))
def _language_model(path: Path) -> None:
    from niwaki import adapt_language_model

    for other in (path.parents[1] / "model").iterdir():
        if other.name != path.name:
            _beside(path, other.name)
    adapt_language_model(path.parent, length=8)


def _pipeline(folder: Path) -> dict[str, bytes]:
    import diffusers

    net = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8,),
        norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    diffusers.DDIMPipeline(net, diffusers.DDIMScheduler()).save_pretrained(folder / "model")
    found = sorted((folder / "model").rglob("*.json"))
    return {str(p.relative_to(folder / "model")).replace("/", "@"): p.read_bytes() for p in found}


@_target("pipeline", make=_pipeline, damage=_document, share=0.05, needs=("diffusers",))
def _adapted(path: Path) -> None:
    import shutil
    import tempfile

    from niwaki import adapt_pipeline

    there = Path(tempfile.mkdtemp(dir=path.parent)) / "folder"
    shutil.copytree(path.parents[1] / "model", there)
    shutil.copy(path, there / path.name.replace("@", "/"))
    adapt_pipeline(there)


def inputs(target: Target, examples: dict[str, bytes], seed: int) -> Iterator[tuple[int, str, bytes]]:
    """Damaged inputs without end: number, name of the example, bytes. The number alone says what comes."""
    names, number = sorted(examples), 0
    while True:
        rng = random.Random(f"{seed}/{target.name}/{number}")
        name = rng.choice(names)
        yield number, name, target.damage(examples[name], rng)
        number += 1
