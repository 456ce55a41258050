"""DINOv2 and CLIP as `transformers` writes them: from a folder, or from the hub by name. Never from a pickle.

Oquab et al., "DINOv2: learning robust visual features without supervision", 2023
(https://arxiv.org/abs/2304.07193); Radford et al., "Learning transferable visual models from natural language
supervision", ICML 2021 (https://arxiv.org/abs/2103.00020). Stein et al., "Exposing flaws of generative model
evaluation metrics", NeurIPS 2023 (https://arxiv.org/abs/2306.04675) find DINOv2's features nearest to what
people see; Jayasumana et al., "Rethinking FID", CVPR 2024 (https://arxiv.org/abs/2401.09603) take CLIP's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.hub_folder import folder_of, package, quiet
from niwaki.core.store import read_json
from niwaki.features.preprocess import Preprocess
from niwaki.features.weights import Loaded, refuse_pickle

__all__ = ["load_clip", "load_dinov2"]

_DINOV2 = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}
_CLIP = {"clip": "CLIPVisionModelWithProjection", "clip_vision_model": "CLIPVisionModelWithProjection"}
_IMAGENET = Preprocess(size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_CLIP_INPUT = Preprocess(
    size=(224, 224),
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
_FILES = ("config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json")
_WHO = "DINOv2 and CLIP are loaded"
"""What is fetched from the hub: no pickles and no programs."""
_SHAPING = (
    "model_type",
    "hidden_act",
    "layer_norm_eps",
    "num_attention_heads",
    "patch_size",
    "image_size",
    "use_swiglu_ffn",
)
"""What of a configuration decides features beside the weights and their shapes."""


class Output(nn.Module):
    """One named output of a `transformers` model, given images."""

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = getattr(self.model(pixel_values=x), self.output)
        return found


def load_dinov2(source: str) -> Loaded:
    """DINOv2, with or without registers: its class token after the last norm (n, hidden_size).

    source: a folder with `config.json` and `model.safetensors`, or a name on the hub
    Raises CallError for pickled weights, another model and where `transformers` is missing; NiwakiError for
    what cannot be had or read.
    """
    folder = folder_of(source, _FILES, refuse_pickle, _WHO)
    model = _model(folder, _DINOV2, "dinov2")
    made = _preprocess(folder, _IMAGENET, None)
    return Loaded(Output(model, "pooler_output"), int(model.config.hidden_size), made, _settings(model))


def load_clip(source: str) -> Loaded:
    """CLIP's image tower: the projected embedding (n, projection_dim), not normalised. Of a whole CLIP the
    text tower is left out.

    source, errors: as of `load_dinov2`
    """
    folder = folder_of(source, _FILES, refuse_pickle, _WHO)
    model = _model(folder, _CLIP, "clip")
    # Its positions are learned for one size, so that the configuration decides and not the processor's file.
    made = _preprocess(folder, _CLIP_INPUT, int(model.config.image_size))
    return Loaded(Output(model, "image_embeds"), int(model.config.projection_dim), made, _settings(model))


def _model(folder: Path, classes: Mapping[str, str], kind: str) -> Any:
    """The network in float32, with every weight from the file."""
    record = read_json(folder / "config.json")
    found = record.get("model_type")
    if found not in classes:
        raise CallError(f"'{folder}' holds a model of the type '{found}', not {' or '.join(classes)}")
    # A whole CLIP's configuration says beside the towers, and not reliably inside them, how wide they end.
    changes = {key: record[key] for key in ("projection_dim",) if found == "clip" and key in record}
    transformers = package("transformers", _WHO)
    with quiet(transformers, transformers.utils.logging.ERROR):
        try:
            model, report = getattr(transformers, classes[found]).from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **changes,
            )
        except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
            first = str(error).split("\n")[0]
            raise NiwakiError(f"'{folder}' could not be loaded as {kind}: {first}") from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would draw them at random
        raise NiwakiError(f"'{folder}' lacks {len(missing)} weights of {kind}, '{missing[0]}' among them")
    return model.float()


def _preprocess(folder: Path, default: Preprocess, side: int | None) -> Preprocess:
    """Side, mean and deviation of the model's own processor where it brings them."""
    file = folder / "preprocessor_config.json"
    record: dict[str, Any] = read_json(file) if file.exists() else {}
    size = record.get("crop_size", record.get("size")) if side is None else side
    if isinstance(size, Mapping):
        size = (size["height"], size["width"]) if "height" in size else size.get("shortest_edge")
    if isinstance(size, int):
        size = (size, size)
    if not record.get("do_normalize", True):
        return replace(default, size=size or default.size, mean=(0.0,), std=(1.0,))
    mean, std = (
        tuple(map(float, record.get(key) or kept))
        for key, kept in (("image_mean", default.mean), ("image_std", default.std))
    )
    return replace(default, size=size or default.size, mean=mean, std=std)


def _settings(model: Any) -> dict[str, Any]:
    config = model.config.to_dict()
    return {"version": 1, **{key: config[key] for key in _SHAPING if key in config}}
