"""Latent diffusion (Rombach et al. 2022): a denoiser of an autoencoder's latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Port,
    Program,
    ValueSpec,
)
from niwaki.models.diffusion.ddpm import DdpmConfig
from niwaki.models.diffusion.denoising import Denoising
from niwaki.models.diffusion.unet import UNet
from niwaki.models.registry import build, register
from niwaki.nn.diffusion import columns
from niwaki.nn.layers.words import WordEncoder
from niwaki_runtime.samplers import Cascade, Diffusion, OneShot

__all__ = ["LatentDiffusion", "LatentDiffusionConfig"]

_MEASURED = 16  # batches that the scale of latents is taken from
_NOTHING = 0  # of text, the token that means "nothing asked"


class LatentDiffusionConfig(DdpmConfig):
    """
    autoencoder:  name and settings of the model whose programs `encode` and `decode` lead to the latents and
                  back, as its own recipe says; its weights come by `train.init_from: {autoencoder: runs/…}`
                  and stay as they are
    words:        width of the vectors that captions and classes become
    conditioning: the columns that samples are asked by: texts (a caption), else the class; the share `drop`
                  of samples is trained without, so that the model can be guided
    other settings: as in `DdpmConfig`, `attention` in heights of the latents
    """

    autoencoder: dict[str, Any] = Field({"name": "spatial-vae"})
    words: int = Field(64, ge=2)
    usual: ClassVar[dict[str, Any]] = {"solver": "dpmpp_2m", "steps": 16}


class ToLatents(nn.Module):
    """x → latents of mean 0 and variance 1 in every channel."""

    mean: Tensor  # (c, 1, 1)
    std: Tensor

    def __init__(self, encoder: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.encoder(x) - self.mean) / self.std


class FromLatents(nn.Module):
    """Latents of variance 1 → x. The scale comes first: the decoder was trained on latents as they were."""

    mean: Tensor  # (c, 1, 1)
    std: Tensor

    def __init__(self, decoder: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z * self.std + self.mean)


@register("latent-diffusion")
class LatentDiffusion(Denoising):
    """A U-Net that takes noise away from latents, a word encoder that says what is asked, and a frozen
    autoencoder around them.

    config: LatentDiffusionConfig
    spec:   what the autoencoder takes; its latents are images `(c, h, w)`, h and w multiples of
            2^(number of widths − 1)
    """

    Config = LatentDiffusionConfig
    example_spec: ClassVar[DataSpec] = DataSpec.of("image", (1, 32, 32), classes=10)
    config: LatentDiffusionConfig
    clip = 0.0  # latents have no range

    latent_mean: Tensor  # (c, 1, 1): of the autoencoder's latents over the training data
    latent_std: Tensor

    def __init__(self, config: LatentDiffusionConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.autoencoder = _autoencoder(config.autoencoder, spec)
        self.latent = self.autoencoder.program("encode").output
        channels, height, width = _image_of_latents(self.latent, config.autoencoder["name"])
        halvings = len(config.widths) - 1
        if height % 2**halvings or width % 2**halvings:
            raise CallError(
                f"latents of {height}×{width} cannot be halved {halvings} times; shorten 'model.widths'"
            )
        self.guided = config.conditioning.drop > 0
        self.conditions = {name: self._condition(spec[name]) for name in _asked_columns(config, spec)}
        if config.sampling.get("guidance", 1.0) != 1.0 and not (self.guided and self.conditions):
            raise CallError("guidance needs a caption or labels, and model.conditioning.drop above 0")
        self.words = nn.ModuleDict({k: self._encoder(c) for k, c in self.conditions.items()})
        self.denoiser = UNet(
            channels,
            widths=config.widths,
            blocks=config.blocks,
            attention=[height // 2**i in config.attention for i in range(len(config.widths))],
            heads=config.heads,
            vectors=(config.words,) * len(self.conditions),
            groups=config.groups,
            dropout=config.dropout,
            estimate=config.self_conditioning,
            variance=config.learns_variance,
        )
        self.prepare_loss()
        self.register_buffer("latent_mean", torch.zeros(channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(channels, 1, 1))

    def _condition(self, value: ValueSpec) -> ConditionSpec:
        null = (_NOTHING if value.shape else value.levels) if self.guided else None
        return ConditionSpec(value, null)

    def _encoder(self, asked: ConditionSpec) -> WordEncoder:
        beyond = int(asked.null == asked.size)  # of classes, "nothing asked" is one more
        text = _NOTHING if asked.shape else None
        return WordEncoder(asked.size + beyond, self.config.words, text)

    def train(self, mode: bool = True) -> Self:
        """The autoencoder is done with training, and keeps its running statistics."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def trained_parts(self) -> tuple[str, ...]:
        return ("denoiser", "words") if self.conditions else ("denoiser",)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """Mean and standard deviation of every channel of the latents: the process is made for data of
        variance 1 (Section 4.3.2 and Appendix G of the paper)."""
        encode = self.autoencoder.graphs()[self._graph("encode")]
        z = torch.cat([encode(batches(k).x).double() for k in range(_MEASURED)])
        self.latent_mean.copy_(z.mean((0, 2, 3)).reshape(-1, 1, 1))
        self.latent_std.copy_(z.std((0, 2, 3)).clamp(min=1e-6).reshape(-1, 1, 1))

    def clean(self, batch: Batch) -> Tensor:
        """Latents (Rombach et al. 2022, Equation 2)."""
        with torch.no_grad():
            return self.graphs()["encoder"](batch.x).float()

    def level_step(self) -> float:
        return 0.0

    def asked(self, batch: Batch, ctx: Context) -> list[Tensor]:
        coins = torch.rand((len(batch),), generator=ctx.rng, device=batch.x.device)
        return [self._said(name, batch, coins) for name in self.conditions]

    def _said(self, name: str, batch: Batch, coins: Tensor) -> Tensor:
        """A condition as a vector, of some samples that of nothing: one coin each for all conditions."""
        tokens, null = batch[name], self.conditions[name].null
        if null is not None:
            dropped = columns(coins < self.config.conditioning.drop, tokens)
            tokens = torch.where(dropped, torch.full_like(tokens, int(null)), tokens)
        return self.words[name](tokens)

    def _graph(self, program: str) -> str:
        return self.autoencoder.program(program).sampler.graphs_used()[0]

    def graphs(self) -> dict[str, Graph]:
        inner, scale = self.autoencoder.graphs(), (self.latent_mean, self.latent_std)
        encode, decode = (inner[self._graph(name)] for name in ("encode", "decode"))
        vectors = tuple(Port(name, (1, self.config.words)) for name in self.conditions)
        latents = Port("x", (1, *self.latent.shape))
        return {
            **{f"words_{name}": self._words_graph(name) for name in self.conditions},
            "denoiser": self.denoiser_graph(self.denoiser, (latents, Port("t", (1,)), *vectors)),
            "decoder": Graph(
                "decoder", FromLatents(decode.module, *scale), (Port("z", (1, *self.latent.shape)),)
            ),
            "encoder": Graph(
                "encoder", ToLatents(encode.module, *scale), (Port("x", (1, *self.spec.shape)),), ("z",)
            ),
        }

    def _words_graph(self, name: str) -> Graph:
        module = self.words[name]
        assert isinstance(module, WordEncoder)
        size = module.words.num_embeddings
        return Graph("words", module, (Port(name, (1, *self.conditions[name].shape), "int64", high=size),))

    def sampler(self) -> Cascade:
        c = self.config
        denoise = Diffusion(
            shape=self.latent.shape,
            **c.usual,
            process=c.process(),
            prediction=c.prediction,
            clip=self.clip,
            self_conditioning=c.self_conditioning,
            learned_variance=c.learns_variance,
            conditions=tuple(self.conditions),
            null={k: int(spec.null) for k, spec in self.conditions.items() if spec.null is not None},
            encoders={name: f"words_{name}" for name in self.conditions},
        )
        legs = denoise, OneShot(graph="decoder", conditions=("z",))
        return Cascade(legs, ("z",)).override(**c.sampling)  # type: ignore[return-value]

    def programs(self) -> dict[str, Program]:
        """`sample`; `encode` to latents of variance 1, and `decode` back."""
        x, z = {"x": ConditionSpec(self.spec.x)}, {"z": ConditionSpec(self.latent)}
        return {
            **super().programs(),
            "encode": Program(OneShot(graph="encoder", conditions=("x",)), x, self.latent),
            "decode": Program(OneShot(graph="decoder", conditions=("z",)), z, self.spec.x),
        }


