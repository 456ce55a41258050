"""One comparison of every network of a pipeline, and of its tokenizer, with the library's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.adapters.diffusers.config import Words
from niwaki.adapters.diffusers.networks import Denoiser
from niwaki.adapters.diffusers.pipeline import AdaptedPipeline
from niwaki.adapters.diffusers.text_encoder import encoded
from niwaki.adapters.diffusers.tokens import tokenize
from niwaki.adapters.same import in_float32
from niwaki.core.contract import CallError, first_line
from niwaki_runtime.samplers.backend import outputs

__all__ = ["refuse_other_outputs", "refuse_other_tokens"]

_CLOSE = 2e-4  # of the largest value: what two orders of the same sums may differ by
_PROMPTS = ("", "a", "a photo of three cats", "A  b,c!", "grün 日本 🌲")


@torch.no_grad()
def refuse_other_outputs(model: AdaptedPipeline, originals: Mapping[str, nn.Module]) -> None:
    """Compare in float32, on inputs of the shapes that the pipeline uses: the text encoder on prompts of
    different lengths, the denoiser at two times, the decoder of latents as the pipelines scale them.

    originals: networks by their names in the pipeline, as their own library runs them
    Raises CallError, with the difference, for the first that computes something else.
    """
    rng = torch.Generator().manual_seed(0)
    graphs = model.graphs()
    shape = graphs["denoiser"].inputs[0].shape[1:]
    x, t = torch.randn((2, *shape), generator=rng), torch.tensor([3.0, 700.0])
    asked: tuple[Tensor, ...] = ()
    if model.text is not None:
        asked = _compare_texts(model, originals)
    elif model.conditions:
        asked = (torch.tensor([0, 1]) % model.conditions["class"].size,)
    name, ours = model.config.denoiser, model.denoiser
    # Their network in the place of ours: called as the pipeline calls it.
    theirs = Denoiser(ours.kind, _prepared(originals[name]), model.spec.shape[1:3], ours.told)
    _same(name, lambda: theirs(x, t, *asked), lambda: ours(x, t, *asked))
    if model.decoder is not None:
        vae: Any = _prepared(originals["vae"])
        decoder, z = model.decoder, x / model.decoder.scaling
        z = z if decoder.shift is None else z + decoder.shift
        _same("vae", lambda: vae.decode(z).sample, lambda: decoder(x))


def _compare_texts(model: AdaptedPipeline, originals: Mapping[str, nn.Module]) -> tuple[Tensor, ...]:
    """Each text encoder on prompts of different lengths; returns what they say of two of them."""
    assert model.text is not None
    prompts = [p for p in _PROMPTS if _fits(model, p)]
    tokens = torch.from_numpy(tokenize(model.config.words, prompts))
    ours = model.text
    for name, part in zip(ours.lengths, tokens.split(tuple(ours.lengths.values()), dim=1), strict=True):
        kind = ours.kinds[name]
        _same(
            name,
            partial(_said, kind, _prepared(originals[name]), part),
            partial(_said, kind, ours.network_of(name), part),
        )
    two = tokens[torch.arange(2) % len(prompts)]
    return outputs(ours.join(ours.say(two), ours.settings, ours.tokens))


def _said(kind: str, network: nn.Module, tokens: Tensor) -> Tensor:
    """All that an encoder says, each scaled to its largest, in one row per prompt."""
    found = encoded(kind, network, tokens)
    parts = [v.flatten(1) for v in (found.last, found.before, found.pooled) if v is not None]
    return torch.cat([v / v.abs().max().clamp(min=1e-6) for v in parts], dim=1)


def refuse_other_tokens(words: Words, tokenizer: Any, vocabulary: int, positions: int) -> None:
    """Compare the tokens of prompts of different lengths, added tokens among them, as the pipeline pads them.

    tokenizer:  of transformers, as the pipeline has it
    vocabulary, positions: that the text encoder knows
    Raises CallError where they differ, and where the text encoder does not know them.
    """
    if len(tokenizer) > vocabulary:
        raise CallError(
            f"the pipeline's tokenizer has {len(tokenizer)} tokens, its text encoder knows {vocabulary}: "
            "tokens were added to the one and not to the other"
        )
    length = words.length or int(tokenizer.model_max_length)
    if length > positions:
        raise CallError(
            f"the pipeline's tokenizer fills prompts up to model_max_length = {length}, "
            f"its text encoder reads {positions}; set it in tokenizer_config.json"
        )
    added = [str(token) for token in getattr(tokenizer, "added_tokens_encoder", {})]
    for prompt in (*_PROMPTS, *(f"a {token} b" for token in added)):
        options = {"padding": "max_length", "max_length": length}
        wanted = np.array(tokenizer(prompt, **options)["input_ids"])
        if len(wanted) > length:
            continue  # refused where it is asked
        found = tokenize((words,), prompt)
        if not np.array_equal(found, wanted):
            raise CallError(
                f"the pipeline's tokenizer cuts {prompt!r} into {wanted.tolist()}, its files into "
                f"{found.tolist()}: a setting made by hand, or a file that is not known, would be lost"
            )


def _fits(model: AdaptedPipeline, prompt: str) -> bool:
    try:
        tokenize(model.config.words, prompt)
    except CallError:
        return False
    return True


def _prepared(network: nn.Module) -> Any:
    made = in_float32(network, {})
    return made if not made.training else in_float32(network, {}, copied=True).eval()


def _same(name: str, theirs: Callable[[], Tensor], ours: Callable[[], Tensor]) -> Tensor:
    try:
        wanted = theirs()
    except Exception as error:  # whatever the library raises
        raise CallError(
            f"the pipeline's '{name}' cannot be run in float32 by its own library, to compare with: "
            f"{first_line(error)}"
        ) from error
    found = ours()
    scale = max(float(wanted.abs().max()), 1e-6)
    apart = float((found - wanted).abs().max()) / scale if found.shape == wanted.shape else float("inf")
    if not apart <= _CLOSE:  # NaN is not close either
        raise CallError(
            f"the pipeline's '{name}' computes something else here than in its own library: its outputs "
            f"differ by {apart:.2g} of the largest; something was changed that its configuration does not say"
        )
    return found
