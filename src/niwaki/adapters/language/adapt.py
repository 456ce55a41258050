"""From a folder, a name on the hub or a `transformers` model to a model of niwaki, checked on the way."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from niwaki.adapters.language import attention
from niwaki.adapters.language.compare import (
    expected_logits,
    refuse_other_logits,
    tried_rows,
)
from niwaki.adapters.language.files import load_network, package, quiet
from niwaki.adapters.language.generation import Generation, generation_of
from niwaki.adapters.language.model import LanguageConfig, LanguageModel
from niwaki.adapters.language.plain import plain_layers
from niwaki.adapters.language.tokens import Words, read_words
from niwaki.adapters.same import in_float32, refuse_changed, unsaved_buffers
from niwaki.core.contract import CallError, DataSpec, NiwakiError, first_line
from niwaki.core.weights import matched, refuse_adapters, refuse_quantized

__all__ = ["adapt_language_model", "rebuild"]

_CONTEXT = 256  # tokens of a sample where nobody says more
_DROPPED = (
    "auto_map",
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "_attn_implementation",
    "attn_implementation",
    "output_hidden_states",
    "output_attentions",
    "return_dict",
    "torchscript",
)
"""Of a configuration: what belongs to a place, a program or the form of an answer."""


def adapt_language_model(
    source: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    length: int | None = None,
    prompt: int | None = None,
    first: int | None = None,
    stop: int | Sequence[int] | None = None,
    stride: int | None = None,
    ignore: Collection[str] = (),
) -> LanguageModel:
    """Make a model of niwaki out of a causal language model of `transformers`.

    source:    a folder with `config.json` and safetensors, a name on the hub, or such a model itself, which
               stays as it is
    tokenizer: a `tokenizer.json`, its text, or a tokenizer of `tokenizers` or `transformers`; None takes the
               one that lies in the folder
    length:    tokens of one sample, its prompt included; None is the model's context, 256 at most
    prompt:    tokens of the longest prompt; None is half the length, 0 takes no prompts
    first:     the token before the first one; None is the one that the tokenizer puts before a text. Where it
               puts none, prompts stand alone, and the model's token of beginning, else that of the end,
               begins samples without a prompt
    stop:      the tokens that end a sample; None is those of the model's generation settings, −1 lets every
               sample have its full length
    stride:    tokens of a prompt that are read at once; None is 32, or the next smaller divisor of the length
    ignore:    generation settings without a counterpart that may be left out
    The network is built again from its configuration and compared once, in float32, with the one that was
    given, as transformers runs that: prompts of three lengths in one masked batch, tokens with a meaning and
    added ones among them.
    Raises CallError where the source is none, holds pickled or quantized weights or wants code of its own,
    where an argument does not fit, for a setting that is lost, and where the logits differ; NiwakiError for
    what cannot be had or read, and for weights that are missing or have no place.

    >>> model = adapt_language_model("models/SmolLM-135M", length=128)  # doctest: +SKIP
    >>> tokens = model.sample(4, seed=0, temperature=0.8)  # doctest: +SKIP
    """
    network: Any = source if isinstance(source, nn.Module) else load_network(str(source))
    _refuse_other_kinds(network)
    levels = _levels(network)
    length, prompt, stride = _lengths(network.config, length, prompt, stride)
    words = read_words(source if tokenizer is None else tokenizer)
    _refuse_other_tokens(words, network, levels)
    settings = generation_of(network, levels, ignore)
    stops = _stops(settings, stop, levels)
    config = LanguageConfig(
        network=_plain(network.config),
        length=length,
        first=_first(settings, words, first, levels),
        stop=stops[0] if stops else -1,
        stops=stops[1:],
        alone=first is None and bool(words.text) and not words.before,
        prompt=prompt,
        stride=stride,
        tokenizer=len(words.text.encode()),
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
    )
    fresh, reference = _built_again(network, config)
    meanings = [config.first, *stops, getattr(network.config, "pad_token_id", None) or 0]
    rows = tried_rows(levels, length, meanings)
    expected = expected_logits(reference, rows)
    spec = DataSpec.of("text", (length,), levels=levels)
    model = LanguageModel(_ours(fresh), config, spec, words.text.encode()).eval()
    refuse_other_logits(model, rows, expected)
    return model


def rebuild(config: Mapping[str, Any], spec: DataSpec) -> LanguageModel:
    """The language model that `model.json` describes, with fresh weights. No file of its author is read."""
    checked = LanguageConfig.model_validate(dict(config))
    return LanguageModel(_ours(_fresh(checked.network)), checked, spec)


def _fresh(described: Mapping[str, Any]) -> Any:
    """The network of transformers that a configuration describes, with fresh weights, in float32."""
    transformers = package("transformers")
    record = dict(described)
    kind = record.pop("model_type")
    try:
        with quiet(transformers):
            settings = transformers.AutoConfig.for_model(kind, **record)
            network = transformers.AutoModelForCausalLM.from_config(
                settings, trust_remote_code=False, dtype=torch.float32
            )
    except Exception as error:  # a configuration may fail in any way
        raise NiwakiError(
            f"the installed transformers does not build a '{kind}' language model: {first_line(error)}"
        ) from error
    return network.float()


def _built_again(network: Any, config: LanguageConfig) -> tuple[nn.Module, nn.Module]:
    """The network as it is built from its configuration, with the weights given; and the given one.

    Raises CallError for what was changed by hand and would be lost, NiwakiError for weights without a place.
    """
    name = f"the {type(network).__name__}"
    fresh = _fresh(config.network)
    if type(fresh) is not type(network):
        raise CallError(f"{name} is built again as a {type(fresh).__name__}; use niwaki.adapt")
    weights = {k: v.detach() for k, v in network.state_dict().items()}
    refuse_adapters(weights, name)
    weights = matched(fresh.state_dict(), weights, name)
    refuse_changed(network, fresh, name, config.network)
    buffers = unsaved_buffers(network, fresh, name)
    fresh.load_state_dict(weights)
    fresh.to(next(network.parameters()).device)
    return fresh, in_float32(network, buffers)


def _refuse_other_kinds(network: nn.Module) -> None:
    transformers = package("transformers")
    if not isinstance(network, transformers.PreTrainedModel):
        refuse_adapters(network.state_dict(), f"the {type(network).__name__}")
        raise CallError(f"a {type(network).__name__} is no language model of transformers; use niwaki.adapt")
    if getattr(network.config, "is_encoder_decoder", False) or not network.can_generate():
        raise CallError(f"a {type(network).__name__} is no causal language model: it cannot continue a text")
    record = network.config.to_dict()
    refuse_quantized(record, {}, f"the {type(network).__name__}")


def _levels(network: Any) -> int:
    """How many tokens the network says. Raises CallError where it does not end in a layer for them."""
    last = network.get_output_embeddings()
    if not isinstance(getattr(last, "weight", None), torch.Tensor):
        raise CallError(f"a {type(network).__name__} has no last layer with a row for every token")
    return int(last.weight.shape[0])


def _refuse_other_tokens(words: Words, network: nn.Module, levels: int) -> None:
    """Raises CallError where the tokenizer has tokens that the network does not know, or ends every text."""
    if words.highest >= levels:
        raise CallError(
            f"the tokenizer has tokens up to number {words.highest}, the {type(network).__name__} knows "
            f"{levels}: tokens were added to the one and not to the other; give the tokenizer of this model"
        )
    if words.after:
        raise CallError(
            f"the tokenizer puts the tokens {list(words.after)} behind every text, so that no prompt could "
            "be continued; switch it off (its post_processor)"
        )


def _lengths(
    settings: Any, length: int | None, prompt: int | None, stride: int | None
) -> tuple[int, int, int]:
    """Length, longest prompt and stride, as given or by default. Raises CallError for what does not fit."""
    context = int(getattr(settings, "max_position_embeddings", None) or _CONTEXT)
    length = min(context, _CONTEXT) if length is None else length
    if not 1 <= length <= context:
        raise CallError(f"length must lie in 1 … {context}, the model's context, not {length}")
    stride = stride or next(s for s in range(min(32, length), 0, -1) if length % s == 0)
    if not 1 <= stride <= length or length % stride:
        raise CallError(f"stride must divide the length {length}, not be {stride}")
    prompt = length // 2 if prompt is None else prompt
    if not 0 <= prompt <= length:
        raise CallError(f"prompt must lie in 0 … {length}, the length, not {prompt}")
    return length, prompt, stride


def _plain(settings: Any) -> dict[str, Any]:
    """A configuration as JSON, without what belongs to a place or a program."""
    record = json.loads(json.dumps(settings.to_dict(), default=str))
    return {k: v for k, v in record.items() if k not in _DROPPED}


def _first(settings: Generation, words: Words, given: int | None, levels: int) -> int:
    """The token before the first one. Raises CallError where none is known, or more than one."""
    if given is not None:
        _refuse_token("first", given, levels)
        return given
    if len(words.before) > 1:
        raise CallError(
            f"the tokenizer puts {len(words.before)} tokens {list(words.before)} before every text; niwaki "
            "puts one: give first=…, and put the others into the prompts"
        )
    found = [*words.before, *settings.first]
    if not found:
        raise CallError("the model does not say which token stands before the first one; give first=…")
    return found[0]


def _stops(settings: Generation, given: int | Sequence[int] | None, levels: int) -> tuple[int, ...]:
    if given is None:
        return settings.stops
    if given == -1:
        return ()
    stops = (given,) if isinstance(given, int) else tuple(given)
    for token in stops:
        _refuse_token("stop", token, levels)
    return stops


def _refuse_token(what: str, token: Any, levels: int) -> None:
    if not isinstance(token, int) or not 0 <= token < levels:
        raise CallError(f"{what} must be a token of the model, 0 … {levels - 1}, not {token}")


def _ours(network: Any) -> nn.Module:
    """The network with our attention and plain layers, in eval mode."""
    transformers = package("transformers")
    attention.register(transformers)
    plain_layers(network)
    if not getattr(network, "_supports_attention_backend", False):
        raise CallError(
            f"{type(network).__name__} cannot be run with a cache of fixed length: it has an attention of "
            "its own, which cannot be exchanged"
        )
    with quiet(transformers):
        network.set_attn_implementation(attention.NAME)
    return network.eval()
