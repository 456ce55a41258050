"""Weights that a stage starts from: out of a model directory, a checkpoint, or a run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from niwaki.core.store import read_tensors
from niwaki.training.checkpoint import latest, read_checkpoint
from niwaki.training.stages import under
from niwaki_runtime.errors import NiwakiError, nearest

__all__ = ["init_from", "stored_weights"]


def stored_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Of a checkpoint the averaged weights, where it has any: they are what was trained for.

    path: a safetensors file, a directory with `model.safetensors`, a checkpoint, a directory of
          checkpoints, or a run directory (its `model/`, else its newest checkpoint)
    Raises NiwakiError where nothing of that is there, or it is broken.
    """
    if path.is_file():
        return read_tensors(path)
    for candidate in (path / "model.safetensors", path / "model" / "model.safetensors"):
        if candidate.exists():
            return read_tensors(candidate)
    if (path / "state.json").exists():
        checkpoint = read_checkpoint(path)
    else:
        found, _ = latest(path / "checkpoints")
        found = found or latest(path)[0]
        if found is None:
            raise NiwakiError(f"{path} holds neither model.safetensors nor a checkpoint to take weights from")
        checkpoint = found
    return {**checkpoint.part("model"), **checkpoint.part("ema")}


@torch.no_grad()
def init_from(model: nn.Module, path: Path, only: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Copy stored weights into `model`; returns the names of those that were set.

    only: names of modules (or tensors); just these are set, and all of them must be stored. Without it, all
          that is stored must have a place in the model.
    Raises NiwakiError naming the first tensor that is missing, has no place, or another shape.
    """
    stored = stored_weights(path)
    own = {n: t for n, t in model.state_dict().items() if isinstance(t, Tensor)}
    wanted = [n for n in own if under(n, only)] if only else list(stored)
    if not wanted:
        raise NiwakiError(f"the model has no weights under {', '.join(only)}; {nearest(only[0], own)}")
    for name in wanted:
        if name not in own:
            raise NiwakiError(
                f"{path} holds '{name}', which the model does not have; name what to take in init_only"
            )
        if name not in stored:
            raise NiwakiError(f"{path} lacks '{name}'; {nearest(name, stored)}")
        if stored[name].shape != own[name].shape:
            there, here = tuple(stored[name].shape), tuple(own[name].shape)
            raise NiwakiError(f"'{name}' has the shape {there} in {path} but {here} in the model")
        own[name].copy_(stored[name])
    return tuple(wanted)
