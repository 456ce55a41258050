"""The text encoders of a pipeline as one graph: tokens, or classes that stand for captions, → what the
denoiser is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.adapters.diffusers.kinds import Encoded, PipelineKind

__all__ = ["TextEncoder", "encoded"]


def encoded(kind: str, network: Any, tokens: Tensor) -> Encoded:
    """What a text encoder of class `kind` says of tokens `(n, length)`."""
    return _ENCODED[kind](network, tokens)


def _clip(network: Any, tokens: Tensor) -> Encoded:
    out = network(input_ids=tokens, output_hidden_states=True)
    return Encoded(out.last_hidden_state, out.hidden_states[-2], out.pooler_output)


def _projected(network: Any, tokens: Tensor) -> Encoded:
    out = network(input_ids=tokens, output_hidden_states=True)
    return Encoded(out.last_hidden_state, out.hidden_states[-2], out.text_embeds)


_ENCODED: dict[str, Callable[[Any, Tensor], Encoded]] = {
    "CLIPTextModel": _clip,
    "CLIPTextModelWithProjection": _projected,
    "T5EncoderModel": lambda network, tokens: Encoded(network(input_ids=tokens).last_hidden_state),
}


class TextEncoder(nn.Module):
    """Tokens `(n, length)`, or classes `(n,)` that stand for captions, → the outputs of the pipeline's kind,
    such as states `(n, length, width)` and pooled ones `(n, width)`.

    kind:     of the pipeline, which says what is made of the encoders' states
    settings: of the denoiser
    networks: by their names in the pipeline → (class, network)
    tokens:   how many of them each of the pipeline's encoders reads, also one that is left out
    empty:    tokens of the empty prompt: what `null` (one above the last token or class) stands for
    captions: tokens of each class `(classes, length)`; None where prompts are given as tokens
    zeros:    `null` stands for zeros instead of the encoded empty prompt
    """

    empty: Tensor
    table: Tensor | None

    def __init__(
        self,
        kind: PipelineKind,
        settings: Mapping[str, Any],
        networks: Mapping[str, tuple[str, nn.Module]],
        tokens: Mapping[str, int],
        empty: Tensor,
        captions: Tensor | None,
        null: int,
        zeros: bool = False,
    ) -> None:
        super().__init__()
        assert kind.join is not None
        self.join, self.settings, self.names, self.null, self.zeros = (
            kind.join,
            settings,
            kind.texts,
            null,
            zeros,
        )
        self.kinds = {name: kind for name, (kind, _) in networks.items()}
        self.tokens = dict(tokens)
        self.lengths = {name: tokens[name] for name in networks}
        for name, (_, network) in networks.items():
            self.add_module(_attribute(name), network)
        self.register_buffer("empty", empty, persistent=False)
        rows = None if captions is None else torch.cat([captions, empty[None]])
        self.register_buffer("table", rows, persistent=False)

    def forward(self, asked: Tensor) -> Any:
        nothing = asked == self.null
        if self.table is not None:
            tokens = self.table[asked]
        else:
            tokens = torch.where(nothing, self.empty, asked)
            nothing = nothing[:, 0]
        out = self.join(self.say(tokens), self.settings, self.tokens)
        if self.zeros:
            something = (~nothing).to(out[0].dtype)
            out = tuple(v * something.reshape(-1, *(1,) * (v.ndim - 1)) for v in out)
        return out if len(out) > 1 else out[0]

    def say(self, tokens: Tensor) -> list[Encoded | None]:
        """What each encoder says of its part of the tokens; None of one that was left out."""
        said: list[Encoded | None] = []
        parts = dict(zip(self.lengths, tokens.split(tuple(self.lengths.values()), dim=1), strict=True))
        for name in self.names:
            if name not in self.kinds:
                said.append(None)
                continue
            network: Any = self.network_of(name)
            known = int(network.config.vocab_size)
            part = parts[name]
            if known < self.null and self.table is None:
                # No prompt has tokens that only another encoder knows, but examples for tracing have.
                part = part.clamp(max=known - 1)
            said.append(encoded(self.kinds[name], network, part))
        return said

    def network_of(self, name: str) -> nn.Module:
        """The text encoder of that name in the pipeline."""
        return self.get_submodule(_attribute(name))


def _attribute(name: str) -> str:
    """`text_encoder_2` → `network_2`: what saved models call them."""
    return name.replace("text_encoder", "network")
