"""A run of a program, divided among processes by whole batches.

Sample i follows from the seed and i alone, and a network's rounding from how many samples it sees at once. So
each process takes some of the batches that one process would make, and all samples have the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import NiwakiError, Program, Runner, first_line
from niwaki.workflow.sharing.messages import Channel
from niwaki_runtime.programs import check_numbers
from niwaki_runtime.specs import resolve

__all__ = ["divided", "serve", "share_of", "stop_serving"]


def share_of(rank: int, world: int, n: int, size: int) -> range:
    """The samples that a process makes: whole batches of `size`, the last one as long as it is."""
    batches = -(-n // size)
    return range(batches * rank // world * size, min(n, batches * (rank + 1) // world * size))


def divided(runner: Runner, world: int, channel: Channel) -> Callable[..., Any]:
    """`runner.run` among `world` processes, of which this is the first and the others `serve`."""
    alone = runner.run

    def run(
        program: str | Program,
        n: int,
        *,
        seed: int = 0,
        inputs: Any = None,
        start: int = 0,
        batch: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> Any:
        check_numbers(n, start, seed, batch)
        asked = program if isinstance(program, Program) else runner.program(program)
        here: dict[str, Any] = {"seed": seed, "start": start, "batch": batch}
        size = runner.batch_size(n, batch)
        if n <= size or not _is_plain(options):
            return alone(program, n, inputs=inputs, progress=progress, **here, **options)
        rows = resolve(asked.inputs, _host(inputs), start, n)
        shares = [share_of(rank, world, n, size) for rank in range(world)]
        name = program if isinstance(program, str) else None
        for rank, share in enumerate(shares[1:], 1):
            about = {
                "program": name or asked.to_json(), "n": len(share), "seed": seed,
                "start": start + share.start, "batch": size, "options": options, **_arithmetic(),
            }  # fmt: skip
            channel.send(rank, about, {k: v[share.start : share.stop] for k, v in rows.items()})
        own, backend = shares[0], runner.backend()
        parts = [np.asarray(backend.numpy(_made(
            alone, runner, asked, {k: v[own.start : own.stop] for k, v in rows.items()}, len(own), size,
            seed=seed, start=start, progress=progress and _scaled(progress, n), **options,
        )))]  # fmt: skip
        for rank in range(1, world):
            about, arrays = channel.receive(rank)
            if "error" in about:
                raise NiwakiError(f"process {rank} of {world} failed: {about['error']}")
            parts.append(arrays["made"])
        if progress:
            progress(n, n)
        return backend.asarray(np.concatenate([p for p in parts if len(p)]))

    return run


def serve(runner: Runner, channel: Channel) -> None:
    """Make what the first process asks for, until it has enough."""
    while True:
        about, rows = channel.receive(0)
        if not about:
            return
        try:
            torch.set_num_threads(about["threads"])
            torch.set_float32_matmul_precision(about["matmul"])
            torch.backends.cudnn.allow_tf32 = about["tf32"]
            given = about["program"]
            program = runner.program(given) if isinstance(given, str) else Program.from_json(given)
            made = _made(
                runner.run, runner, program, rows, about["n"], about["batch"],
                seed=about["seed"], start=about["start"], **about["options"],
            )  # fmt: skip
            channel.send(0, {"n": about["n"]}, {"made": np.asarray(runner.backend().numpy(made))})
        except Exception as error:  # the first process says it
            channel.send(0, {"error": first_line(error) or type(error).__name__})


def stop_serving(world: int, channel: Channel) -> None:
    """Tell the other processes that it was all."""
    for rank in range(1, world):
        channel.send(rank, {})


def _made(
    run: Callable[..., Any],
    runner: Runner,
    program: Program,
    rows: Mapping[str, np.ndarray],
    n: int,
    size: int,
    **options: Any,
) -> Any:
    """n samples in batches of `size`; where these are even, the last one is filled up and cut off."""
    whole = -(-n // size) * size if runner.even_batches else n
    more = whole - n
    filled = {k: np.concatenate([v, np.repeat(v[-1:], more, axis=0)]) if more else v for k, v in rows.items()}
    return run(program, whole, inputs=filled, batch=size, **options)[:n]


def _arithmetic() -> dict[str, Any]:
    """What rounding depends on: all processes compute alike."""
    tf32 = bool(torch.backends.cudnn.allow_tf32)
    return {
        "threads": torch.get_num_threads(), "matmul": torch.get_float32_matmul_precision(), "tf32": tf32,
    }  # fmt: skip


def _is_plain(options: Mapping[str, Any]) -> bool:
    """Whether options can be said in JSON; functions cannot, and then one process works alone."""
    try:
        return bool(json.loads(json.dumps(dict(options))) == dict(options))
    except (TypeError, ValueError):
        return False


def _host(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _host(value) for name, value in inputs.items()}
    return np.asarray(inputs.detach().cpu()) if isinstance(inputs, torch.Tensor) else inputs


def _scaled(progress: Callable[[int, int], None], n: int) -> Callable[[int, int], None]:
    """The first process's own progress as that of all."""
    return lambda done, of: progress(done * n // max(of, 1), n)
