"""One comparison of every network of a pipeline, and of its tokenizer, with the library's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.adapters.diffusers.pipeline import AdaptedPipeline
from niwaki.adapters.diffusers.tokens import tokenize
from niwaki.adapters.same import in_float32
from niwaki.core.contract import CallError, first_line

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
    asked: list[Tensor] = []
    if model.text is not None:
        prompts = [p for p in _PROMPTS if _fits(model, p)]
        tokens = torch.from_numpy(tokenize(model.config.tokenizer, prompts))
        text, own = _prepared(originals["text_encoder"]), model.text.network
        states = _same("text_encoder", lambda: text(input_ids=tokens)[0], lambda: own(input_ids=tokens)[0])
        asked = [states[torch.arange(2) % len(prompts)]]
    elif model.conditions:
        asked = [torch.tensor([0, 1]) % model.conditions["class"].size]
    name = model.config.denoiser
    network = _prepared(originals[name])
    key = "encoder_hidden_states" if model.text is not None else "class_labels"
    named = {key: asked[0]} if asked else {}
    _same(
        name,
        lambda: network(x, timestep=t, **named).sample[:, : x.shape[1]],
        lambda: model.denoiser(x, t, *asked),
    )
    if model.decoder is not None:
        vae: Any = _prepared(originals["vae"])
        decoder = model.decoder
        _same("vae", lambda: vae.decode(x / vae.config.scaling_factor).sample, lambda: decoder(x))


def refuse_other_tokens(files: Mapping[str, str], tokenizer: Any, vocabulary: int, positions: int) -> None:
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
    if int(tokenizer.model_max_length) > positions:
        raise CallError(
            f"the pipeline's tokenizer fills prompts up to model_max_length = {tokenizer.model_max_length}, "
            f"its text encoder reads {positions}; set it in tokenizer_config.json"
        )
    added = [str(token) for token in getattr(tokenizer, "added_tokens_encoder", {})]
    for prompt in (*_PROMPTS, *(f"a {token} b" for token in added)):
        options = {"padding": "max_length", "max_length": tokenizer.model_max_length}
        wanted = np.array(tokenizer(prompt, **options)["input_ids"])
        if len(wanted) > tokenizer.model_max_length:
            continue  # refused where it is asked
        found = tokenize(files, prompt)
        if not np.array_equal(found, wanted):
            raise CallError(
                f"the pipeline's tokenizer cuts {prompt!r} into {wanted.tolist()}, its files into "
                f"{found.tolist()}: a setting made by hand, or a file that is not known, would be lost"
            )


def _fits(model: AdaptedPipeline, prompt: str) -> bool:
    try:
        tokenize(model.config.tokenizer, prompt)
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
