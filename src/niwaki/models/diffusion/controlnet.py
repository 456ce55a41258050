"""ControlNet (Zhang, Rao & Agrawala 2023): a trained diffusion model, left as it is, is led by a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self

from pydantic import Field
from torch import Tensor

from niwaki.core.contract import (
    Batch,
    CallError,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Levels,
    Phase,
    Program,
    ValueSpec,
    View,
    nearest,
)
from niwaki.models.config import Conditioning
from niwaki.models.diffusion.asked import AskedDenoiser
from niwaki.models.diffusion.control_branch import ControlBranch
from niwaki.models.diffusion.unet import UNet
from niwaki.models.registry import ModelConfig, build, config_of, register
from niwaki_runtime.samplers import Sampler

__all__ = ["ControlNet", "ControlNetConfig"]


class ControlNetConfig(ModelConfig):
    """
    base:     name and settings of the diffusion model that is led, as its own recipe says; its weights come
              by `train.init_from: {base: runs/…}` and stay as they are. Its network is a U-Net
    control:  the column of the pictures that lead it (`data.derive: [edges]` makes one)
    width:    channels between such a picture and the features of the network
    sampling: fields of the sampler that differ from what `base` says; guidance is said there
    """

    base: dict[str, Any] = Field({"name": "ddpm"})
    control: str = "edges"
    width: int = Field(32, ge=1)


_IMAGE = DataSpec.of("image", (1, 16, 16), classes=10)
_EDGES = ValueSpec("image", (1, 16, 16), "CHW", Levels(2, -1.0, 1.0))


@register("controlnet")
class ControlNet(GenerativeModel):
    """The base's U-Net, and a copy of its way down that is also given the control picture: what it says is
    added to the skips and to the middle through layers that are zero at first, so that training begins at the
    base's own samples. Only the copy and these layers are trained.

    config: ControlNetConfig
    spec:   what the base takes, and a column of pictures `(C, H, W)` as large as what the base denoises, or a
            multiple of it
    """

    Config = ControlNetConfig
    example_spec: ClassVar[DataSpec] = DataSpec({**_IMAGE.columns, "edges": _EDGES})
    config: ControlNetConfig

    def __init__(self, config: ControlNetConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        control = _control_picture(config, spec)
        if config.conditioning != Conditioning():
            raise CallError("what a controlled model is asked by is its base's: set model.base.conditioning")
        self.base, unet = _base(config, spec)
        *_, high, wide = self.base.graphs()["denoiser"].inputs[0].shape
        places = high // unet.patch, wide // unet.patch
        self.branch = ControlBranch(unet, control, places, config.width)
        self._own_sampling = dict(self.base.config.sampling)
        self.base.requires_grad_(False)
        self.base.ask_for_picture(config.control, control)
        self.conditions = self.base.conditions

    def train(self, mode: bool = True) -> Self:
        """The base is done with training."""
        super().train(mode)
        self.base.eval()
        return self

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """The branch begins as a copy of what the base has learnt. One that was trained stays as it is."""
        if self.branch.says_nothing():
            self.branch.copy_trunk(self.base.denoiser)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("branch", ("branch",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """The base's own, of the network that is led (Equation 5)."""
        return self.base.denoising_loss(self.led, batch, ctx)

    def led(self, x: Tensor, t: Tensor, *conditions: Tensor) -> Any:
        """The base's denoiser, led by the picture: its last condition, before an estimate of x₀."""
        unet: Any = self.base.denoiser
        at = len(conditions) - 1 - int(self.base.config.self_conditioning)
        rest, control = (*conditions[:at], *conditions[at + 1 :]), conditions[at]
        h, told = unet.enter(x, rest)
        time = unet.embed_time(t, told)
        skips, middle = unet.encode(h, time)
        more, deep = self.branch(x, t, rest, control)
        skips = [skip + further for skip, further in zip(skips, more, strict=True)]
        return unet.answers(unet.decode(skips, middle + deep, time))

    def graphs(self) -> dict[str, Graph]:
        graphs = self.base.graphs()
        led = {**graphs, "denoiser": replace(graphs["denoiser"], module=View(self, "led"))}
        return self.base.with_derivative(led) if "derivative" in graphs else led

    def sampler(self) -> Sampler:
        return self._sampling_base().sampler()

    def programs(self) -> dict[str, Program]:
        """The base's; whatever asks its network is also given the control picture."""
        return self._sampling_base().programs()

    def _sampling_base(self) -> AskedDenoiser:
        """The base, which samples as this config says now: fewer steps are another config."""
        sampling = {**self._own_sampling, **self.config.sampling}
        self.base.config = self.base.config.model_copy(update={"sampling": sampling})
        return self.base


def _control_picture(config: ControlNetConfig, spec: DataSpec) -> ValueSpec:
    """Raises CallError where the data have no such column of pictures."""
    name = config.control
    if name not in spec or name == "x" or name in spec.unpaired:
        hint = nearest(name, [k for k in spec if k != "x"])
        raise CallError(
            f"the data have no column '{name}' of control pictures (data.derive: [edges] makes one); {hint}"
        )
    value = spec[name]
    if value.axes != "CHW" or value.is_tokens:
        raise CallError(f"the column '{name}' holds {value.modality}, and control pictures are images")
    return value


def _base(config: ControlNetConfig, spec: DataSpec) -> tuple[AskedDenoiser, UNet]:
    """The model that is led, and its network. Raises CallError for one that is no diffusion of pictures by a
    U-Net."""
    rest = dict(config.base)
    name = str(rest.pop("name", ""))
    settings = config_of(name, rest)
    base = build(name, settings, spec)
    unet = getattr(base, "denoiser", None)
    if not isinstance(base, AskedDenoiser) or "denoiser" not in base.graphs():
        raise CallError(f"model.base: '{name}' has no denoiser to lead; take ddpm, edm or flow-matching")
    if base.config.weak is not None:
        raise CallError("model.base: a weak denoiser sees no picture to be led by; leave its 'weak' out")
    if not isinstance(unet, UNet) or len(base.graphs()["denoiser"].inputs[0].shape) != 4:
        raise CallError(
            f"model.base: what denoises in '{name}' is no U-Net of pictures, and only that is led"
        )
    return base, unet
