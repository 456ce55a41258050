"""One comparison of a language model with the network that it was made from, as transformers runs that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.adapters.language.model import LanguageModel
from niwaki.core.backend import TorchBackend
from niwaki.core.contract import CallError, first_line
from niwaki_runtime.samplers.reading import teacher_forced

__all__ = ["expected_logits", "refuse_other_logits", "tried_rows"]

_CLOSE = 2e-4  # of the largest logit: what two orders of the same sums may differ by


def tried_rows(levels: int, length: int, tokens: Iterable[int]) -> list[Tensor]:
    """Prompts of three different lengths: random tokens, the last of the vocabulary (where added ones are),
    and those with a meaning of their own.

    tokens: with a meaning: of beginning, of the end, padding
    """
    rng = torch.Generator().manual_seed(0)
    rows = [
        torch.randint(levels, (max(n, 1),), generator=rng) for n in (length, length // 2, length // 5 + 1)
    ]
    odd = [t for t in dict.fromkeys([*tokens, levels - 1, levels - 2]) if 0 <= t < levels]
    for row in rows:
        places = torch.randperm(len(row), generator=rng)[: max(1, len(row) // 3)]
        for i, place in enumerate(places):
            row[place] = odd[i % len(odd)]
    return rows


@torch.no_grad()
def expected_logits(network: Any, rows: Sequence[Tensor]) -> list[np.ndarray]:
    """What the network says of each row, `(length, V)`: one batch, filled up in front and masked, as
    `generate` of transformers does with prompts of different lengths.

    Raises CallError where it cannot be run so.
    """
    device = next(network.parameters()).device
    longest = max(map(len, rows))
    fed = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(fed)
    for i, row in enumerate(rows):
        fed[i, longest - len(row) :] = row
        mask[i, longest - len(row) :] = 1
    named = {"input_ids": fed, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    settings, was_training = network.config, network.training
    form, settings.return_dict = settings.return_dict, True  # of the answer; it changes no number
    network.eval()
    try:
        out = network(**{k: v.to(device) for k, v in named.items()}, use_cache=False, return_dict=True).logits
    except Exception as error:  # whatever its author's code raises
        raise CallError(
            f"{type(network).__name__} cannot be run in float32 by transformers, to compare with: "
            f"{first_line(error)}"
        ) from error
    finally:
        network.train(was_training)
        settings.return_dict = form
    found = out.float().cpu().numpy()
    return [found[i, longest - len(row) :] for i, row in enumerate(rows)]


@torch.no_grad()
def refuse_other_logits(model: LanguageModel, rows: Sequence[Tensor], expected: Sequence[np.ndarray]) -> None:
    """Compare with what was expected: all at once, by strides and token by token through the cache.

    Raises CallError with the difference.
    """
    scale = max(1.0, max(float(np.abs(e).max()) for e in expected))
    backend = TorchBackend(next(model.parameters()).device)
    worst = 0.0
    for row, wanted in zip(rows, expected, strict=True):
        first = int(row[0])
        x = torch.cat([row[1:], row[:1]])[None]  # fed behind `first`; of the last one nothing is asked
        sampler = replace(model.sampler(), first=first)
        try:
            graphs = model.graphs()
            fed = row[None].to(next(model.parameters()).device)
            plain = model.network(input_ids=fed, use_cache=False, return_dict=True).logits[0]
            whole = teacher_forced(graphs, sampler, x.numpy(), backend)[0]
            few = teacher_forced(graphs, replace(sampler, prefill=""), x[:, :3].numpy(), backend)[0]
        except CallError:
            raise
        except Exception as error:  # whatever its author's code raises when it is called in another way
            raise _unfit(model.network, first_line(error)) from error
        for found in (plain.float().cpu().numpy(), whole, few):
            worst = max(worst, float(np.abs(found - wanted[: len(found)]).max()) / scale)
            if not worst <= _CLOSE:  # NaN is not close either
                raise _unfit(
                    model.network,
                    f"its logits then differ by {worst:.2g} of the largest from what transformers computes",
                )


def _unfit(network: nn.Module, reason: str) -> CallError:
    return CallError(f"{type(network).__name__} cannot be run with a cache of fixed length: {reason}")