def _asked_columns(config: LatentDiffusionConfig, spec: DataSpec) -> tuple[str, ...]:
    """Columns of text, else the class, unless the config names others."""
    paired = [name for name in spec if name != "x" and name not in spec.unpaired and spec[name].is_tokens]
    if config.conditioning.columns is not None:
        return tuple(name for name in config.conditioning.columns if name in paired)
    texts = tuple(name for name in paired if spec[name].shape)
    return texts or tuple(name for name in paired if name == "class")


def _autoencoder(settings: dict[str, Any], spec: DataSpec) -> GenerativeModel:
    """Raises CallError for a model that does not lead from samples to latents and back, each by one call and
    asked for nothing else."""
    rest = dict(settings)
    name = str(rest.pop("name", ""))
    model = build(name, rest, spec)
    programs = model.programs()
    for wanted in ("encode", "decode"):
        found = programs.get(wanted)
        if found is None or len(found.inputs) != 1 or not isinstance(found.sampler, OneShot):
            raise CallError(
                f"the autoencoder '{name}' has no program '{wanted}' of one call of a network; "
                "take spatial-vae, or set conditional: false in model.autoencoder"
            )
    return model


def _image_of_latents(latent: ValueSpec, name: str) -> tuple[int, int, int]:
    if latent.axes != "CHW" or latent.is_tokens:
        raise CallError(
            f"the latents of '{name}' are {latent.modality} of shape {latent.shape}, and a U-Net needs "
            "images (c, h, w); take spatial-vae"
        )
    channels, height, width = latent.shape
    return channels, height, width
