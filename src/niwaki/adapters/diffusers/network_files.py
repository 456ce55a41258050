"""One network of a pipeline's folder: built by its own class, its weights read from safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from niwaki.adapters.diffusers.config import NETWORKS
from niwaki.adapters.diffusers.lost import refuse_unknown
from niwaki.adapters.diffusers.quiet import quiet
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.hub_folder import PICKLES
from niwaki.core.store import read_json
from niwaki.core.weights import refuse_adapters, refuse_quantized, stored_types

__all__ = ["read_network"]


def read_network(directory: Path, kind: str, pipeline: str) -> nn.Module:
    """A network with its weights, float32.

    directory: with its config.json
    kind:      its class, one of `NETWORKS`
    pipeline:  class of the pipeline that it is part of
    Raises CallError for pickled weights and settings that would be lost, NiwakiError for weights that do not
    fit.
    """
    variant = _variant(directory)
    refuse_unknown(pipeline, directory.name, kind, read_json(directory / "config.json"))
    try:
        types = stored_types(sorted(directory.glob("*.safetensors")))
    except NiwakiError:
        types = {}  # a damaged file is named below
    refuse_adapters(types, directory)
    refuse_quantized({}, types, directory)
    keywords: dict[str, Any] = {
        "use_safetensors": True,
        "local_files_only": True,
        "output_loading_info": True,
        "variant": variant,
    }
    try:
        with quiet():
            import diffusers

            if NETWORKS[kind] == "transformers":
                import transformers

                loaded: Any = getattr(transformers, kind).from_pretrained(
                    directory, dtype=torch.float32, **keywords
                )
            else:
                loaded = getattr(diffusers, kind).from_pretrained(
                    directory, torch_dtype=torch.float32, low_cpu_mem_usage=False, **keywords
                )
        network, info = loaded
    except ImportError as error:
        raise NiwakiError(
            f"pipelines need diffusers and transformers: pip install niwaki[hub] ({error})"
        ) from error
    except Exception as error:  # files of others fail in any way they like
        text = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
        raise NiwakiError(f"{directory} cannot be read: {text[:300]}") from error
    for problem, wrong in (("lacks", "missing_keys"), ("has no place for", "unexpected_keys")):
        found = sorted(k for k in info.get(wrong) or () if not k.endswith("position_ids"))
        if found:
            subject = directory if problem == "lacks" else f"the network '{kind}' of {directory}"
            raise NiwakiError(f"{subject} {problem} the weights '{found[0]}'")
    misfit = sorted(map(str, info.get("mismatched_keys") or ()))
    if misfit:
        raise NiwakiError(f"{directory} holds weights that do not fit its config: {misfit[0]}")
    return network.eval()


def _variant(directory: Path) -> str | None:
    """Which of the weights is read: the plain ones before those of half precision."""
    pipeline = directory.parent
    names = [p.name for p in directory.iterdir()] if directory.is_dir() else []
    safe = [n for n in names if n.endswith((".safetensors", ".safetensors.index.json"))]
    if not safe:
        pickles = sorted(n for n in names if n.endswith((*PICKLES, ".msgpack")))
        if not pickles:
            raise CallError(f"{directory} holds no weights")
        raise CallError(
            f"{directory / pickles[0]} is a pickle, which can run any code when it is read; if you trust it, "
            'convert it: python -c "from diffusers import DiffusionPipeline as P; '
            f"P.from_pretrained('{pipeline}').save_pretrained('{pipeline.name}-safe')\""
        )
    if any(".fp16." in n for n in safe) and all(".fp16." in n for n in safe):
        return "fp16"
    return None
