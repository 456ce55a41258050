"""stylegan2-pytorch: 8×8 digits without classes, judged by Fréchet distance and coverage ÷ those of training
samples.

The peer asks for CUDA, a logger (aim) and torchvision when it is imported, and puts everything on a device.
What it trains with needs none of them, so they are stood in for here, and its batches come from memory
instead of a folder of files. Its pictures and checkpoints between steps are left out. Flags are those of
its README for little data: batches of 32, augmentation by translation and cutout with probability 0.25;
samples come from the generator as it is (its average begins after 20 000 steps), without truncation. Its
networks make three colours; grey is their mean.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from unittest import mock

import torch
from peers.ours import Ours, parameters_of
from peers.pictures import figures
from peers.turns import Contender, Turn
from torch import Tensor, nn

from niwaki.data import DataConfig, Dataset, load
from niwaki.models import build
from niwaki.training import TrainConfig

__all__ = ["NEEDS", "pairs"]

NEEDS = {"stylegan2_pytorch": "1.9.0"}
BATCH = 32
SETTINGS = {
    "latent": 64, "style": 128, "layers": 2, "mapping_rate": 1.0, "start": "style",
    "width": 32, "max_width": 64, "mixing": 0.0, "path_length": 0.0, "r1": 0.5,
}  # fmt: skip
TRAIN = TrainConfig(batch=BATCH, lr=5e-3, betas=(0.0, 0.99), warmup=50, ema=0.998)


def ours(data: Dataset, seed: int) -> Contender:
    torch.manual_seed(seed)
    model = build("stylegan2", SETTINGS, data.spec)
    return Ours(
        model,
        data.train,
        TRAIN,
        lambda m: figures(lambda n, s: torch.as_tensor(m.sample(n, seed=s))),
        seed=seed,
    )


@cache
def trainer_class() -> Any:
    """The peer's trainer, imported where there is no CUDA, no aim and no torchvision."""
    for name in ("aim", "torchvision", "torchvision.transforms"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
    vision = sys.modules["torchvision"]
    vision.transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
    with mock.patch.object(torch.cuda, "is_available", return_value=True):
        from stylegan2_pytorch import Trainer
    return Trainer


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Inside, what is sent to CUDA stays where it is."""

    def stay(self: Any, *_: Any, **__: Any) -> Any:
        return self

    with mock.patch.object(Tensor, "cuda", stay), mock.patch.object(nn.Module, "cuda", stay):
        yield


class StyleGan:
    """The peer's own trainer."""

    def __init__(self, data: Dataset, parameters: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.x, self.folder = (data.train.values() + 1.0) / 2.0, tempfile.TemporaryDirectory()
        # `fmap_max` below its default breaks the peer's averaged generator, so the other two sizes are moved.
        capacity = self._nearest(parameters, [(c, 128) for c in range(2, 21)])[0]
        self.trainer = self._make(*self._nearest(parameters, [(capacity, d) for d in range(64, 257, 32)]))
        self.parameters = parameters_of(*self._parts(self.trainer))
        rng = torch.Generator().manual_seed(seed)

        def batches() -> Iterator[Tensor]:
            while True:
                x = self.x[torch.randint(0, len(self.x), (BATCH,), generator=rng)]
                yield x.expand(-1, 3, -1, -1).contiguous()

        self.trainer.loader = batches()

    def _make(self, capacity: int, latent: int) -> Any:
        with on_cpu():
            made = trainer_class()(
                base_dir=self.folder.name, image_size=8, network_capacity=capacity, latent_dim=latent,
                style_depth=4, batch_size=BATCH, aug_prob=0.25, aug_types=["translation", "cutout"],
                rank="cpu",
            )  # fmt: skip
            made.is_main = False  # saves, pictures and averages are the main process's
            made.init_GAN()
        return made

    def _nearest(self, parameters: int, sizes: list[tuple[int, int]]) -> tuple[int, int]:
        return min(sizes, key=lambda of: abs(parameters_of(*self._parts(self._make(*of))) - parameters))

    @staticmethod
    def _parts(trainer: Any) -> tuple[Any, ...]:
        return trainer.GAN.S, trainer.GAN.G, trainer.GAN.D

    def train(self, turn: Turn) -> None:
        with on_cpu():
            while not turn.over:
                self.trainer.train()
                turn.tick(BATCH)

    @torch.no_grad()
    def _sample(self, n: int, seed: int) -> Tensor:
        gan, rng = self.trainer.GAN.eval(), torch.Generator().manual_seed(seed)
        w = gan.S(torch.randn(n, gan.G.latent_dim, generator=rng))
        made = gan.G(w[:, None].expand(-1, gan.G.num_layers, -1), torch.rand(n, 8, 8, 1, generator=rng))
        grey: Tensor = made.clamp(0.0, 1.0).mean(1, keepdim=True)
        return 2.0 * grey - 1.0

    def score(self) -> dict[str, float]:
        return figures(self._sample)


def pairs() -> Iterator[tuple[str, str, Callable[[int], dict[str, Contender]]]]:
    data = load(DataConfig(source="digits", labels=False))

    def make(seed: int) -> dict[str, Contender]:
        mine = ours(data, seed)
        return {"niwaki": mine, "stylegan2-pytorch": StyleGan(data, mine.parameters, seed)}

    yield "StyleGAN2", "stylegan2_pytorch", make
