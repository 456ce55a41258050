"""Your own generator: any `nn.Module` that maps latents (and classes) to samples, as a model of niwaki."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

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
    nearest,
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
    """

    latent: tuple[int, ...]
    classes: int = 0
    condition: Literal["index", "one_hot"] = "index"
    factory: str = ""
    arguments: dict[str, Any] = Field({})
    temperature: Temperature = 1.0


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
        one_hot = config.classes and config.condition == "one_hot"
        self.generator = OneHot(module, config.classes) if one_hot else module
        self.config, self.spec = config, spec
        self.conditions = {"class": ConditionSpec.label(config.classes)} if config.classes else {}

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("generator", ("generator",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        raise CallError(
            "an adapted module is not trained from scratch by niwaki, only fine-tuned by distillation in "
            "'compress'; train it with its own code, or write a GenerativeModel with a loss"
        )

    def graphs(self) -> dict[str, Graph]:
        inputs = [Port("z", (1, *self.config.latent))]
        if self.config.classes:
            inputs.append(Port("class", (1,), "int64", high=self.config.classes))
        return {"generator": Graph("generator", self.generator, tuple(inputs))}

    def sampler(self) -> OneShot:
        c = self.config
        return OneShot(latent=c.latent, conditions=tuple(self.conditions), temperature=c.temperature)


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
    spec:        all of shape, range, levels, classes and names at once, as from a data set (`dataset.spec`)
    factory:     `package.module:function` that makes the module again: with it, the model can be reloaded by
                 `load_model` alone; without it, by `load_into(adapted, directory)`
    arguments:   keyword arguments for the factory
    Raises CallError where the module cannot take such latents, or does not return finite floats of one shape.

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
    module = module if module is not None else _make(config)
    found = _probe(module, config, low, high)
    if shape is not None and tuple(shape) != found:
        raise CallError(f"the module makes samples of shape {found}, not {tuple(shape)}")
    if modality is None:
        if len(found) not in _RANK_MODALITY:
            raise CallError(f"say the modality of samples of shape {found}")
        modality = _RANK_MODALITY[len(found)]
    made = DataSpec.of(modality, found, low, high, levels, classes, tuple(class_names))
    return Adapted(module, config, made).eval()


def _probe(module: nn.Module, config: AdaptedConfig, low: float, high: float) -> tuple[int, ...]:
    """Shape of one sample, found by a forward pass of two in eval mode. Raises CallError as `adapt` says."""
    graph = Adapted(module, config, DataSpec.of("vector", (1,), low, high)).graphs()["generator"]
    inputs = graph.example(2)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            out = graph(*inputs)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
        hint = (
            ""
            if len(config.latent) > 1
            else f"; if it starts with a convolution, try latent=({config.latent[0]}, 1, 1)"
        )
        raise CallError(
            f"the module does not take inputs of shape {shapes}{hint}: {first_line(error)}"
        ) from error
    finally:
        module.train(was_training)
    if not isinstance(out, Tensor):
        raise CallError(f"the module must return one tensor of samples, not {type(out).__name__}")
    if not out.is_floating_point():
        raise CallError(f"the module must return float samples, not {out.dtype}")
    if out.ndim < 2 or out.shape[0] != 2:
        raise CallError(f"the module must return one sample per latent: 2 latents gave {tuple(out.shape)}")
    if not bool(torch.isfinite(out).all()):
        raise CallError("the module returns values that are not finite for standard normal latents")
    # Twice the range leaves room for what is not clipped; beyond it the given range is wrong.
    span = high - low
    least, most = float(out.min()), float(out.max())
    if least < low - span or most > high + span:
        raise CallError(
            f"the module's samples reach from {least:.3g} to {most:.3g}; give their range as low and high"
        )
    return tuple(int(s) for s in out.shape[1:])


def _make(config: AdaptedConfig) -> nn.Module:
    """The module that the factory makes. Importing it runs its author's code."""
    path, colon, attribute = config.factory.partition(":")
    if not (path and colon and attribute):
        raise CallError(
            "this adapted model names no factory: pass factory='package.module:function' to adapt, or build "
            "the module yourself and use load_into(adapt(module, …), directory)"
        )
    module = call_factory(config.factory, config.arguments)
    if not isinstance(module, nn.Module):
        raise NiwakiError(
            f"the factory '{config.factory}' returned {type(module).__name__}, not an nn.Module"
        )
    return module


def call_factory(factory: str, arguments: Mapping[str, Any]) -> Any:
    """What `package.module:function` returns. The module may also lie in the current directory.

    Raises NiwakiError where there is no such module or function, or it does not take the arguments.
    """
    path, _, attribute = factory.partition(":")
    top = path.partition(".")[0]
    here = str(Path.cwd())
    if here not in sys.path and (Path(here, top).is_dir() or Path(here, f"{top}.py").is_file()):
        sys.path.append(here)  # behind what is installed
    try:
        found = importlib.import_module(path)
    except ImportError as error:
        raise NiwakiError(f"the factory '{factory}' cannot be imported: {error}") from error
    make: Callable[..., Any] | None = getattr(found, attribute, None)
    if make is None:
        raise NiwakiError(f"'{path}' has no '{attribute}'; {nearest(attribute, vars(found))}")
    if not callable(make):
        raise NiwakiError(f"'{factory}' is no function but a {type(make).__name__}")
    try:
        return make(**arguments)
    except TypeError as error:
        raise NiwakiError(
            f"the factory '{factory}' cannot be called with {dict(arguments)}: {error}"
        ) from error


def rebuild(config: Mapping[str, Any], spec: DataSpec) -> Adapted:
    """The adapted model that `model.json` describes, with fresh weights, made by its factory."""
    checked = AdaptedConfig.model_validate(dict(config))
    return Adapted(_make(checked), checked, spec)


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
