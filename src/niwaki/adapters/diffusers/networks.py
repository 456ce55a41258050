"""Networks of diffusers and transformers as graphs: positional tensors in, one tensor out, widths free to
change."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from niwaki.adapters.diffusers.config import NETWORKS, Component
from niwaki.adapters.diffusers.quiet import quiet
from niwaki.core.contract import CallError, NiwakiError, first_line

__all__ = ["Decoder", "Denoiser", "TextEncoder", "build", "fresh"]


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
        from transformers import CLIPTextConfig, CLIPTextModel

        config: Any = CLIPTextConfig.from_dict(dict(component.settings))
        config._attn_implementation = "eager"  # plain products: what tracing and exporting follow
        text: nn.Module = CLIPTextModel(config)
        return text.float()
    import diffusers

    made: nn.Module = getattr(diffusers, component.kind).from_config(dict(component.settings))
    return made.float()


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
    if exchange is not None:
        exchange(AttnProcessor())  # plain products: what tracing and exporting follow


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
    """x `(n, channels, h, w)`, t `(n,)` float, conditions → what the network says of x, of x's shape."""

    def __init__(self, kind: str, network: nn.Module) -> None:
        super().__init__()
        self.kind, self.network = kind, network

    def forward(self, x: Tensor, t: Tensor, *asked: Tensor) -> Tensor:
        named: dict[str, Any] = {}
        if asked:
            name = "encoder_hidden_states" if self.kind == "UNet2DConditionModel" else "class_labels"
            named[name] = asked[0]
        out = self.network(x, timestep=t, return_dict=False, **named)[0]
        # A learned variance, which no solver here asks for, follows the mean.
        return out[:, : x.shape[1]] if self.kind == "DiTTransformer2DModel" else out


class Decoder(nn.Module):
    """Latents of unit scale `(n, c, h, w)` → images; `encode` is the way back, by the posterior's mean."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae
        config: Any = vae.config
        # A shift_factor, which these pipelines do not use either, is left alone.
        self.scaling = float(config.scaling_factor)

    def forward(self, latents: Tensor) -> Tensor:
        vae: Any = self.vae
        z = latents / self.scaling
        return vae.decoder(z if vae.post_quant_conv is None else vae.post_quant_conv(z))

    def encode(self, x: Tensor) -> Tensor:
        vae: Any = self.vae
        return vae.encode(x).latent_dist.mode() * self.scaling  # type: ignore[no-any-return]


class TextEncoder(nn.Module):
    """Tokens `(n, length)`, or classes `(n,)` that stand for captions, → states `(n, length, width)`.

    empty:    tokens of the empty prompt: what `null` (one above the last token or class) stands for
    captions: tokens of each class `(classes, length)`; None where prompts are given as tokens
    """

    empty: Tensor
    table: Tensor | None

    def __init__(self, network: nn.Module, empty: Tensor, captions: Tensor | None, null: int) -> None:
        super().__init__()
        self.network, self.null = network, null
        self.register_buffer("empty", empty, persistent=False)
        rows = None if captions is None else torch.cat([captions, empty[None]])
        self.register_buffer("table", rows, persistent=False)

    def forward(self, asked: Tensor) -> Tensor:
        if self.table is not None:
            tokens = self.table[asked]
        else:
            tokens = torch.where(asked == self.null, self.empty, asked)
        return self.network(input_ids=tokens, return_dict=False)[0]
