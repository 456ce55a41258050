"""What a recipe says about quantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from niwaki.compression.step_config import Step
from niwaki.core.base_config import BaseConfig
from niwaki_runtime.errors import CallError

__all__ = ["LayerConfig", "QuantizeConfig"]

Bits = Literal[2, 3, 4, 5, 6, 7, 8, 16]
Activations = Literal[2, 3, 4, 5, 6, 7, 8, "float"]


class LayerConfig(BaseConfig):
    """What is different for some layers; what is not said is as in the step.

    bits:        of weights: 2 … 8 integers, 16 half-precision floats
    activations: 2 … 8 bits, or `float`
    granularity: one scale per `tensor`, per output `channel`, or per `group` weights of a channel
    symmetric:   weights on a grid around zero
    """

    bits: Bits = 8
    activations: Activations = 8
    granularity: Literal["tensor", "channel", "group"] = "channel"
    group: int = Field(default=64, ge=8)
    symmetric: bool = True


class QuantizeConfig(Step):
    """Weights, and activations, of few bits.

    backend:     `nncf` quantizes the exported graph to static int8; `niwaki` quantizes the torch model, which
                 can then be trained on, and exports that; `auto` is nncf where its settings are named, else
                 niwaki (at equal speed it erred a quarter as much on the digits GAN)
    mode:        `static`: activations on 8 bits, with ranges from real sampling trajectories; `dynamic`:
                 weights on 8 bits, activations where the engine rounds them at run time (openvino's linear
                 layers); `weights`: weights alone, products in float
    bits:        of weights: 2 … 8 integers, 16 half-precision floats
    activations: 2 … 8 bits, or `float`; fewer than 8 make nothing smaller or faster, and are for studies
    granularity: of the weights' scales: per `tensor`, per output `channel`, per `group` weights
    group:       weights that share a scale with granularity `group`
    symmetric:   weights on a grid around zero; others only where products are float
    layers:      mixed precision: a module's name, or how names begin → what is different, or `float`
    observer:    where ranges end: `minmax`, `percentile` (99.9 %), `mse` (least squared error)
    method:      weights become the `nearest` level; levels whose errors cancel on the layer's calibration
                 inputs (`adaptive`: Frantar et al. 2023, layer by layer, without training); or the number of
                 samples that hit them (`monte_carlo`: Mordido et al. 2019), which makes small ones zero
    samples:     of `monte_carlo`, for each weight; `bits` is the most that the counts may need
    equalize:    channels of a layer and of the one that reads them get equal ranges (Nagel et al. 2019),
                 where the error on the calibration inputs falls
    smooth:      α of SmoothQuant (Xiao et al. 2023), 0 is without: large inputs of a channel become large
                 weights, where the error falls; 0.5 is usual
    correct:     whether biases take back the mean error of rounded weights; on the digits GAN it gained
                 nothing at 8 and at 4 bits, and biases that differ from place to place pack worse
    train:       steps of training with rounded weights and activations, taught by the uncompressed model, in
                 which scales are learned
    batch:       of `train`; None is that of the `finetune` which follows in the plan, or 128
    calibration: inputs of each graph that ranges are taken from
    seed:        of the calibration samples; disjoint from every evaluation seed by construction
    ignored:     modules to leave in float
    preset:      nncf: `mixed` gives activations a zero point (after SiLU, GELU), `performance` keeps them
                 symmetric (after ReLU)
    model_type:  nncf: `transformer` for attention's own patterns and SmoothQuant, `plain` for neither; None
                 looks for attention in each graph
    """

    kind: Literal["quantize"] = "quantize"
    backend: Literal["auto", "nncf", "niwaki"] = "auto"
    mode: Literal["static", "dynamic", "weights"] = "static"
    bits: Bits = 8
    activations: Activations = 8
    granularity: Literal["tensor", "channel", "group"] = "channel"
    group: int = Field(default=64, ge=8)
    symmetric: bool = True
    layers: dict[str, LayerConfig | Literal["float"]] = Field(default_factory=dict)
    observer: Literal["minmax", "percentile", "mse"] = "mse"
    method: Literal["nearest", "adaptive", "monte_carlo"] = "nearest"
    samples: float = Field(default=1.0, gt=0, le=1024)
    equalize: bool = False
    smooth: float = Field(default=0.0, ge=0, le=1)
    correct: bool = False
    train: int = Field(default=0, ge=0)
    batch: int | None = Field(default=None, ge=1)
    calibration: int = Field(default=300, ge=8)
    seed: int = Field(default=0, ge=0, lt=2**16)
    ignored: tuple[str, ...] = ()
    preset: Literal["mixed", "performance"] = "mixed"
    model_type: Literal["transformer", "plain"] | None = None

    _OWN: ClassVar[tuple[str, ...]] = (
        "mode",
        "bits",
        "activations",
        "granularity",
        "group",
        "symmetric",
        "layers",
        "observer",
        "method",
        "samples",
        "equalize",
        "smooth",
        "correct",
        "train",
        "batch",
    )

    _THEIRS: ClassVar[tuple[str, ...]] = ("preset", "model_type")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        own = self._set(self._OWN)
        if self.backend == "nncf" and own:
            raise CallError(f"'{own[0]}' is said of the backend 'niwaki'; nncf makes static int8 alone")
        theirs = self._set(self._THEIRS)
        if theirs and (own or self.by == "niwaki"):
            raise CallError(f"'{theirs[0]}' is said of the backend 'nncf', which makes static int8 alone")
        if self.batch is not None and not self.train:
            raise CallError("'batch' is said of the training; say 'train: STEPS', too")
        if self.method != "monte_carlo" and self._set(["samples"]):
            raise CallError("'samples' is said of the method 'monte_carlo'")
        for name, one in {"": self.of(""), **{n: self.of(n) for n in self.layers}}.items():
            where = f" for '{name}'" if name else ""
            if one is not None and self.method == "monte_carlo" and not one.symmetric:
                raise CallError(f"samples are counted up and down from zero{where}; leave 'symmetric' true")
            if one is None or one.activations == "float":
                continue
            if one.granularity == "group":
                raise CallError(
                    f"no engine multiplies integers with a scale per group{where}; use mode 'weights'"
                )
            if not one.symmetric:
                raise CallError(
                    f"no engine multiplies 8-bit inputs with affine weights{where}; use mode 'weights'"
                )
        return self

    def _set(self, names: Sequence[str]) -> list[str]:
        return [
            n
            for n in names
            if getattr(self, n) != type(self).model_fields[n].get_default(call_default_factory=True)
        ]

    @property
    def by(self) -> str:
        """The backend that does it."""
        if self.backend != "auto":
            return self.backend
        return "nncf" if self._set(self._THEIRS) else "niwaki"

    def of(self, layer: str) -> LayerConfig | None:
        """What is said of a layer: the longest name in `layers` that it begins with; None is float."""
        common = {n: getattr(self, n) for n in LayerConfig.model_fields}
        if self.mode != "static":
            common["activations"] = "float"
        keys = [k for k in (*self.layers, *self.ignored) if layer == k or layer.startswith(f"{k}.")]
        key = max(keys, key=len, default="")
        said = self.layers.get(key, "float") if keys else LayerConfig()
        if key in self.ignored or isinstance(said, str):
            return None
        made = LayerConfig(**{**common, **said.model_dump(exclude_unset=True)})
        # Half-precision weights are multiplied as floats.
        return made if made.bits < 16 else made.model_copy(update={"activations": "float"})

    def refusal(self, earlier: Sequence[Step]) -> str:
        if any(step.kind == "quantize" for step in earlier):
            return "would quantize a model that is quantized already; keep one 'quantize'"
        return ""
