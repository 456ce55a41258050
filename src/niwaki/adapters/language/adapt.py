"""From a folder, a name on the hub or a `transformers` model to a model of niwaki, checked on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.adapters.language import attention
from niwaki.adapters.language.files import load_network, package, quiet, tokenizer_of
from niwaki.adapters.language.model import LanguageConfig, LanguageModel
from niwaki.adapters.language.plain import plain_layers
from niwaki.core.backend import TorchBackend
from niwaki.core.contract import CallError, DataSpec, NiwakiError, first_line
from niwaki_runtime.samplers.autoregressive import teacher_forced

__all__ = ["adapt_language_model", "rebuild"]

_CONTEXT = 256  # tokens of a sample where nobody says more
_CLOSE = 1e-3  # of the largest logit: what two orders of the same sums may differ by
_DROPPED = (
    "auto_map",
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "quantization_config",
)


def adapt_language_model(
    source: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    length: int | None = None,
    prompt: int | None = None,
    first: int | None = None,
    stop: int | None = None,
    stride: int | None = None,
) -> LanguageModel:
    """Make a model of niwaki out of a causal language model of `transformers`.

    source:    a folder with `config.json` and safetensors, a name on the hub, or such a model itself, which
               is taken over (its attention and the layers that torch has, too, are exchanged)
    tokenizer: a `tokenizer.json`, its text, or a tokenizer of `tokenizers` or `transformers`; None takes the
               one that lies in the folder
    length:    tokens of one sample, its prompt included; None is the model's context, 256 at most
    prompt:    tokens of the longest prompt; None is half the length, 0 takes no prompts
    first:     the token before the first one; None is the model's token of beginning, else that of the end
    stop:      the token that ends a sample; None is the model's, −1 lets every sample have its full length
    stride:    tokens of a prompt that are read at once; None is 32, or the next smaller divisor of the length
    Raises CallError where the source is none, holds pickled weights or wants code of its own, where an
    argument does not fit, or where the network does not compute with this cache what it computes without;
    NiwakiError for what cannot be had or read.

    >>> model = adapt_language_model("models/SmolLM-135M", length=128)  # doctest: +SKIP
    >>> tokens = model.sample(4, seed=0, temperature=0.8)  # doctest: +SKIP
    """
    transformers = package("transformers")
    network = source if isinstance(source, nn.Module) else load_network(str(source))
    if not isinstance(network, transformers.PreTrainedModel):
        raise CallError(f"a {type(network).__name__} is no language model of transformers; use niwaki.adapt")
    if getattr(network.config, "is_encoder_decoder", False) or not network.can_generate():
        raise CallError(f"a {type(network).__name__} is no causal language model: it cannot continue a text")
    settings = network.config
    levels = int(network.get_output_embeddings().weight.shape[0])
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
    text = tokenizer_of(source if tokenizer is None else tokenizer)
    config = LanguageConfig(
        network=_plain(settings),
        length=length,
        first=_token(network, ("bos_token_id", "eos_token_id"), levels, "first", first),
        stop=_token(network, ("eos_token_id",), levels, "stop", stop, absent=-1),
        prompt=prompt,
        stride=stride,
        tokenizer=len(text.encode()),
    )
    network = network.float().eval()
    x = torch.randint(levels, (1, length), generator=torch.Generator().manual_seed(0))
    expected = _logits(network, x, config.first)
    model = LanguageModel(
        _ours(network), config, DataSpec.of("text", (length,), levels=levels), text.encode()
    )
    _check(model.eval(), x, expected)
    return model


def rebuild(config: Mapping[str, Any], spec: DataSpec) -> LanguageModel:
    """The language model that `model.json` describes, with fresh weights. No file of its author is read."""
    transformers = package("transformers")
    checked = LanguageConfig.model_validate(dict(config))
    record = dict(checked.network)
    kind = record.pop("model_type")
    try:
        with quiet(transformers):
            settings = transformers.AutoConfig.for_model(kind, **record)
            network = transformers.AutoModelForCausalLM.from_config(settings, trust_remote_code=False)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NiwakiError(
            f"the installed transformers does not build a '{kind}' language model: {first_line(error)}"
        ) from error
    return LanguageModel(_ours(network.float()), checked, spec)


def _plain(settings: Any) -> dict[str, Any]:
    """A configuration as JSON, without what belongs to a place or a program."""
    record = json.loads(json.dumps(settings.to_dict(), default=str))
    return {k: v for k, v in record.items() if k not in _DROPPED}


def _token(
    network: Any, names: tuple[str, ...], levels: int, what: str, given: int | None, absent: int | None = None
) -> int:
    """The number of a token: the one given, or the first that the model names."""
    found: Any = given
    for name in names if given is None else ():
        found = getattr(network.config, name, None)
        found = found[0] if isinstance(found, list) and found else found
        if isinstance(found, int) and 0 <= found < levels:
            break
        found = None
    if found is None:
        found = absent
    if found is None:
        raise CallError(f"the model does not say which token stands before the first one; give {what}=…")
    if found != absent and not 0 <= found < levels:
        raise CallError(f"{what} must be a token of the model, 0 … {levels - 1}, not {found}")
    return int(found)


def _ours(network: Any) -> nn.Module:
    """The network with our attention and plain layers, in eval mode."""
    transformers = package("transformers")
    attention.register(transformers)
    plain_layers(network)
    if not getattr(network, "_supports_attention_backend", False):
        raise _unfit(network, "it has an attention of its own, which cannot be exchanged")
    with quiet(transformers):
        network.set_attn_implementation(attention.NAME)
    return network.eval()


@torch.no_grad()
def _logits(network: nn.Module, x: Tensor, first: int) -> Tensor:
    """What the network itself says, as it came."""
    device = next(network.parameters()).device
    fed = torch.cat([torch.full((1, 1), first), x[:, :-1]], dim=1).to(device)
    logits: Tensor = network(input_ids=fed, use_cache=False).logits
    return logits


@torch.no_grad()
def _check(model: LanguageModel, x: Tensor, expected: Tensor) -> None:
    """Does the network compute with our cache what it computed as it came? By strides and token by token."""
    sampler, backend = model.sampler(), TorchBackend(expected.device)
    scale = max(1.0, float(expected.abs().max()))
    try:
        graphs = model.graphs()
        whole = teacher_forced(graphs, sampler, x.numpy(), backend)
        single = teacher_forced(graphs, replace(sampler, prefill=""), x[:, :3].numpy(), backend)
    except CallError:
        raise
    except Exception as error:  # whatever its author's code raises when it is called in another way
        raise _unfit(model.network, first_line(error)) from error
    wanted = expected.float().cpu().numpy()
    worst = max(abs(whole - wanted).max(), abs(single - wanted[:, : single.shape[1]]).max()) / scale
    if not worst <= _CLOSE:  # NaN is not close either
        raise _unfit(model.network, f"its logits then differ by {worst:.2g} of the largest")


def _unfit(network: nn.Module, reason: str) -> CallError:
    return CallError(f"{type(network).__name__} cannot be run with a cache of fixed length: {reason}")
