"""pythae: VAE, β-VAE and IWAE, without classes, a Bernoulli for every pixel.

Each kind is compared twice: over pythae's own networks (an MLP), and over niwaki's (convolutions); both
sides have the same networks and so the same number of parameters. Both are scored by one function: the
bound of Burda et al. 2016 by 200 samples of z, and both keep the weights of their best validation.

pythae is trained as its README recommends: AdamW, betas 0.91 and 0.995, weight decay 0.05, a rate of 1e-3,
batches of 200, ReduceLROnPlateau by a half; its five epochs of patience are those of MNIST, here as many
steps. What it spends on validation, logging and copies between epochs is not counted.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from peers.ours import Ours, parameters_of
from peers.turns import Contender, TimeIsUp, Turn
from torch import Tensor, nn

from niwaki.data import DataConfig, Dataset, load
from niwaki.models import build
from niwaki.models.vae.vae import Vae, VaeConfig
from niwaki.training import TrainConfig

__all__ = ["NEEDS", "pairs"]

NEEDS = {"pythae": "0.1.2"}
LATENT, HIDDEN, WIDTH, IMPORTANCE, BETA, BATCH = 16, 512, 16, 8, 4.0, 200
SAMPLES = 200
"""Of z, in the bound that both are scored by."""

PATIENCE = 5 * 250
"""Steps of pythae's schedule without a better validation: the five epochs of MNIST in its README."""

TRAIN = TrainConfig(
    batch=BATCH, lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4, optimizer="adamw", warmup=50, ema=0.99
)


class MlpEncoder(nn.Module):
    """The layers of pythae's `Encoder_VAE_MLP`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(size, HIDDEN), nn.ReLU())
        self.mean, self.log_var = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.mean(h), self.log_var(h)


class MlpDecoder(nn.Module):
    """The layers of pythae's `Decoder_AE_MLP`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        size = math.prod(shape)
        self.body = nn.Sequential(
            nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, size), nn.Unflatten(1, shape)
        )

    def raw(self, z: Tensor) -> Tensor:
        out: Tensor = self.body(z)
        return out


