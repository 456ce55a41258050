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


def vae(**settings: Any) -> Any:
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
        **settings,
    )


def tokenizer(directory: Path, **settings: Any) -> Any:
    """Letters as tokens: a byte-pair tokenizer without merges."""
    from transformers import CLIPTokenizer

    directory.mkdir(parents=True, exist_ok=True)
    pieces = [*ascii_lowercase, *(f"{c}</w>" for c in ascii_lowercase), "<|startoftext|>", "<|endoftext|>"]
    (directory / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(directory, model_max_length=LENGTH, **settings)


def clip(words: Any, width: int = 16, layers: int = 1, projection: int = 0) -> Any:
    """A text encoder of CLIP; with a projection where that has a width."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        projection_dim=projection or width,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def text_to_image(directory: Path, scheduler: Any = None) -> Any:
    """Stable Diffusion's shape: captions of letters → 4×4×4 latents → 1×8×8."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    words = tokenizer(directory)
    torch.manual_seed(2)
    text = clip(words)
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


def xl(directory: Path, scheduler: Any = None, *, zeros: bool = True, **settings: Any) -> Any:
    """Stable Diffusion XL's shape: two text encoders, of which the second pads with another token, pooled
    states and sizes beside them."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    words = tokenizer(directory / "one"), tokenizer(directory / "two", pad_token="a</w>")
    torch.manual_seed(2)
    texts = clip(words[0], layers=2), clip(words[1], width=12, layers=2, projection=10)
    network = UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=GROUPS,
        cross_attention_dim=28,
        attention_head_dim=4,
        transformer_layers_per_block=(1, 1),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 10,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    decoder = vae()
    decoder.register_to_config(**settings)
    scheduler = scheduler or EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="leading",
        steps_offset=1,
    )  # fmt: skip
    return quietly(
        StableDiffusionXLPipeline(
            decoder, *texts, *words, network, scheduler, force_zeros_for_empty_prompt=zeros,
            add_watermarker=False,
        )
    )  # fmt: skip


def t5(directory: Path, width: int) -> tuple[Any, Any]:
    """A text encoder of T5 and its tokenizer, of letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", "▁", *ascii_lowercase]
    words = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=2))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    directory.mkdir(parents=True, exist_ok=True)
    words.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 512})
    )
    config = T5Config(
        vocab_size=len(pieces), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0
    )
    torch.manual_seed(4)
    return T5EncoderModel(config), T5Tokenizer.from_pretrained(directory, extra_ids=0)


def sd3(directory: Path, scheduler: Any = None, *, with_t5: bool = True, **settings: Any) -> Any:
    """Stable Diffusion 3's shape: two CLIPs and T5 → a transformer with two streams on 4×4×4 latents."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    words = tokenizer(directory / "one"), tokenizer(directory / "two", pad_token="a</w>")
    torch.manual_seed(2)
    texts = (clip(words[i], width=w, layers=2, projection=p) for i, (w, p) in enumerate([(16, 8), (12, 10)]))
    three = t5(directory / "three", 32) if with_t5 else (None, None)
    torch.manual_seed(5)
    network = SD3Transformer2DModel(
        **{
            "sample_size": 4,
            "patch_size": 2,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "caption_projection_dim": 16,
            "pooled_projection_dim": 18,
            "pos_embed_max_size": 6,
            **settings,
        }
    )
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0)
    decoder = vae(shift_factor=0.3, use_quant_conv=False, use_post_quant_conv=False)
    one, two = texts
    return quietly(
        StableDiffusion3Pipeline(
            network, scheduler, decoder, one, words[0], two, words[1], three[0], three[1]
        )
    )  # fmt: skip


def flux(directory: Path, scheduler: Any = None, *, guided: bool = True, **settings: Any) -> Any:
    """Flux's shape: pooled states of CLIP and T5's states → blocks of two streams and of one on 2×2 squares
    of 4×4×4 latents, at rotary positions."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    words = tokenizer(directory / "one")
    torch.manual_seed(2)
    text = clip(words, width=12)
    text_2, words_2 = t5(directory / "two", 32)
    torch.manual_seed(5)
    network = FluxTransformer2DModel(
        **{
            "in_channels": 16,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 12,
            "guidance_embeds": guided,
            "axes_dims_rope": (4, 6, 6),
            **settings,
        }
    )
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    decoder = vae(shift_factor=0.3, use_quant_conv=False, use_post_quant_conv=False)
    return quietly(FluxPipeline(scheduler, decoder, text, words, text_2, words_2, network))


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
