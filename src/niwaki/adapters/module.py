"""Your own generator: any `nn.Module` that maps latents (and classes) to samples, as a model of niwaki."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.adapters.factory import call_factory, make_module
from niwaki.adapters.first_calls import check_samples, copied, prepared, same_rows, try_twice
from niwaki.adapters.noise_inputs import GivenNoise, noise_shapes
from niwaki.core.backend import TorchBackend
from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    NiwakiError,
    Phase,
    Port,
    first_line,
)
from niwaki.core.store import read_json, read_tensors
from niwaki.nn.layers.settings import Temperature
from niwaki.surgery.edits import apply_edits, edit_from_json
from niwaki_runtime.samplers import OneShot

__all__ = ["Adapted", "AdaptedConfig", "adapt", "call_factory", "load_into", "rebuild"]

_RANK_MODALITY: dict[int, str] = {1: "vector", 2: "series", 3: "image", 4: "video"}


class AdaptedConfig(BaseConfig):
    """The arguments of `adapt`.

    latent:    shape of the noise of one sample
    classes:   0 where the module takes none
    condition: how the module wants its classes, `index` or `one_hot`
    factory:   `package.module:function` that makes the module with fresh weights; "" where none was given
    arguments: keyword arguments of the factory, as JSON
    temperature: standard deviation of the noise when sampling
    noise:     shapes of what the module draws itself for one sample, and gets from the latents instead
    clone:     whether the module writes into its latents, and is given copies
    """

    latent: tuple[int, ...]
    classes: int = 0
    condition: Literal["index", "one_hot"] = "index"
    factory: str = ""
    arguments: dict[str, Any] = Field({})
    temperature: Temperature = 1.0
    noise: tuple[tuple[int, ...], ...] = Field(default=(), exclude_if=lambda value: not value)
    clone: bool = Field(default=False, exclude_if=lambda value: not value)

    @property
    def drawn(self) -> tuple[int, ...]:
        """Shape of the noise that the sampler draws for one sample."""
        if not self.noise:
            return self.latent
        return (math.prod(self.latent) + sum(map(math.prod, self.noise)),)


class Copied(nn.Module):
    """Calls a module that writes into its inputs, with copies of them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.module(*(x.clone() for x in inputs))


class OneHot(nn.Module):
    """Calls a module with z and one-hot classes `(n, classes)` float32, given class numbers `(n,)`."""

    identity: Tensor

    def __init__(self, module: nn.Module, classes: int) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("identity", torch.eye(classes), persistent=False)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.module(z, nn.functional.embedding(y, self.identity))