class MlpVae(Vae):
    """niwaki's VAE over pythae's networks."""

    small_matrices = True

    def _networks(self, shape: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
        return MlpEncoder(math.prod(shape)), MlpDecoder(shape)


@torch.no_grad()
def bound_bits(
    posterior: Callable[[Tensor], tuple[Tensor, Tensor]],
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    samples: int,
) -> float:
    """Bits per pixel of x in 0 … 1 by the importance-weighted bound, the KL counted once whatever β."""
    rng = torch.Generator().manual_seed(0)
    mean, log_var = posterior(x)
    weights = []
    for _ in range(samples):
        eps = torch.randn(mean.shape, generator=rng)
        z = mean + (0.5 * log_var).exp() * eps
        prior = 0.5 * (eps.square() + log_var - z.square()).sum(1)  # log p(z) − log q(z | x)
        nll = nn.functional.binary_cross_entropy_with_logits(logits(z), x, reduction="none")
        weights.append(prior - nll.flatten(1).sum(1))
    nats = torch.logsumexp(torch.stack(weights), 0) - math.log(samples)
    return float(-nats.mean()) / x[0].numel() / math.log(2.0)


def unit(split: Any) -> Tensor:
    """Pixels in 0 … 1."""
    values: Tensor = split.values()
    return (values + 1.0) / 2.0


def settings(kind: str) -> dict[str, Any]:
    return {
        "latent": LATENT, "width": WIDTH, "likelihood": "bernoulli",
        **({"beta": BETA} if kind == "beta-vae" else {}),
        **({"importance": IMPORTANCE} if kind == "iwae" else {}),
    }  # fmt: skip


def ours(kind: str, mlp: bool, data: Dataset, seed: int) -> Contender:
    torch.manual_seed(seed)
    asked = settings(kind)
    model: Any = MlpVae(VaeConfig(**asked), data.spec) if mlp else build("vae", asked, data.spec)

    def bits(model: Any, split: Any, samples: int) -> float:
        def posterior(x: Tensor) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = model.posterior(2.0 * x - 1.0)
            return found

        return bound_bits(posterior, lambda z: model.decoder.raw(z), unit(split), samples)

    return Ours(
        model,
        data.train,
        TRAIN,
        lambda m: {"bits": bits(m, data.test, SAMPLES)},
        judge=lambda m: bits(m, data.validation, 10),
        seed=seed,
    )


class Pythae:
    """pythae's own trainer, ended when its time is up, with its best validation."""

    def __init__(self, kind: str, mlp: bool, data: Dataset, seed: int) -> None:
        from pythae import models

        logging.getLogger("pythae").setLevel(logging.ERROR)
        self.data, self.seed = data, seed
        make, config = {
            "vae": (models.VAE, models.VAEConfig),
            "beta-vae": (models.BetaVAE, models.BetaVAEConfig),
            "iwae": (models.IWAE, models.IWAEConfig),
        }[kind]
        more: dict[str, Any] = {"beta-vae": {"beta": BETA}, "iwae": {"number_samples": IMPORTANCE}}.get(
            kind, {}
        )
        torch.manual_seed(seed)
        asked = config(input_dim=tuple(data.spec.shape), latent_dim=LATENT, reconstruction_loss="bce", **more)
        self.model = make(asked, *(() if mlp else _wrapped(kind, data)))
        self.parameters = parameters_of(self.model)

    def train(self, turn: Turn) -> None:
        from pythae.data.datasets import BaseDataset
        from pythae.trainers import BaseTrainer, BaseTrainerConfig
        from pythae.trainers.training_callbacks import TrainingCallback

        for name in ("pythae.trainers.base_trainer.base_trainer", "pythae.trainers.training_callbacks"):
            logging.getLogger(name).setLevel(logging.ERROR)

        batches = math.ceil(len(self.data.train) / BATCH)
        seen = len(self.data.train) // batches  # the last one is smaller

        class Watch(TrainingCallback):  # type: ignore[misc]
            between: Any = None

            def on_train_step_end(self, training_config: Any, **_: Any) -> None:
                turn.tick(seen)

            def on_eval_step_begin(self, training_config: Any, **_: Any) -> None:
                self.between = turn.untimed()
                self.between.__enter__()

            def on_epoch_begin(self, training_config: Any, **_: Any) -> None:
                if self.between is not None:
                    self.between.__exit__(None, None, None)
                    self.between = None
                if turn.over:
                    raise TimeIsUp

        def sets(split: Any) -> Any:
            return BaseDataset(data=unit(split), labels=torch.zeros(len(split)))

        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder,
                num_epochs=10**6,
                learning_rate=1e-3,
                per_device_train_batch_size=BATCH,
                per_device_eval_batch_size=BATCH,
                optimizer_cls="AdamW",
                optimizer_params={"weight_decay": 0.05, "betas": (0.91, 0.995)},
                scheduler_cls="ReduceLROnPlateau",
                scheduler_params={"patience": PATIENCE // batches, "factor": 0.5},
                no_cuda=True,
                seed=self.seed,
            )
            trainer = BaseTrainer(
                self.model, sets(self.data.train), sets(self.data.validation), config, [Watch()]
            )
            try:
                bar = "pythae.trainers.base_trainer.base_trainer.ProgressBarCallback"
                with mock.patch(bar, TrainingCallback):
                    trainer.train()
            finally:
                self.model = getattr(trainer, "_best_model", self.model).eval()

    def score(self) -> dict[str, float]:
        def posterior(x: Tensor) -> tuple[Tensor, Tensor]:
            found = self.model.encoder(x)
            return found.embedding, found.log_covariance

        def logits(z: Tensor) -> Tensor:
            return torch.logit(self.model.decoder(z)["reconstruction"], eps=1e-6).reshape(
                -1, *self.data.spec.shape
            )

        return {"bits": bound_bits(posterior, logits, unit(self.data.test), SAMPLES)}


def _wrapped(kind: str, data: Dataset) -> tuple[Any, Any]:
    """niwaki's networks as pythae takes those of a user."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    model: Any = build("vae", settings(kind), data.spec)

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model.encoder

        def forward(self, x: Tensor) -> Any:
            mean, log_var = self.inner(2.0 * x - 1.0)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model.decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.inner.raw(z).sigmoid())

    return Encoder(), Decoder()


def pairs() -> Iterator[tuple[str, str, Callable[[int], dict[str, Contender]]]]:
    """Name, figure, and what makes both sides from a seed."""
    data = load(DataConfig(source="digits", labels=False))
    for kind in ("vae", "beta-vae", "iwae"):
        for mlp in (True, False):

            def make(seed: int, kind: str = kind, mlp: bool = mlp) -> dict[str, Contender]:
                return {"niwaki": ours(kind, mlp, data, seed), "pythae": Pythae(kind, mlp, data, seed)}

            yield f"{kind}, {'MLP' if mlp else 'convolutions'}", "pythae", make
