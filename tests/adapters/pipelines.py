"""Small diffusers pipelines, built in place from configurations: no download, random weights, 8×8 images."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch

logging.getLogger("torchao").setLevel(logging.CRITICAL)
warnings.simplefilter("ignore")

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONS = tuple(f"a {name}" for name in NAMES)
LENGTH = 12
GROUPS = 4


def unet(
    widths: tuple[int, ...] = (8, 16), attention: bool = True, groups: int = GROUPS, **settings: Any
) -> Any:
    from diffusers import UNet2DModel

    last, first = ("AttnDownBlock2D", "AttnUpBlock2D") if attention else ("DownBlock2D", "UpBlock2D")
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=widths,
        norm_num_groups=groups,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", last),
        up_block_types=(first, "UpBlock2D"),
        add_attention=attention,
        **settings,
    )


def ddim(scheduler: Any = None, **settings: Any) -> Any:
    """Unconditional, 1×8×8."""
    from diffusers import DDIMPipeline, DDIMScheduler

    pipeline = DDIMPipeline(unet(**settings), DDIMScheduler())
    pipeline.register_modules(scheduler=scheduler or DDIMScheduler())
    return quietly(pipeline)


def vae() -> Any:
    """1×8×8 ↔ latents 4×4×4."""
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=GROUPS,
        sample_size=8,
        scaling_factor=0.8,
    )


def tokenizer(directory: Path) -> Any:
    """Letters as tokens: a byte-pair tokenizer without merges."""
    from transformers import CLIPTokenizer

    directory.mkdir(parents=True, exist_ok=True)
    pieces = [*ascii_lowercase, *(f"{c}</w>" for c in ascii_lowercase), "<|startoftext|>", "<|endoftext|>"]
    (directory / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(directory, model_max_length=LENGTH)


def text_to_image(directory: Path, scheduler: Any = None) -> Any:
    """Stable Diffusion's shape: captions of letters → 4×4×4 latents → 1×8×8."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer(directory)
    torch.manual_seed(2)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    network = UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=GROUPS,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    scheduler = scheduler or DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    return quietly(
        StableDiffusionPipeline(
            vae(), text, words, network, scheduler, None, None, requires_safety_checker=False
        )
    )


def dit(classes: int = 1000, scheduler: Any = None) -> Any:
    """Class-conditional transformer on 4×4×4 latents, with a learned variance as the published ones have."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(3)
    network = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=4,
        patch_size=2,
        num_embeds_ada_norm=classes,
    )
    for block in network.transformer_blocks:  # so that classes are seen in samples of an untrained network
        torch.nn.init.normal_(block.norm1.emb.class_embedder.embedding_table.weight)
    return quietly(DiTPipeline(network, vae(), scheduler or DDIMScheduler(clip_sample=False)))


def quietly(pipeline: Any) -> Any:
    """As `from_pretrained` gives it: in eval mode (in training mode, DiT drops labels)."""
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return pipeline


def shown(x: torch.Tensor) -> Any:
    """Samples in −1 … 1 as the pipelines give them: 0 … 1, channels last."""
    return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
