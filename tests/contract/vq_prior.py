"""A VQ autoencoder (van den Oord et al. 2017), then a recurrent prior: two stages, a cascade of samplers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Graph, Phase, Port, State, View
from niwaki.models.registry import ModelConfig, register
from niwaki_runtime.samplers import Autoregressive, Cascade, OneShot, Sampler


class Config(ModelConfig):
    width: int = 16
    codes: int = 16


class Prior(nn.Module):
    """One step of a gated recurrent prior: token (n,), position (1,), hidden (n, w) → logits, hidden."""

    def __init__(self, codes: int, w: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(codes + 1, w)  # the last token stands before the first
        self.where = nn.Embedding(4, w)
        self.update, self.new, self.head = nn.Linear(2 * w, w), nn.Linear(2 * w, w), nn.Linear(w, codes)

    def forward(self, token: Tensor, position: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(token) + self.where(position)
        gate = torch.sigmoid(self.update(torch.cat([x, hidden], 1)))
        hidden = gate * hidden + (1 - gate) * torch.tanh(self.new(torch.cat([x, hidden], 1)))
        return self.head(hidden), hidden


@register("contract-vq-prior")
class VQPrior(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec, self.conditions = config, spec, {}
        w = config.width
        self.encoder = nn.Sequential(nn.Conv2d(1, w, 4, 2, 1), nn.ReLU(), nn.Conv2d(w, w, 4, 2, 1))
        self.codebook = nn.Embedding(config.codes, w)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(w, w, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(w, 1, 4, 2, 1), nn.Tanh()
        )
        self.prior = Prior(config.codes, w)
        self.register_buffer("counts", torch.zeros(config.codes))

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("autoencode", ("encoder", "codebook", "decoder"), stage="autoencoder"),
            Phase("prior", ("prior",), stage="prior"),
        )

    def codes(self, h: Tensor) -> Tensor:
        """Nearest codes (n, 2, 2) of features (n, w, 2, 2)."""
        flat = h.float().movedim(1, -1)
        return (flat.unsqueeze(-2) - self.codebook.weight).square().sum(-1).argmin(-1)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        h = self.encoder(batch.x)
        tokens = self.codes(h)
        if phase == "prior":
            tokens, first = tokens.flatten(1), torch.full((len(batch), 1), self.config.codes, device=h.device)
            fed, hidden, terms = torch.cat([first, tokens], 1), h.new_zeros(len(batch), self.config.width), []
            for i in range(4):
                logits, hidden = self.prior(fed[:, i], torch.tensor([i], device=h.device), hidden)
                terms.append(F.cross_entropy(logits.float(), tokens[:, i]))
            return {"nll": torch.stack(terms).sum()}
        q = self.codebook(tokens).movedim(-1, 1)
        self.counts += torch.bincount(tokens.flatten(), minlength=self.config.codes)
        out = self.decoder(h + (q - h).detach())  # straight through
        return {
            "reconstruction": (out - batch.x).square().mean(),
            "codebook": (q - h.detach()).square().mean(),
            "commitment": 0.25 * (h - q.detach()).square().mean(),
        }

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        return self.decoder(self.codebook(tokens).unflatten(1, (2, 2)).movedim(-1, 1))

    def graphs(self) -> dict[str, Graph]:
        k, w = self.config.codes, self.prior.head.in_features
        return {
            "prior": Graph(
                "prior",
                self.prior,
                (
                    Port("token", (1,), "int64", high=k),
                    Port("position", (1,), "int64", batch_axis=None, high=4),
                ),
                ("logits",),
                (State("hidden", "hidden_next", (1, w)),),
            ),
            "decoder": Graph(
                "decoder", View(self, "decode_tokens"), (Port("tokens", (1, 4), "int64", high=k),)
            ),
        }

    def sampler(self) -> Sampler:
        prior = Autoregressive(length=4, first=self.config.codes, graph="prior")
        return Cascade((prior, OneShot(latent=None, graph="decoder", conditions=("tokens",))), ("tokens",))
