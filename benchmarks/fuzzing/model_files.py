"""Recipes, bundles, saved models and folders of other libraries."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import yaml

from fuzzing.mutations import damage_bytes, damage_document
from fuzzing.target import beside, damage_json, target


def _yaml(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return damage_bytes(data, rng)
    return yaml.safe_dump(damage_document(yaml.safe_load(data), rng), allow_unicode=True).encode()


def _sealed(data: bytes, rng: random.Random) -> bytes:
    """A manifest with other values and the digest of those, so that what comes after the digest is met."""
    found = damage_document(json.loads(data), rng)
    if isinstance(found, dict):
        found.pop("sha256", None)
        plain = json.dumps(found, sort_keys=True, separators=(",", ":"))
        found["sha256"] = hashlib.sha256(plain.encode()).hexdigest()
    return json.dumps(found).encode()


# Recipes


def _recipes(folder: Path) -> dict[str, bytes]:
    root = Path(__file__).parents[2] / "recipes"
    return {path.name: path.read_bytes() for path in sorted(root.glob("*.yaml"))}


@target("recipe", make=_recipes, damage=_yaml, share=2.0)
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


@target("bundle", make=_bundles)
def _bundle(path: Path) -> None:
    import niwaki_runtime

    niwaki_runtime.load(path, engine="onnxruntime").sample(1)


@target("manifest", make=_manifests, damage=_sealed, share=1.5)
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


@target("safetensors", make=_saved, share=1.5)
def _weights(path: Path) -> None:
    from niwaki.models import load_model

    beside(path, "model.json")
    load_model(path.parent)


@target("model.json", make=_described, damage=damage_json)
def _model_json(path: Path) -> None:
    from niwaki.models import load_model

    beside(path, "model.safetensors")
    load_model(path.parent)


# Folders of other libraries


def _language(folder: Path) -> dict[str, bytes]:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=17, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "model")
    return {"config.json": (folder / "model" / "config.json").read_bytes()}


@target("language model", make=_language, damage=damage_json, share=0.05, needs=("transformers",))
def _language_model(path: Path) -> None:
    from niwaki import adapt_language_model

    for other in (path.parents[1] / "model").iterdir():
        if other.name != path.name:
            beside(path, other.name)
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


@target("pipeline", make=_pipeline, damage=damage_json, share=0.05, needs=("diffusers",))
def _adapted(path: Path) -> None:
    import shutil
    import tempfile

    from niwaki import adapt_pipeline

    there = Path(tempfile.mkdtemp(dir=path.parent)) / "folder"
    shutil.copytree(path.parents[1] / "model", there)
    shutil.copy(path, there / path.name.replace("@", "/"))
    adapt_pipeline(there)
