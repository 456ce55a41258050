"""diffusers' networks in small configurations, and denoisers of our own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from prunability.zoo.case import Calls, case, floats, whole
from torch import Tensor, nn

from niwaki.core.contract import Port

IMAGE, TIME = floats("x", 3, 8, 8), floats("t")


def _of(
    name: str, *inputs: Port, title: str = "", call: Any = None, unexportable: str = "", **settings: Any
) -> None:
    @case("diffusers", *inputs, name=title or name.lower(), unexportable=unexportable)
    def make() -> nn.Module:
        import diffusers

        return Calls(getattr(diffusers, name)(**settings).eval(), call or (lambda m, *x: m(*x).sample))


UNET = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "sample_size": 8}
_of(
    "UNet2DModel", IMAGE, TIME, **UNET, attention_head_dim=8,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)  # fmt: skip
_of(
    "UNet2DModel", IMAGE, TIME, title="unet2d-adm", **UNET, attention_head_dim=8,
    resnet_time_scale_shift="scale_shift",
    downsample_type="resnet", upsample_type="resnet",
    down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D",
    "ResnetUpsampleBlock2D"),
)  # fmt: skip
_of(
    "UNet2DConditionModel", floats("x", 4, 8, 8), TIME, floats("text", 5, 24), **UNET, cross_attention_dim=24,
    attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)  # fmt: skip
VAE = {
    "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
_of(
    "AutoencoderKL",
    IMAGE,
    **VAE,
    latent_channels=4,
    call=lambda m, x: m.decode(m.encode(x).latent_dist.mode()).sample,
)
_of(
    "VQModel",
    IMAGE,
    **VAE,
    latent_channels=4,
    num_vq_embeddings=32,
    call=lambda m, x: m.decode(m.encode(x).latents).sample,
)
_of(
    "AutoencoderTiny", IMAGE, encoder_block_out_channels=(16, 16), decoder_block_out_channels=(16, 16),
    num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), call=lambda m,
    x: m.decode(m.encode(x).latents).sample,
)  # fmt: skip
_of(
    "UNet1DModel", floats("x", 2, 32), TIME, block_out_channels=(16, 32), in_channels=2, out_channels=2,
    extra_in_channels=32, norm_num_groups=4, layers_per_block=1, sample_size=32,
    down_block_types=("DownBlock1DNoSkip", "DownBlock1D"), up_block_types=("UpBlock1D", "UpBlock1DNoSkip"),
)  # fmt: skip
_of(
    "DiTTransformer2DModel", floats("x", 4, 8, 8), whole("t", 1000), whole("y", 5), num_attention_heads=4,
    attention_head_dim=8, in_channels=4, out_channels=4, num_layers=2, sample_size=8, patch_size=2,
    num_embeds_ada_norm=1000,
    call=lambda m, x, t, y: m(x, timestep=t, class_labels=y % 5).sample,
)  # fmt: skip
_of(
    "Transformer2DModel", floats("x", 16, 4, 4), floats("text", 5, 24), num_attention_heads=4,
    attention_head_dim=8,
    in_channels=16, num_layers=1, norm_num_groups=8, cross_attention_dim=24,
    call=lambda m, x, c: m(x, encoder_hidden_states=c).sample,
)  # fmt: skip
_of(
    "PixArtTransformer2DModel", floats("x", 4, 8, 8), floats("text", 5, 24), TIME, num_attention_heads=4,
    attention_head_dim=8, in_channels=4, out_channels=4, num_layers=2, sample_size=8, patch_size=2,
    caption_channels=24,
    cross_attention_dim=32, use_additional_conditions=False,
    unexportable="uncut, torch writes no valid ONNX of it either",
    call=lambda m, x, c, t: m(x, encoder_hidden_states=c, timestep=t,
    added_cond_kwargs={"resolution": None, "aspect_ratio": None}).sample,
)  # fmt: skip
_of(
    "SD3Transformer2DModel", floats("x", 4, 8, 8), floats("text", 5, 24), floats("pooled", 12), TIME,
    sample_size=8,
    patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
    joint_attention_dim=24, caption_projection_dim=32, pooled_projection_dim=12, pos_embed_max_size=8,
)  # fmt: skip


class AdaBlock(nn.Module):
    """Peebles and Xie 2023: six numbers per channel from the condition, head width inferred."""

    def __init__(self, w: int, heads: int, c: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(w, elementwise_affine=False) for _ in range(2))
        self.qkv, self.out, self.ada = nn.Linear(w, 3 * w), nn.Linear(w, w), nn.Linear(c, 6 * w)
        self.up, self.down = nn.Linear(w, 4 * w), nn.Linear(4 * w, w)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        s1, b1, g1, s2, b2, g2 = self.ada(F.silu(c))[:, None].chunk(6, -1)
        qkv = self.qkv(self.norm1(x) * (1 + s1) + b1).unflatten(-1, (3, self.heads, -1))
        a = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + g1 * self.out(a.transpose(1, 2).flatten(2))
        return x + g2 * self.down(F.gelu(self.up(self.norm2(x) * (1 + s2) + b2), approximate="tanh"))


@case("diffusion", floats("x", 1, 8, 8), TIME, whole("y", 5))
class DiT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.embed, self.time = nn.Conv2d(1, 32, 2, 2), nn.Embedding(5, 24), nn.Linear(1, 24)
        self.where = nn.Parameter(torch.randn(1, 16, 32))
        self.blocks, self.last = nn.ModuleList(AdaBlock(32, 4, 24) for _ in range(2)), nn.Linear(32, 4)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        c = self.embed(y) + self.time(t[:, None])
        h = self.patch(x).flatten(2).transpose(1, 2) + self.where
        for block in self.blocks:
            h = block(h, c)
        return F.pixel_shuffle(self.last(h).transpose(1, 2).unflatten(2, (4, 4)), 2)


@case("diffusion", floats("x", 8), TIME)
class ScoreMLP(nn.Module):
    """Song and Ermon 2019 for vectors, with Fourier features of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(8))
        self.enter, self.time = nn.Linear(8, 48), nn.Linear(16, 48)
        self.body, self.last = nn.Sequential(nn.SiLU(), nn.Linear(48, 48), nn.SiLU()), nn.Linear(48, 8)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequencies
        return self.last(self.body(self.enter(x) + self.time(torch.cat([angle.sin(), angle.cos()], 1))))
