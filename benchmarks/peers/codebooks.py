"""vector-quantize-pytorch: 256 codes of 16 values for the 4×4 places of a digit, in the same encoder and
decoder.

The peer is a layer without a trainer, so it is trained by a plain loop with our optimizer's settings: AdamW
at 2e-3, betas 0.9 and 0.999, a warm-up and a cosine, clipped gradients; the set is held in memory. The
codebook has what its README recommends against codes that nobody uses: k-means at the start and replacement
of codes whose running count is below two; the rotation trick is its default. A second row adds its cosine
similarity in a space of eight dimensions. Scored on the test split: PSNR of reconstructions, share of codes
in use, their perplexity.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from peers.ours import Ours, parameters_of
from peers.turns import Contender, Turn
from torch import Tensor, nn

from niwaki.data import DataConfig, Dataset, load
from niwaki.models import build
from niwaki.training import TrainConfig

__all__ = ["NEEDS", "pairs"]

NEEDS = {"vector_quantize_pytorch": "1.32.0"}
CODES, DIM, BATCH, RATE = 256, 16, 128, 2e-3
SETTINGS = {"codes": CODES, "dim": DIM, "width": 32, "codebook": "averaged"}

TRAIN = TrainConfig.model_validate({
    "batch": BATCH, "optimizer": "adamw", "lr": RATE, "weight_decay": 1e-4, "warmup": 50, "clip": 1.0,
    "ema": 0.995, "stages": [{"name": "codes", "steps": 100}, {"name": "prior", "steps": 1}],
})  # fmt: skip


def figures(x: Tensor, made: Tensor, codes: Tensor) -> dict[str, float]:
    """Of values in −1 … 1 and the numbers of their codes."""
    p = torch.bincount(codes.flatten(), minlength=CODES) / codes.numel()
    error = float((made.clamp(-1.0, 1.0) - x).square().mean())
    return {
        "psnr": 10.0 * math.log10(4.0 / error),
        "used": float((p > 0).float().mean()),
        "perplexity": float(torch.exp(-torch.special.xlogy(p, p).sum())),
    }


def ours(data: Dataset, seed: int) -> Contender:
    torch.manual_seed(seed)
    model: Any = build("vqvae", SETTINGS, data.spec)

    @torch.no_grad()
    def score(model: Any, split: Any) -> dict[str, float]:
        codes = model.encode(split.values())
        return figures(split.values(), model.decode(codes), codes)

    size = parameters_of(model.encoder, model.decoder)
    return Ours(
        model,
        data.train,
        TRAIN,
        lambda m: score(m, data.test),
        judge=lambda m: -score(m, data.validation)["psnr"],
        seed=seed,
        parameters=size,
    )


class Layer:
    """`VectorQuantize` between our encoder and decoder, in a plain loop with averaged weights."""

    def __init__(self, data: Dataset, seed: int, **flags: Any) -> None:
        from vector_quantize_pytorch import VectorQuantize

        torch.manual_seed(seed)
        model: Any = build("vqvae", SETTINGS, data.spec)
        self.encoder, self.decoder = model.encoder, model.decoder
        self.book = VectorQuantize(
            dim=DIM, codebook_size=CODES, kmeans_init=True, kmeans_iters=10, threshold_ema_dead_code=2,
            commitment_weight=0.25, **flags,
        )  # fmt: skip
        self.parts = nn.ModuleList([self.encoder, self.book, self.decoder])
        self.data, self.seed, self.parameters = data, seed, parameters_of(self.encoder, self.decoder)

    def _through(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x).movedim(1, -1)
        e, codes, commitment = self.book(h.flatten(1, 2))
        return self.decoder(e.unflatten(1, h.shape[1:3]).movedim(-1, 1)), codes, commitment

    def train(self, turn: Turn) -> None:
        rng, x = torch.Generator().manual_seed(self.seed), self.data.train.values()
        trained = [p for p in self.parts.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=1e-4, fused=True)
        average = [p.detach().clone() for p in trained]
        best, kept, step, due = -math.inf, copy.deepcopy(self.parts), 0, 0.1
        while not turn.over:
            rate = (
                RATE
                * min(1.0, (step + 1) / 50)
                * 0.5
                * (1.0 + math.cos(math.pi * min(1.0, turn.spent / turn.seconds)))
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = x[torch.randint(0, len(x), (BATCH,), generator=rng)]
            made, _, commitment = self._through(batch)
            optimizer.zero_grad()
            ((made - batch).square().mean() + commitment.sum()).backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, trained, 1.0 - min(0.995, (step + 1) / (step + 10)))
            step += 1
            turn.tick(BATCH)
            if turn.spent >= due * turn.seconds:
                due += 0.1
                with turn.untimed(), torch.no_grad():
                    held = [p.detach().clone() for p in trained]
                    torch._foreach_copy_(trained, average)
                    found = self._score(self.data.validation)["psnr"]
                    if found > best:
                        best, kept = found, copy.deepcopy(self.parts)
                    torch._foreach_copy_(trained, held)
        self.parts.load_state_dict(kept.state_dict())

    @torch.no_grad()
    def _score(self, split: Any) -> dict[str, float]:
        self.parts.eval()
        made, codes, _ = self._through(split.values())
        self.parts.train()
        return figures(split.values(), made, codes)

    def score(self) -> dict[str, float]:
        return self._score(self.data.test)


def pairs() -> Iterator[tuple[str, str, Callable[[int], dict[str, Contender]]]]:
    data = load(DataConfig(source="digits", labels=False))
    for name, flags in {
        "VectorQuantize": {},
        "VectorQuantize, cosine": {"codebook_dim": 8, "use_cosine_sim": True},
    }.items():

        def make(seed: int, name: str = name, flags: dict[str, Any] = flags) -> dict[str, Contender]:
            return {"niwaki": ours(data, seed), name: Layer(data, seed, **flags)}

        yield f"codebook, beside {name}", "vector_quantize_pytorch", make
