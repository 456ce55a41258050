"""Networks of diffusers and transformers as graphs: positional tensors in, one tensor out, widths free to
change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from niwaki.adapters.diffusers.attention import JointAttention, RotaryAttention
from niwaki.adapters.diffusers.config import NETWORKS, Component
from niwaki.adapters.diffusers.packing import positions, square_tokens, squares_of
from niwaki.adapters.diffusers.quiet import quiet
from niwaki.core.contract import CallError, NiwakiError, first_line

__all__ = ["Decoder", "Denoiser", "build", "fresh"]


def build(component: Component) -> nn.Module:
    """The network of a component, with fresh weights. Only classes in `NETWORKS` are ever built.

    Raises NiwakiError where diffusers or transformers is not installed or does not know the settings.
    """
    network = fresh(component)
    if NETWORKS[component.kind] == "diffusers":
        _free(network)
    return network


def fresh(component: Component) -> nn.Module:
    """The same as its library makes it, before anything is exchanged in it."""
    if component.kind not in NETWORKS:
        raise CallError(f"niwaki has no adapter for the network '{component.kind}'")
    try:
        with quiet():
            return _make(component)
    except ImportError as error:
        raise NiwakiError(
            f"this model needs diffusers and transformers: pip install niwaki[hub] ({error})"
        ) from error
    except Exception as error:  # settings of others fail in any way they like
        raise NiwakiError(
            f"the settings of '{component.kind}' make no network: {first_line(error)}"
        ) from error


def _make(component: Component) -> nn.Module:
    if NETWORKS[component.kind] == "transformers":
        import transformers

        made_of: Any = getattr(transformers, component.kind)
        config: Any = made_of.config_class.from_dict(dict(component.settings))
        config._attn_implementation = "eager"  # plain products: what tracing and exporting follow
        text: nn.Module = made_of(config)
        return text.float()
    import diffusers

    made: nn.Module = getattr(diffusers, component.kind).from_config(dict(component.settings))
    return made.float()


_ATTENTION = {"SD3Transformer2DModel": JointAttention, "FluxTransformer2DModel": RotaryAttention}
"""Networks whose attention is none that diffusers has in plain products."""


class _AnyWidth(int):
    """Equal to every width. Some of diffusers' layers assert their own, which pruning changes and the
    convolution behind them knows."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int)

    def __ne__(self, other: object) -> bool:
        return not isinstance(other, int)

    __hash__ = int.__hash__


def _free(network: nn.Module) -> None:
    from diffusers.models.attention_processor import AttnProcessor
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.embeddings import LabelEmbedding
    from diffusers.models.upsampling import Upsample2D

    for module in network.modules():
        if isinstance(module, Downsample2D | Upsample2D):
            module.channels = _AnyWidth(module.channels)
        if isinstance(module, Upsample2D):
            module.forward = MethodType(_upsampled, module)  # type: ignore[method-assign]
        elif isinstance(module, LabelEmbedding):
            module.dropout_prob = 0.0  # labels are dropped by the loss, by a counted coin
    exchange: Any = getattr(network, "set_attn_processor", None)
    if exchange is not None:  # plain products: what tracing and exporting follow
        exchange(_ATTENTION.get(type(network).__name__, AttnProcessor)())


def _upsampled(layer: Any, x: Tensor, output_size: Any = None, *_: Any, **__: Any) -> Tensor:
    """What `Upsample2D` computes, the same for every batch: theirs copies batches of 64 and more into other
    strides for an old torch, and what differs by the batch cannot be exported."""
    if layer.norm is not None:
        x = layer.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    if layer.use_conv_transpose:
        return layer.conv(x)  # type: ignore[no-any-return]
    if layer.interpolate:
        size = {"scale_factor": 2.0} if output_size is None else {"size": output_size}
        x = functional.interpolate(x, mode="nearest", **size)
    if not layer.use_conv:
        return x
    return (layer.conv if layer.name == "conv" else layer.Conv2d_0)(x)  # type: ignore[no-any-return]


