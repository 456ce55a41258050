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
from niwaki.models.diffusion.asked import AskedDenoiser, label_columns, text_columns
from niwaki.models.diffusion.ddpm import DdpmConfig
from niwaki.models.diffusion.networks import build_network
from niwaki.models.registry import build, register
from niwaki.nn.diffusion_programs import latent_programs
from niwaki_runtime.samplers import Cascade, Diffusion, OneShot

__all__ = ["LatentDiffusion", "LatentDiffusionConfig"]

_MEASURED = 16  # batches that the scale of latents is taken from


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
class LatentDiffusion(AskedDenoiser):
    """A network that takes noise away from latents, a word encoder that says what is asked, and a frozen
    autoencoder around them.

    config: LatentDiffusionConfig
    spec:   what the autoencoder takes; its latents are images `(c, h, w)`, h and w multiples of
            2^(number of widths − 1), or of the network's patch
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
        self.prepare_conditions(text_columns(spec) or label_columns(spec), numbers=False)
        task = self.task(channels, height, width)
        self.denoiser = build_network(config, task)
        self.prepare_weak(lambda weak: build_network(weak, task))
        self.prepare_loss()
        self.register_buffer("latent_mean", torch.zeros(channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(channels, 1, 1))

    def train(self, mode: bool = True) -> Self:
        """The autoencoder is done with training, and keeps its running statistics."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """Mean and standard deviation of every channel of the latents: the process is made for data of
        variance 1 (Section 4.3.2 and Appendix G of the paper)."""
        if ctx.is_begun(self.latent_mean, used_by=self.denoiser):
            return
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

    def _graph(self, program: str) -> str:
        return self.autoencoder.program(program).sampler.graphs_used()[0]

    def graphs(self) -> dict[str, Graph]:
        inner, scale = self.autoencoder.graphs(), (self.latent_mean, self.latent_std)
        encode, decode = (inner[self._graph(name)] for name in ("encode", "decode"))
        latents = Port("x", (1, *self.latent.shape))
        inputs = (latents, Port("t", (1,)), *self.condition_ports())
        return {
            **self.word_graphs(),
            "denoiser": self.denoiser_graph(self.denoiser, inputs),
            **self.weak_graphs(inputs),
            "decoder": Graph(
                "decoder", FromLatents(decode.module, *scale), (Port("z", (1, *self.latent.shape)),)
            ),
            "encoder": Graph(
                "encoder", ToLatents(encode.module, *scale), (Port("x", (1, *self.spec.shape)),), ("z",)
            ),
        }

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
            **self.asking(),
            **self.guiding(),
        )
        legs = denoise, OneShot(graph="decoder", conditions=("z",))
        return Cascade(legs, ("z",)).override(**c.sampling)  # type: ignore[return-value]

    def programs(self) -> dict[str, Program]:
        """`sample`; `encode` to latents of variance 1, and `decode` back; those of every diffusion of
        latents."""
        x, z = {"x": ConditionSpec(self.spec.x)}, {"z": ConditionSpec(self.latent)}
        plan = self.sampler().legs[0]
        assert isinstance(plan, Diffusion)
        return {
            **super().programs(),
            **latent_programs(plan, self.spec.x, self.conditions),
            "encode": Program(OneShot(graph="encoder", conditions=("x",)), x, self.latent),
            "decode": Program(OneShot(graph="decoder", conditions=("z",)), z, self.spec.x),
        }


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
