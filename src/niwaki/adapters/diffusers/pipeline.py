"""A diffusers pipeline as a model of niwaki: its networks are graphs, its scheduler is our own sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.adapters.diffusers.config import PipelineConfig
from niwaki.adapters.diffusers.networks import Decoder, Denoiser, build
from niwaki.adapters.diffusers.scheduler import translate
from niwaki.adapters.diffusers.text_encoder import TextEncoder
from niwaki.adapters.diffusers.tokens import tokenize
from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
    Program,
    Real,
    Tokens,
    ValueSpec,
    View,
)
from niwaki.nn.diffusion import TensorProcess, columns, noised
from niwaki.nn.diffusion_programs import latent_programs, pixel_programs
from niwaki_runtime.samplers import Cascade, Diffusion, OneShot, Sampler
from niwaki_runtime.samplers.backend import outputs

__all__ = ["AdaptedPipeline", "rebuild"]

_DROPPED = 0.1  # share of conditions that training leaves out where the model can be guided


class AdaptedPipeline(GenerativeModel):
    """A pipeline in niwaki's clothes, sampled as diffusers samples it (`niwaki.adapters.adapt_pipeline`).

    graphs:     `denoiser`; `text` (role `encoder`) where it is asked by prompts; `decoder` of latents
    conditions: `class`, or `prompt` (tokens; `sample` also takes text), or none
    prunable:   all but the text encoder: nothing here teaches it again
    """

    name = "pipeline"
    Config = PipelineConfig
    config: PipelineConfig

    def __init__(self, config: PipelineConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        component = config.networks[config.denoiser]
        settings = component.settings
        self.denoiser = Denoiser(component.kind, build(component), spec.shape[1:3], config.told)
        self.text: TextEncoder | None = None
        self.decoder: Decoder | None = None
        self.conditions: dict[str, ConditionSpec] = {}
        null: dict[str, int] = {}
        if component.kind == "DiTTransformer2DModel":
            classes = int(settings["num_embeds_ada_norm"])
            self.conditions["class"] = ConditionSpec.label(classes, null=classes)
            null = {"class": classes}
        elif component.kind == "UNet2DModel" and settings.get("num_class_embeds"):
            self.conditions["class"] = ConditionSpec.label(int(settings["num_class_embeds"]))
        if config.texts:
            null = self._read(config)
        if "vae" in config.networks:
            self.decoder = Decoder(build(config.networks["vae"]), config.kind.latents)
        self._null = null
        self.path = TensorProcess(self._diffusion().process)

    def _diffusion(self) -> Diffusion:
        """The scheduler as our own sampler, as the config says now."""
        config = self.config
        options = translate(
            config.scheduler.kind,
            config.scheduler.settings,
            config.solver,
            config.spacing or config.kind.spacing,
            config.image_tokens,
        )
        return Diffusion(
            shape=config.shape,
            steps=config.steps,
            conditions=tuple(self.conditions),
            null=self._null,
            encoders=dict.fromkeys(self.conditions, "text") if self.text is not None else {},
            guidance=config.guidance,
            **options,
        )

    def _read(self, config: PipelineConfig) -> dict[str, int]:
        """The text encoders and what they may be asked; returns the null value of the condition."""
        components = {name: config.networks[name] for name in config.texts}
        empties = {
            name: torch.from_numpy(tokenize((words,), ""))
            for name, words in zip(config.texts, config.words, strict=True)
        }
        empty = torch.cat(tuple(empties.values()))
        captions, null = None, max(int(c.settings["vocab_size"]) for c in components.values())
        if config.captions:
            captions, null = (
                torch.from_numpy(tokenize(config.words, config.captions)),
                len(config.captions),
            )
            self.conditions["class"] = ConditionSpec.label(null, null=null)
        else:
            self.conditions["prompt"] = ConditionSpec(
                ValueSpec("text", tuple(empty.shape), None, Tokens(null)), null
            )
        self.text = TextEncoder(
            config.kind,
            config.networks[config.denoiser].settings,
            {name: (component.kind, build(component)) for name, component in components.items()},
            {n: len(empties[n]) if n in empties else config.length_of(n) for n in config.kind.texts},
            empty,
            captions,
            null,
            zeros=bool(config.said.get("force_zeros_for_empty_prompt")),
        )
        return dict.fromkeys(self.conditions, null)

    @property
    def prunable(self) -> tuple[str, ...]:
        return ("denoiser", "decoder")

    def parts(self) -> dict[str, nn.Module]:
        """The networks by their names in the pipeline."""
        found: dict[str, nn.Module] = {self.config.denoiser: self.denoiser.network}
        if self.text is not None:
            found |= {name: self.text.network_of(name) for name in self.config.texts}
        if self.decoder is not None:
            found["vae"] = self.decoder.vae
        return found

    def graphs(self) -> dict[str, Graph]:
        shape = self._diffusion().shape
        inputs = [Port("x", (1, *shape)), Port("t", (1,))]
        found: dict[str, Graph] = {}
        for name, condition in self.conditions.items():
            high = condition.size + int(condition.null is not None)
            asked = Port(name, (1, *condition.shape), "int64", high=high)
            if self.text is None:
                inputs.append(asked)
                continue
            said = self._said()
            found["text"] = Graph("encoder", self.text, (asked,), tuple(said))
            inputs += [Port(output, (1, *shape_of)) for output, shape_of in said.items()]
        found["denoiser"] = Graph("denoiser", self.denoiser, tuple(inputs))
        if self.decoder is not None:
            found["decoder"] = Graph("decoder", self.decoder, (Port("latents", (1, *shape)),))
            image = (Port("x", (1, *self.spec.shape)),)
            found["encoder"] = Graph("encoder", View(self.decoder, "encode"), image, ("latents",))
        return found

    def _said(self) -> dict[str, tuple[int, ...]]:
        """What the text encoders say: names and shapes per sample."""
        assert self.text is not None
        assert self.config.kind.outputs is not None
        settings = {name: component.settings for name, component in self.config.networks.items()}
        return self.config.kind.outputs(settings, self.text.tokens)

    def programs(self) -> dict[str, Program]:
        """`sample` and those of every diffusion of pixels; where the denoiser works on latents those of such
        ones, and `encode` and `decode`."""
        plan, x = self._diffusion(), self.spec.x
        if self.decoder is None:
            return {**super().programs(), **pixel_programs(plan, x, self.conditions)}
        found = {**super().programs(), **latent_programs(plan, x, self.conditions)}
        latents = ValueSpec("vector", plan.shape, "CHW", Real(-math.inf, math.inf))
        encode = OneShot(graph="encoder", conditions=("x",))
        decode = OneShot(graph="decoder", conditions=("latents",))
        found["encode"] = Program(encode, {"x": ConditionSpec(x)}, latents)
        found["decode"] = Program(decode, {"latents": ConditionSpec(latents)}, x)
        return found

    def sampler(self) -> Sampler:
        if self.decoder is None:
            return self._diffusion()
        decode = OneShot(latent=None, graph="decoder", conditions=("latents",))
        return Cascade((self._diffusion(), decode), ("latents",))

    def sample(self, n: int, *, seed: int, condition: Any = None, **rest: Any) -> Tensor:  # type: ignore[override]
        """As `GenerativeModel.sample`. `condition` may also be a prompt, or a list of `n` of them, where the
        model is asked by prompts."""
        return super().sample(n, seed=seed, condition=self.read_prompts(condition), **rest)

    def read_prompts(self, condition: Any) -> Any:
        """Prompts in a condition as their tokens; everything else unchanged. Raises CallError for text where
        the model takes none."""
        if isinstance(condition, Mapping):
            return {name: self.read_prompts(value) for name, value in condition.items()}
        prompts = [condition] if isinstance(condition, str) else condition
        if not (isinstance(prompts, list | tuple) and prompts and all(isinstance(p, str) for p in prompts)):
            return condition
        if "prompt" not in self.conditions:
            raise CallError("this pipeline is not asked by prompts; give a class number, or nothing")
        return tokenize(self.config.words, condition if isinstance(condition, str) else list(prompts))

    def encode(self, x: Tensor) -> Tensor:
        """Images `(n, *spec.shape)` → what the denoiser works on: their latents, or they themselves."""
        return x if self.decoder is None else self.decoder.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return z if self.decoder is None else self.decoder(z)

    def phases(self) -> tuple[Phase, ...]:
        found = (Phase("denoiser", ("denoiser", "text") if self.text is not None else ("denoiser",)),)
        if self.decoder is None:
            return found
        names = ("decoder.vae.decoder", "decoder.vae.post_quant_conv")
        kept = names if self.decoder.vae.post_quant_conv is not None else names[:1]
        return (*found, Phase("decoder", kept, fresh_batch=False))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """`denoiser`: E ‖target − prediction‖² over uniform timesteps (Ho, Jain & Abbeel 2020, Equation 14),
        on latents where there are any. `decoder`: E ‖decode(encode(x)) − x‖²; the encoder stays as it is."""
        with torch.no_grad():
            x0 = self.encode(batch.x)
        if phase == "decoder":
            return {"reconstruction": (self.decode(x0) - batch.x).square().mean()}
        process = self.path.process
        t = self.path.draw(len(batch), ctx.rng)
        eps = torch.randn(x0.shape, generator=ctx.rng, device=batch.x.device)
        a, s = (columns(level, eps) for level in self.path.levels(t))
        asked = process.network_input(noised(x0, eps, a, s), a, s), self.path.network_time(t)
        said = self.denoiser(*asked, *self._conditions_of(batch, ctx))
        target = process.conversion(self._diffusion().prediction).target(x0, eps, a, s)
        return {"denoiser": (said.float() - target).square().mean()}

    def _conditions_of(self, batch: Batch, ctx: Context) -> list[Tensor]:
        """What the batch's samples are, some of it left out by a coin per sample; nothing where it is not
        known."""
        out: list[Tensor | None] = []
        for name, spec in self.conditions.items():
            value = batch.get(name)
            if value is None and spec.null is None:
                raise CallError(f"training this pipeline needs the condition '{name}' of every sample")
            if spec.null is not None:
                shape = (len(batch), *spec.shape)
                nothing = torch.full(shape, spec.null, dtype=torch.int64, device=batch.x.device)
                coins = torch.rand(len(batch), generator=ctx.rng, device=batch.x.device) < _DROPPED
                drop = coins.reshape(-1, *[1] * len(spec.shape))
                value = nothing if value is None else torch.where(drop, nothing, value)
            out += (value,) if self.text is None else outputs(self.text(value))
        return [v for v in out if v is not None]


def rebuild(config: Mapping[str, Any], spec: DataSpec) -> AdaptedPipeline:
    """The adapted pipeline that `model.json` describes, with fresh weights."""
    return AdaptedPipeline(PipelineConfig.model_validate(dict(config)), spec)