class Denoiser(nn.Module):
    """x `(n, channels, h, w)`, t `(n,)` float, conditions → what the network says of x, of x's shape.

    kind: class of the network
    size: height and width of the images, which some networks are told
    told: weight of guidance, which some networks are told; 0 for none
    """

    time_ids: Tensor

    def __init__(
        self, kind: str, network: nn.Module, size: Sequence[int] = (0, 0), told: float = 0.0
    ) -> None:
        super().__init__()
        self.kind, self.network, self.told = kind, network, told
        # What XL's pipeline tells unless asked otherwise: the original size, no crop, the size wanted.
        ids = torch.tensor([*size, 0, 0, *size], dtype=torch.float32)
        self.register_buffer("time_ids", ids, persistent=False)

    def forward(self, x: Tensor, t: Tensor, *asked: Tensor) -> Tensor:
        return _ASKED[self.kind](self, x, t, *asked)


def _unconditional(denoiser: Denoiser, x: Tensor, t: Tensor, *label: Tensor) -> Tensor:
    named = {"class_labels": label[0]} if label else {}
    out: Tensor = denoiser.network(x, timestep=t, return_dict=False, **named)[0]
    return out


def _cross_attending(denoiser: Denoiser, x: Tensor, t: Tensor, states: Tensor, *pooled: Tensor) -> Tensor:
    named: dict[str, Any] = {"encoder_hidden_states": states}
    if pooled:
        ids = denoiser.time_ids.expand(x.shape[0], -1)
        named["added_cond_kwargs"] = {"text_embeds": pooled[0], "time_ids": ids}
    out: Tensor = denoiser.network(x, timestep=t, return_dict=False, **named)[0]
    return out


def _dit(denoiser: Denoiser, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    # A learned variance, which no solver here asks for, follows the mean.
    out: Tensor = denoiser.network(x, timestep=t, class_labels=label, return_dict=False)[0]
    return out[:, : x.shape[1]]


def _joint(denoiser: Denoiser, x: Tensor, t: Tensor, states: Tensor, pooled: Tensor) -> Tensor:
    named = {"encoder_hidden_states": states, "pooled_projections": pooled, "timestep": t}
    out: Tensor = denoiser.network(hidden_states=x, return_dict=False, **named)[0]
    return out


def _rotary(denoiser: Denoiser, x: Tensor, t: Tensor, states: Tensor, pooled: Tensor) -> Tensor:
    network, (height, width) = denoiser.network, x.shape[2:]
    at = positions(states.shape[1], height // 2, width // 2, x.device)
    named = {"txt_ids": at[: states.shape[1]], "img_ids": at[states.shape[1] :]}
    if denoiser.told:
        named["guidance"] = torch.full_like(t, denoiser.told)
    out: Tensor = network(
        hidden_states=square_tokens(x), encoder_hidden_states=states, pooled_projections=pooled,
        timestep=t / 1000.0, return_dict=False, **named,
    )[0]  # fmt: skip
    return squares_of(out, height, width)


_ASKED: dict[str, Callable[..., Tensor]] = {
    "UNet2DModel": _unconditional,
    "UNet2DConditionModel": _cross_attending,
    "DiTTransformer2DModel": _dit,
    "SD3Transformer2DModel": _joint,
    "FluxTransformer2DModel": _rotary,
}
"""How a network of each class is called."""


class Decoder(nn.Module):
    """Latents of unit scale `(n, c, h, w)` → images; `encode` is the way back, by the posterior's mean.

    latents: how the pipeline scales them (`PipelineKind.latents`)
    """

    scaling: Tensor
    shift: Tensor | None

    def __init__(self, vae: nn.Module, latents: str = "scaled") -> None:
        super().__init__()
        self.vae = vae
        config: Any = vae.config
        scaling, shift = torch.tensor(float(config.scaling_factor)), None
        mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if latents == "normalized" and mean is not None and deviation is not None:
            deviation, shift = (
                torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (deviation, mean)
            )
            scaling = scaling / deviation
        elif latents == "shifted" and config.shift_factor:
            shift = torch.tensor(float(config.shift_factor))
        self.register_buffer("scaling", scaling, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        vae: Any = self.vae
        z = latents / self.scaling
        z = z if self.shift is None else z + self.shift
        return vae.decoder(z if vae.post_quant_conv is None else vae.post_quant_conv(z))

    def encode(self, x: Tensor) -> Tensor:
        vae: Any = self.vae
        z = vae.encode(x).latent_dist.mode()
        return (z if self.shift is None else z - self.shift) * self.scaling
