"""What the machine offers: device, precision, and how torch is set up for training on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from niwaki.core.contract import Trainable
from niwaki.training.bf16 import has_bf16
from niwaki.training.config import TrainConfig
from niwaki.training.launching import launch, machines
from niwaki_runtime.errors import CallError

__all__ = [
    "channels_last",
    "choose_device",
    "choose_precision",
    "compile_networks",
    "make_fabric",
    "seed_generators",
    "set_layout",
    "set_matmul_precision",
    "settings",
    "wants_channels_last",
]


def choose_device(name: str) -> torch.device:
    """`auto` is the first CUDA device, else the CPU. Raises CallError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CallError(f"train.device is '{name}'; it must be auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CallError(f"train.device is '{name}', but torch sees no CUDA device here; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CallError(f"train.device is '{name}', but there are {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise CallError("train.device is 'mps', but torch finds no Metal device here; use auto or cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise CallError(f"train.device is '{name}'; it must be auto, cpu, cuda, cuda:N or mps")
    return device


def choose_precision(
    asked: str, device: torch.device, model: Trainable | None = None
) -> Literal["bf16-mixed", "32-true"]:
    """Fabric's name for `auto`, `bf16` or `fp32` on this device; `auto` goes by the model, too."""
    small = device.type == "cpu" and model is not None and model.small_matrices
    bf16 = has_bf16(device) and not small if asked == "auto" else asked == "bf16"
    return "bf16-mixed" if bf16 else "32-true"


def make_fabric(config: TrainConfig, model: Trainable | None = None) -> Any:
    """A launched Fabric. Several devices are several processes (or those that `torchrun` started)."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    device = choose_device(config.device)
    count, each = machines(config.devices) if config.devices > 1 else (1, 1)
    devices: Any = each
    if device.type == "cpu":
        accelerator = "cpu"
    else:
        accelerator = device.type
        if config.devices == 1:
            devices = [device.index or 0]
        elif device.index is not None:
            raise CallError(
                f"train.device names one device ('{config.device}') but train.devices is {config.devices}"
            )
        elif device.type == "cuda" and each > torch.cuda.device_count():
            raise CallError(f"train.devices asks for {each} here, but there are {torch.cuda.device_count()}")
    # A phase touches a part of the parameters only, which DDP calls "unused".
    strategy: Any = DDPStrategy(find_unused_parameters=True) if config.devices > 1 else "auto"
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=count,
        strategy=strategy,
        precision=cast(Any, choose_precision(config.precision, device, model)),
    )
    return launch(fabric)


@contextmanager
def settings(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """torch's global switches for the time of a training; they and the global generators come back
    afterwards.

    With `deterministic`, cuDNN may not choose kernels by timing them: another run could choose others and
    resuming would not give the same bits.
    """
    cudnn = torch.backends.cudnn
    kept = torch.get_float32_matmul_precision(), cudnn.benchmark, cudnn.deterministic
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        set_matmul_precision(config)
        cudnn.benchmark, cudnn.deterministic = not config.deterministic, config.deterministic
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(kept[0])
            cudnn.benchmark, cudnn.deterministic = kept[1], kept[2]


def set_matmul_precision(config: TrainConfig) -> None:
    """TF32 for what autocast leaves in float32; whole float32 where that is asked for."""
    torch.set_float32_matmul_precision("highest" if config.precision == "fp32" else "high")


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's global generators. (`torch.manual_seed` does it too, at a hundred times the cost.)"""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def wants_channels_last(asked: bool | str, model: nn.Module, device: torch.device) -> bool:
    """What `auto` means. Convolutions gain a tenth by having the channels innermost; torch's group norm on
    CPUs loses a factor of four (2.2 against 0.54 ms at (128, 64, 8, 8) in bf16, torch 2.13), which is
    more."""
    if asked == "auto":
        return device.type != "cpu" or not any(isinstance(m, nn.GroupNorm) for m in model.modules())
    return bool(asked)


def set_layout(model: nn.Module, last: bool) -> None:
    """4-D weights with the channels innermost, or back. Values do not change."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dim() == 4:
            tensor.data = channels_last(tensor.data) if last else channels_first(tensor.data)


def channels_last(t: Tensor) -> Tensor:
    """`(n, C, h, w)` with the channels innermost, and with the strides that say so.

    For one channel or one pixel several strides mean the same places; torch leaves those of a tensor that
    already lies right, takes them for channels first, and then mixes both layouts in a network, which costs
    more than either.
    """
    _, c, h, w = t.shape
    return t.contiguous(memory_format=torch.channels_last).as_strided(t.shape, (c * h * w, 1, c * w, c))


def channels_first(t: Tensor) -> Tensor:
    """`(n, C, h, w)` with the strides of a tensor that is read from a file: kernels are chosen by them, and
    with them the rounding."""
    return t.clone(memory_format=torch.contiguous_format)


def compile_networks(model: nn.Module, names: Iterable[str]) -> None:
    """Compile these submodules, in place. The loss around them stays Python: it may branch on the step,
    draw random numbers and log."""
    modules = dict(model.named_modules())
    for name in dict.fromkeys(names):
        if name in modules:
            modules[name].compile()
