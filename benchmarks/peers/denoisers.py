"""diffusers and denoising-diffusion-pytorch: 8×8 digits with classes, by a U-Net of as many parameters.

All sides learn v on a cosine schedule of a thousand steps, in batches of 64 at a rate of 1e-3, in bfloat16
where ours is, keep an average of their weights, and draw their samples in 30 steps of DDIM.

`UNet2DModel` is trained as diffusers' `train_unconditional.py` does it (AdamW, betas 0.95 and 0.999, weight
decay 1e-6, warm-up, a cosine, gradients of norm 1), its average updated by one call for all weights
(`foreach`). The network of denoising-diffusion-pytorch's `classifier_free_guidance` is trained as its
`Trainer` does it (Adam, betas 0.9 and 0.99, gradients of norm 1, a constant rate, an average at 0.995 that
is a copy for its first hundred steps, as that of ema-pytorch), without dropped classes; the package is
imported without its `__init__`, which wants torchvision for folders of pictures.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peers.ours import Ours, parameters_of
from peers.pictures import figures
from peers.turns import Contender, Turn
from torch import Tensor, nn

from niwaki.data import DataConfig, Dataset, load
from niwaki.models import build
from niwaki.training import TrainConfig
from niwaki.training.hardware import choose_precision

__all__ = ["NEEDS", "pairs"]

NEEDS = {"diffusers": "0.42.1", "denoising_diffusion_pytorch": "2.3.4"}
BATCH, STEPS, RATE = 64, 30, 1e-3
WIDTHS = (64, 128)
COPIED = 100
"""Steps before ema-pytorch begins to average."""
TRAIN = TrainConfig(batch=BATCH, lr=RATE, ema=0.995)


def ours(data: Dataset, seed: int) -> Contender:
    torch.manual_seed(seed)
    settings = {
        "widths": WIDTHS,
        "blocks": 1,
        "attention": [4],
        "sampling": {"solver": "ddim", "steps": STEPS},
    }
    return Ours(
        build("ddpm", settings, data.spec),
        data.train,
        TRAIN,
        lambda m: figures(
            lambda n, s: torch.as_tensor(m.sample(n, seed=s)), seeds=1, classes=data.spec.classes
        ),
        seed=seed,
    )


class Loop:
    """The loop that both peers have: a batch, a loss, a step, an average."""

    def __init__(self, network: nn.Module, data: Dataset, seed: int) -> None:
        self.network, self.data, self.seed = network, data, seed
        self.average = copy.deepcopy(network).eval()
        self.x, self.labels = data.train.values(), data.train.y
        self.parameters = parameters_of(network)

    def step(self, x: Tensor, labels: Tensor) -> None:
        raise NotImplementedError

    def sample(self, labels: Tensor, seed: int) -> Tensor:
        """Of the averaged weights, in −1 … 1."""
        raise NotImplementedError

    def narrow(self) -> AbstractContextManager[Any]:
        narrow = choose_precision(TRAIN.precision, torch.device("cpu")) == "bf16-mixed"
        return torch.autocast("cpu", torch.bfloat16) if narrow else nullcontext()

    def train(self, turn: Turn) -> None:
        rng = torch.Generator().manual_seed(self.seed)
        self.network.train()
        while not turn.over:
            rows = torch.randint(0, len(self.x), (BATCH,), generator=rng)
            self.step(self.x[rows], self.labels[rows])
            turn.tick(BATCH)

    def score(self) -> dict[str, float]:
        classes = self.data.spec.classes

        @torch.no_grad()
        def drawn(n: int, seed: int) -> Tensor:
            return self.sample(torch.arange(n) % classes, seed).float().clamp(-1.0, 1.0)

        return figures(drawn, seeds=1, classes=classes)


class Diffusers(Loop):
    """`UNet2DModel`, as `train_unconditional.py` trains it."""

    def __init__(self, data: Dataset, parameters: int, seed: int) -> None:
        from diffusers import DDIMScheduler, DDPMScheduler

        torch.manual_seed(seed)
        width = min(range(16, 129, 8), key=lambda w: abs(parameters_of(self._network(w, data)) - parameters))
        super().__init__(self._network(width, data), data, seed)
        process = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
        self.noise = DDPMScheduler(num_train_timesteps=1000, **process)
        self.solver = DDIMScheduler(num_train_timesteps=1000, **process)

    @staticmethod
    def _network(width: int, data: Dataset) -> nn.Module:
        from diffusers import UNet2DModel

        made: nn.Module = UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=8,
            block_out_channels=(width, 2 * width), num_class_embeds=data.spec.classes,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        return made

    def train(self, turn: Turn) -> None:
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        with turn.untimed():
            total = self._steps(turn.seconds)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=RATE, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        warm = min(500, total // 10)
        self.schedule = get_scheduler(
            "cosine", self.optimizer, num_warmup_steps=warm, num_training_steps=total
        )
        self.ema = EMAModel(
            self.network.parameters(),
            decay=0.995,
            use_ema_warmup=True,
            inv_gamma=1.0,
            power=0.75,
            foreach=True,
        )
        super().train(turn)
        self.ema.copy_to(self.average.parameters())

    def _steps(self, seconds: float) -> int:
        """How many the time allows: what the cosine falls over."""
        trial = copy.copy(self)
        trial.network = copy.deepcopy(self.network)
        trial.optimizer = torch.optim.AdamW(trial.network.parameters(), lr=RATE)
        trial.schedule = trial.ema = None
        rows = torch.arange(BATCH)
        for _ in range(3):
            trial.step(self.x[rows], self.labels[rows])
        began = time.thread_time()
        for _ in range(10):
            trial.step(self.x[rows], self.labels[rows])
        return max(20, int(10 * seconds / (time.thread_time() - began)))

    def step(self, x: Tensor, labels: Tensor) -> None:
        noise = torch.randn_like(x)
        t = torch.randint(0, 1000, (len(x),))
        with self.narrow():
            said = self.network(self.noise.add_noise(x, noise, t), t, class_labels=labels).sample
        nn.functional.mse_loss(said.float(), self.noise.get_velocity(x, noise, t)).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.schedule is not None:
            self.schedule.step()
            self.ema.step(self.network.parameters())

    def sample(self, labels: Tensor, seed: int) -> Tensor:
        x = torch.randn((len(labels), 1, 8, 8), generator=torch.Generator().manual_seed(seed))
        self.solver.set_timesteps(STEPS)
        for t in self.solver.timesteps:
            x = self.solver.step(self.average(x, t, class_labels=labels).sample, t, x).prev_sample
        return x


class Lucidrains(Loop):
    """`classifier_free_guidance.Unet`, as the `Trainer` of denoising-diffusion-pytorch trains it."""

    def __init__(self, data: Dataset, parameters: int, seed: int) -> None:
        torch.manual_seed(seed)
        width = min(range(8, 129, 4), key=lambda w: abs(parameters_of(self._network(w, data)) - parameters))
        super().__init__(self._network(width, data), data, seed)
        self.loss, self.steps = self._process(self.network), 0
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE, betas=(0.9, 0.99))

    @staticmethod
    def _network(width: int, data: Dataset) -> nn.Module:
        made: nn.Module = _guided().Unet(
            dim=width, num_classes=data.spec.classes, cond_drop_prob=0.0, dim_mults=(1, 2), channels=1
        )
        return made

    @staticmethod
    def _process(network: nn.Module) -> Any:
        return _guided().GaussianDiffusion(
            network, image_size=8, timesteps=1000, sampling_timesteps=STEPS, objective="pred_v",
            beta_schedule="cosine", ddim_sampling_eta=0.0,
        )  # fmt: skip

    def step(self, x: Tensor, labels: Tensor) -> None:
        with self.narrow():
            loss = self.loss((x + 1.0) / 2.0, classes=labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        # ema-pytorch: a copy until `update_after_step`, then a decay of 1 − (1 + n)^(−2/3), at most `beta`
        n = self.steps - COPIED - 1
        decay = min(0.995, 1.0 - (1.0 + n) ** (-2 / 3)) if n > 0 else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), 1.0 - decay
            )

    def sample(self, labels: Tensor, seed: int) -> Tensor:
        torch.manual_seed(seed)
        # At a scale of exactly 1 the peer's sampler unpacks two outputs of a network that returns one.
        made: Tensor = self._process(self.average).sample(labels, cond_scale=1.0 + 1e-6, rescaled_phi=0.0)
        return 2.0 * made - 1.0


def _guided() -> Any:
    """The peer's module, without its package's `__init__`."""
    name = "denoising_diffusion_pytorch"
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        package = types.ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[name] = package
    return importlib.import_module(f"{name}.classifier_free_guidance")


def pairs() -> Iterator[tuple[str, str, Callable[[int], dict[str, Contender]]]]:
    data = load(DataConfig(source="digits"))
    peers: tuple[tuple[str, str, Any], ...] = (
        ("diffusion, diffusers", "diffusers", Diffusers),
        ("diffusion, denoising-diffusion-pytorch", "denoising_diffusion_pytorch", Lucidrains),
    )
    for name, package, peer in peers:

        def make(seed: int, package: str = package, peer: Any = peer) -> dict[str, Contender]:
            mine = ours(data, seed)
            return {"niwaki": mine, package.replace("_", "-"): peer(data, mine.parameters, seed)}

        yield name, package, make