class Adapted(GenerativeModel):
    """A module in niwaki's clothes: it samples, is evaluated, pruned, quantized and exported as ours are.

    It is not trained from scratch: how the module was trained is its author's knowledge. Fine-tuning after
    pruning distils from the uncompressed module and needs no loss from here.
    """

    name = "adapted"
    Config = AdaptedConfig
    config: AdaptedConfig

    def __init__(self, module: nn.Module, config: AdaptedConfig, spec: DataSpec) -> None:
        super().__init__()
        if config.clone:
            module = Copied(module)
        if config.noise:
            module = GivenNoise(module, config.latent, config.noise)
        if config.classes and config.condition == "one_hot":
            module = OneHot(module, config.classes)
        self.generator = module
        self.config, self.spec = config, spec
        self.conditions = {"class": ConditionSpec.label(config.classes)} if config.classes else {}

    def backend(self) -> TorchBackend:
        """Of the device where the weights are; of the CPU, where there are none."""
        tensors = (*self.generator.parameters(), *self.generator.buffers())
        return TorchBackend(tensors[0].device if tensors else torch.device("cpu"))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("generator", ("generator",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        raise CallError(
            "an adapted module is not trained from scratch by niwaki, only fine-tuned by distillation in "
            "'compress'; train it with its own code, or write a GenerativeModel with a loss"
        )

    def graphs(self) -> dict[str, Graph]:
        inputs = [Port("z", (1, *self.config.drawn))]
        if self.config.classes:
            inputs.append(Port("class", (1,), "int64", high=self.config.classes))
        return {"generator": Graph("generator", self.generator, tuple(inputs))}

    def sampler(self) -> OneShot:
        c = self.config
        return OneShot(latent=c.drawn, conditions=tuple(self.conditions), temperature=c.temperature)


def adapt(
    module: nn.Module | None = None,
    *,
    latent: Sequence[int] | int = (100,),
    shape: Sequence[int] | None = None,
    classes: int = 0,
    condition: Literal["index", "one_hot"] = "index",
    low: float = -1.0,
    high: float = 1.0,
    levels: int | None = None,
    class_names: Sequence[str] = (),
    modality: str | None = None,
    noise: Literal["refuse", "input"] = "refuse",
    spec: DataSpec | None = None,
    factory: str = "",
    arguments: Mapping[str, Any] | None = None,
) -> Adapted:
    """Make a model of niwaki out of `module(z)`, or of `module(z, classes)` where `classes` is above 0.

    module:      maps z `(n, *latent)` of standard normals, and int64 classes `(n,)`, to float samples
                 `(n, *shape)`
    latent:      shape of one z; (100, 1, 1) for a DCGAN that starts with a transposed convolution
    shape:       of one sample; found by one forward pass where it is not given
    condition:   whether classes are given as numbers (`index`) or as one-hot rows `(n, classes)` (`one_hot`)
    low, high:   range of the module's samples; `levels` is how many grey levels the real data has
    noise:       what is done with noise that the module draws in its forward, which would make every sample
                 of a seed another one: `refuse` it, or hand it in as `input`, from a longer latent
    spec:        all of shape, range, levels, classes and names at once, as from a data set (`dataset.spec`)
    factory:     `package.module:function` that makes the module again: with it, the model can be reloaded by
                 `load_model` alone; without it, by `load_into(adapted, directory)`
    arguments:   keyword arguments for the factory
    Weights in float16, bfloat16 or float64 are cast to float32 in a copy, with a warning. Raises CallError
    where the module cannot take such latents, or does not return finite floats of one shape; where it is
    TorchScript, or cannot be copied; where equal calls give other samples, or a sample depends on what is
    drawn beside it.

    >>> adapt(nn.Sequential(nn.Linear(8, 12), nn.Unflatten(1, (3, 2, 2))), latent=8).spec.shape
    (3, 2, 2)
    """
    latent = (latent,) if isinstance(latent, int) else tuple(int(s) for s in latent)
    if spec is not None and (shape, modality) == (None, None):
        shape, modality, low, high = spec.shape, spec.modality, spec.low, spec.high
        levels = spec.levels or None
        class_names = spec.class_names if classes == spec.classes else class_names
    elif spec is not None:
        raise CallError("give either a spec or a shape and a modality, not both")
    config = AdaptedConfig(
        latent=latent,
        classes=classes,
        condition=condition,
        factory=factory,
        arguments=dict(arguments or {}),
    )
    module, notes = prepared(module if module is not None else make_module(config.factory, config.arguments))
    for note in notes:
        warnings.warn(f"niwaki.adapt: {note}", stacklevel=2)
    found, config = _probe(module, config, low, high, noise)
    if shape is not None and tuple(shape) != found:
        raise CallError(f"the module makes samples of shape {found}, not {tuple(shape)}")
    if modality is None:
        if len(found) not in _RANK_MODALITY:
            raise CallError(f"say the modality of samples of shape {found}")
        modality = _RANK_MODALITY[len(found)]
    made = DataSpec.of(modality, found, low, high, levels, classes, tuple(class_names))
    return Adapted(module, config, made).eval()


def _probe(
    module: nn.Module, config: AdaptedConfig, low: float, high: float, noise: Literal["refuse", "input"]
) -> tuple[tuple[int, ...], AdaptedConfig]:
    """Shape of one sample, and the config with what its calls showed, found on a copy in eval mode. Raises
    CallError as `adapt` says."""
    spec = DataSpec.of("vector", (1,), low, high)
    graph = Adapted(copied(module).eval(), config, spec).graphs()["generator"]
    inputs = graph.example(2)
    try:
        found = try_twice(graph, graph.module, inputs)
    except Exception as error:  # whatever a module may raise for what it does not like
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
        hint = (
            ""
            if len(config.latent) > 1
            else f"; if it starts with a convolution, try latent=({config.latent[0]}, 1, 1)"
        )
        raise CallError(
            f"the module does not take float32 inputs of shape {shapes}{hint}: {first_line(error)}"
        ) from error
    if found.draws:
        if noise == "refuse":
            raise CallError(
                f"the module draws noise in its forward ({found.draws[0]}), so that a seed would give other "
                "samples at every call; adapt it with noise='input', which takes this noise from the "
                "latents, or write the module so that it is given all its noise as z"
            )
        draws = found.draws[: len(found.draws) // 2]  # of the first of two calls
        shapes_drawn = noise_shapes(graph, graph.example, draws)
        config = config.model_copy(update={"noise": shapes_drawn})
        return _probe(module, config, low, high, "refuse")
    if found.kept:
        raise CallError(
            f"the module writes into its own '{found.kept}' when it is called, so that a sample depends on "
            "the calls before it; let it keep nothing in evaluation mode"
        )
    if found.differs > 0:
        raise CallError(
            f"the module gives other samples for equal latents when it is called again (by "
            f"{found.differs:.2g}): it draws noise or keeps state in its forward; let z be all that a sample "
            "depends on"
        )
    check_samples(found.out, low, high)
    if found.changed and not config.clone:
        return _probe(module, config.model_copy(update={"clone": True}), low, high, noise)
    same_rows(graph, graph.example, math.prod(found.out.shape[1:]))
    return tuple(int(s) for s in found.out.shape[1:]), config


def rebuild(config: Mapping[str, Any], spec: DataSpec) -> Adapted:
    """The adapted model that `model.json` describes, with fresh weights, made by its factory."""
    checked = AdaptedConfig.model_validate(dict(config))
    return Adapted(prepared(make_module(checked.factory, checked.arguments))[0], checked, spec)


def load_into(adapted: Adapted, directory: Path | str) -> Adapted:
    """Make a freshly adapted, uncut module what `save_model` kept in `directory`, in place.

    Raises NiwakiError where the directory holds another model than this one.
    """
    directory = Path(directory)
    record = read_json(directory / "model.json")
    if record.get("name") != adapted.name:
        raise NiwakiError(f"{directory} holds the model '{record.get('name')}', not an adapted module")
    if adapted.surgery:
        raise CallError("load_into needs the module as it was before it was pruned")
    edits = tuple(edit_from_json(edit) for edit in record.get("surgery", ()))
    apply_edits(adapted, edits)
    adapted.surgery = edits
    try:
        adapted.load_state_dict(read_tensors(directory / "model.safetensors"))
    except RuntimeError as error:
        detail = str(error).strip().splitlines()[-1].strip()
        raise NiwakiError(f"the weights in {directory} do not fit the module: {detail}") from error
    return adapted.eval()
