"""A causal language model of `transformers` in niwaki's clothes: it continues, scores and is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from niwaki.adapters.language.attention import Cache
from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import (
    Batch,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
    Program,
    State,
    ValueSpec,
    View,
)
from niwaki_runtime.programs import BITS, CODEC
from niwaki_runtime.samplers import Autoregressive, DirectCoding

__all__ = ["NAME", "LanguageConfig", "LanguageModel"]

NAME = "language-model"


class LanguageConfig(BaseConfig):
    """The arguments of `adapt_language_model`, and all that is needed to build the network again.

    network:   the configuration of `transformers`, as JSON
    length:    tokens of one sample, its prompt included: the length of the cache
    first:     the token before the first one
    stop:      the token that ends a sample; −1 where samples always have their full length
    stops:     further ones
    alone:     prompts stand without the first token: the tokenizer puts none before a text
    prompt:    tokens of the longest prompt; 0 takes none
    stride:    tokens that are read at once
    tokenizer: bytes of tokenizer.json; 0 where there is none
    temperature, top_k, top_p: of the sampler, as the model's own settings have them
    """

    network: dict[str, Any]
    length: int = Field(gt=0)
    first: int = Field(ge=0)
    stop: int = -1
    stops: tuple[int, ...] = ()
    alone: bool = False
    prompt: int = Field(default=0, ge=0)
    stride: int = Field(default=32, gt=0)
    tokenizer: int = Field(default=0, ge=0)
    temperature: float = Field(default=1.0, ge=0.0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)


class LanguageModel(GenerativeModel):
    """p(x) = Π p(xᵢ | first, x₀ … xᵢ₋₁) over token sequences of a fixed length.

    The cache of keys and values is state of its two graphs: `prefill` reads `stride` tokens at once, `decode`
    one. Both return the rows that are new, which the sampler writes into the cache.
    """

    name = NAME
    Config = LanguageConfig
    config: LanguageConfig
    tokenizer: Tensor

    def __init__(
        self, network: nn.Module, config: LanguageConfig, spec: DataSpec, tokenizer: bytes = b""
    ) -> None:
        """network: whose attention is ours; tokenizer: tokenizer.json, or nothing while it is rebuilt."""
        super().__init__()
        self.network, self.config, self.spec = network, config, spec
        # A buffer: whatever is kept of the model then holds its tokenizer, and is read back with it.
        text = bytearray(tokenizer or bytes(config.tokenizer))
        data = (
            torch.frombuffer(text, dtype=torch.uint8).clone() if text else torch.empty(0, dtype=torch.uint8)
        )
        self.register_buffer("tokenizer", data)
        prompt = ConditionSpec(ValueSpec("text", (config.prompt,), "T", spec.values), null=-1)
        self.conditions = {"prompt": prompt} if config.prompt else {}
        self._layout: tuple[Any, tuple[tuple[int, int], ...]] | None = None
        self.register_state_dict_post_hook(_once)
        self.register_load_state_dict_pre_hook(_again)

    @property
    def tokenizer_json(self) -> str:
        """The text of tokenizer.json, empty where there is none."""
        return bytes(self.tokenizer.cpu().numpy()).decode()

    @property
    def files(self) -> Mapping[str, str]:  # type: ignore[override]
        """What a bundle ships beside the graphs."""
        text = self.tokenizer_json
        return {"tokenizer.json": text} if text else {}

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("nll", ("network",)),)

    def logits(self, x: Tensor) -> Tensor:
        """Teacher forcing: tokens `(n, length)` → logits `(n, length, V)` of each given those before it."""
        fed = F.pad(x[:, :-1], (1, 0), value=self.config.first)
        out: Tensor = self.network(input_ids=fed, use_cache=False, return_dict=True).logits
        return out

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Cross-entropy of the next token, in nats per token."""
        return {"nll": F.cross_entropy(self.logits(batch.x).float().flatten(0, 1), batch.x.flatten())}

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of token sequences `(n, length)`, in nats `(n,)`. Exact: tokens have probabilities."""
        logits = self.logits(x).double()
        return -F.cross_entropy(logits.transpose(1, 2), x, reduction="none").sum(1)

    def prefill(self, tokens: Tensor, position: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Tokens `(n, stride)` from `position` on → their logits `(n, stride, V)`, new keys and values."""
        cache = Cache(state, position)
        places = (position + torch.arange(tokens.shape[1], device=tokens.device)).unsqueeze(0)
        out = self.network(
            input_ids=tokens, position_ids=places, past_key_values=cache, use_cache=True, return_dict=True
        )
        return (out.logits, *cache.news())

    def decode(self, token: Tensor, position: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One token `(n,)` at `position` → logits `(n, V)` of the next, new keys and values."""
        logits, *news = self.prefill(token.unsqueeze(1), position, *state)
        return (logits.squeeze(1), *news)

    def graphs(self) -> dict[str, Graph]:
        config, states = self.config, []
        for i, (heads, dim) in enumerate(self._heads()):
            shape = (1, heads, config.length, dim)
            states += [State(f"{c}{i}", f"{c}{i}_new", shape) for c in ("key_", "value_")]
        place = Port("position", (1,), "int64", batch_axis=None, high=config.length - config.stride + 1)
        token = Port("token", (1,), "int64", high=self.spec.levels)
        tokens = Port("tokens", (1, config.stride), "int64", high=self.spec.levels)
        return {
            "decode": Graph("prior", View(self, "decode"), (token, place), ("logits",), tuple(states)),
            "prefill": Graph("prior", View(self, "prefill"), (tokens, place), ("logits",), tuple(states)),
        }

    def sampler(self) -> Autoregressive:
        config = self.config
        return Autoregressive(
            length=config.length,
            first=config.first,
            prompt="prompt" if config.prompt else "",
            prefill="prefill",
            stride=config.stride,
            stop=config.stop,
            stops=config.stops,
            alone=config.alone,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
        )

    def programs(self) -> dict[str, Program]:
        """`sample`; `codec` says how many bits tokens take."""
        coding = DirectCoding.of(self.sampler())
        return {**super().programs(), CODEC: Program(coding, {"x": ConditionSpec(self.spec.x)}, BITS)}

    @torch.no_grad()
    def _heads(self) -> tuple[tuple[int, int], ...]:
        """Heads of the keys and values of each layer, and their width, as they are after pruning."""
        key = tuple((p.shape, p.device) for p in self.network.parameters())
        if self._layout is None or self._layout[0] != key:
            device = next(self.network.parameters()).device
            token = torch.zeros((1, 1), dtype=torch.long, device=device)
            cache = Cache(None, token[0])
            self.network(input_ids=token, position_ids=token, past_key_values=cache, use_cache=True)
            found = tuple((int(x.shape[1]), int(x.shape[3])) for x in cache.news()[::2])
            self._layout = (key, found)
        return self._layout[1]


def _tied(model: nn.Module) -> dict[str, str]:
    """Parameters that are one: each later name → the first."""
    first: dict[int, str] = {}
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            found[name] = first[id(parameter)]
    return found


def _once(model: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Keep tied weights under one name only."""
    for name in _tied(model):
        state.pop(prefix + name, None)


def _again(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Tied weights are read from the one name they are kept under."""
    for name, source in _tied(model).items():
        if prefix + source in state:
            state.setdefault(prefix + name, state[prefix + source])
