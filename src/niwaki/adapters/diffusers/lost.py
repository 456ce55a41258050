"""What a pipeline reads of its components' settings and would be lost here: refused by name.

A network is built again from all of its settings by its own class, so those that act inside it are kept.
Those that the pipeline itself acts on are listed here, with the values that they may have.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from niwaki.adapters.diffusers.config import NETWORKS, Component
from niwaki.adapters.diffusers.kinds import KINDS
from niwaki.adapters.diffusers.networks import fresh
from niwaki.adapters.same import refuse_changed
from niwaki.core.contract import CallError
from niwaki.core.weights import refuse_adapters, refuse_quantized

__all__ = ["refuse_handmade", "refuse_settings", "refuse_unknown"]

_NEUTRAL: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "UNet2DConditionModel": {
        "time_cond_proj_dim": (None,),  # the pipeline embeds the weight of guidance, and does not guide
        "class_embed_type": (None,),
        "num_class_embeds": (None,),
        "addition_embed_type": (None,),
        "encoder_hid_dim_type": (None,),
    },
    "CLIPTextModel": {"use_attention_mask": (None, False)},
    "FluxTransformer2DModel": {"patch_size": (1, None)},  # the pipeline packs latents by itself
}
"""Network → its settings that the pipeline acts on → the values for which it does nothing."""
_PROCESSORS = (
    "AttnProcessor",
    "AttnProcessor2_0",
    "JointAttnProcessor2_0",
    "FluxAttnProcessor",
    "SlicedAttnProcessor",
    "XFormersAttnProcessor",
    "NoneType",
)
"""Ways to compute plain attention. Any other computes something else."""


_BY_PIPELINE: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "StableDiffusionXLPipeline": {"addition_embed_type": ("text_time",)},
}
"""The same where a pipeline acts on them otherwise, and as here."""


def refuse_settings(pipeline: str, name: str, networks: Mapping[str, Component]) -> None:
    """Raises CallError, by name, for a setting that the pipeline acts on and niwaki does not.

    pipeline: its class
    name:     of the component in the pipeline
    """
    component = networks[name]
    _refuse_acted(pipeline, name, component.kind, component.settings)
    if component.kind in (
        "UNet2DModel",
        "UNet2DConditionModel",
        "DiTTransformer2DModel",
        "SD3Transformer2DModel",
        "FluxTransformer2DModel",
    ):
        _refuse_shapes(pipeline, name, component, networks)


def _refuse_acted(pipeline: str, name: str, kind: str, settings: Mapping[str, Any]) -> None:
    acted = _NEUTRAL.get(kind, {})
    for key, neutral in {**acted, **_BY_PIPELINE.get(pipeline, {})}.items():
        if key in acted and settings.get(key) not in neutral:
            raise CallError(
                f"the pipeline's '{name}' has the setting {key} = {settings[key]!r}, which has no "
                f"counterpart in niwaki; only {neutral[0]!r} has"
            )


def _refuse_shapes(pipeline: str, name: str, component: Component, networks: Mapping[str, Component]) -> None:
    settings, kind = component.settings, KINDS[pipeline]
    size, into, out = settings.get("sample_size"), int(settings["in_channels"]), settings.get("out_channels")
    if size is None and not kind.size:
        raise CallError(f"the pipeline's '{name}' does not say its sample_size; set it in its config.json")
    wanted = (into, 2 * into) if component.kind == "DiTTransformer2DModel" else (into,)
    if (into if out is None else out) not in wanted:
        raise CallError(
            f"the pipeline's '{name}' has out_channels = {out} for in_channels = {into}, which niwaki's "
            f"sampler cannot use; it needs {wanted[0]}"
        )
    each = max(kind.pack, 1) ** 2
    latent = networks["vae"].settings.get("latent_channels") if "vae" in networks else into // each
    if latent is None or latent * each != into:
        raise CallError(
            f"the pipeline's '{name}' takes {into} channels and its 'vae' has {latent}"
            + (f", {each} of each in a token" if each > 1 else "")
            + ": it is given more than latents (a mask, an image), which niwaki has no input for"
        )


def refuse_unknown(pipeline: str, name: str, kind: str, record: Any) -> None:
    """Raises CallError for settings in a config.json that the pipeline acts on, or that the installed
    diffusers would leave out, and for quantized weights."""
    if not isinstance(record, Mapping):
        raise CallError(f"the config.json of the pipeline's '{name}' does not describe a network")
    refuse_quantized(record, {}, f"the pipeline's '{name}'")
    _refuse_acted(pipeline, name, kind, record)
    if NETWORKS[kind] != "diffusers":
        return
    import diffusers

    known = inspect.signature(getattr(diffusers, kind).__init__).parameters
    for key, value in record.items():
        if not key.startswith("_") and key not in known and value not in (None, False):
            raise CallError(
                f"the pipeline's '{name}' has the setting {key} = {value!r}, which the {kind} of the "
                "installed diffusers does not know and would leave out"
            )


def refuse_handmade(name: str, network: Any, component: Component) -> None:
    """Hold a network in memory against one fresh from its configuration: what was done to it since is in no
    file. Raises CallError for adapters, fused projections, other attention, FreeU and the like, by name."""
    what = f"the pipeline's '{name}'"
    if getattr(network, "hf_quantizer", None) is not None or getattr(network, "is_quantized", False):
        refuse_quantized({"quantization_config": {"quant_method": "in memory"}}, {}, what)
    refuse_adapters(network.state_dict(), what)
    if any(getattr(module, "fused_projections", False) for module in network.modules()):
        raise CallError(
            f"{what} has fused projections, which its configuration does not say; undo it first "
            "(unfuse_qkv_projections)"
        )
    for place, module in network.named_modules():
        processor = type(getattr(module, "processor", None)).__name__
        if processor not in _PROCESSORS:
            raise CallError(
                f"{what} has the attention processor {processor} at '{place}', which its "
                "configuration does not say; put the plain one back (set_default_attn_processor)"
            )
    with torch.device("meta"):  # only its settings are asked
        twin: nn.Module = fresh(component)
    refuse_changed(network, twin, what, component.settings)
