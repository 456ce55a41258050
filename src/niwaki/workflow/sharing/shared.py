"""Several processes that have the same model: the first asks, the others serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from niwaki.core.contract import CallError, NiwakiError, Runner
from niwaki.training.launching import join_group, processes, unseen
from niwaki.training.roll_call import is_broken
from niwaki.workflow.sharing.division import divided, serve, stop_serving
from niwaki.workflow.sharing.messages import Channel
from niwaki.workflow.subjects.subject import open_subject
from niwaki.workflow.workers import helpers, place_among_processes

__all__ = ["serve_along", "serve_where_not_first", "shared"]


@contextmanager
def shared(runner: Runner, what: Any, devices: int, **opening: Any) -> Iterator[None]:
    """Inside the block, `runner.run` is divided among processes: so many, or those that `torchrun` or SLURM
    has started.

    what, opening: how the others open the same model (`open_subject`)
    Raises CallError for a model in memory; NiwakiError where a process fails.
    """
    devices = processes() if processes() > 1 else devices
    if devices == 1:
        yield
        return
    words = json.dumps({"what": named(what), "devices": devices, "opening": opening}, default=str)
    with helpers(["niwaki.workflow.sharing.worker", words], devices, "sampling"):
        channel = Channel(join_group(devices)[1])
        runner.run = divided(runner, devices, channel)  # type: ignore[method-assign]
        try:
            with unseen():
                yield
                stop_serving(devices, channel)
        except RuntimeError as error:
            if not is_broken(error):
                raise
            raise NiwakiError(f"one of the {devices} processes that share the samples is gone") from error
        finally:
            del runner.run


def serve_where_not_first(what: Any, **opening: Any) -> None:
    """In the first process, and in one that is alone, nothing. In others that `torchrun` or SLURM has
    started: serve the first one, and leave: SystemExit."""
    if place_among_processes() == 0:
        return
    serve_along(named(what), processes(), opening)
    raise SystemExit(0)


def serve_along(what: str, devices: int, opening: dict[str, Any], ready: Any = None) -> None:
    """Open the same model as the first process, and make what it asks for.

    ready: called when the model is there, before the others are waited for
    """
    runner = open_subject(what, **opening).runner
    if runner is None:
        raise CallError(f"{what} holds samples already; give a run, a model or a bundle")
    if ready is not None:
        ready()
    place, members = join_group(devices)
    if isinstance(runner, torch.nn.Module) and next(runner.parameters()).device.type == "cuda":
        runner.to(f"cuda:{place % torch.cuda.device_count()}")
    try:
        serve(runner, Channel(members))
    except RuntimeError as error:
        if not is_broken(error):
            raise
        raise NiwakiError("the process that shares its samples is gone") from error


def named(what: Any) -> str:
    """Raises CallError for what other processes cannot open."""
    if not isinstance(what, str | Path):
        raise CallError(
            "a model in memory cannot be handed to other processes; give the path of a run, a model or a "
            "bundle, or leave devices out"
        )
    return str(what)
