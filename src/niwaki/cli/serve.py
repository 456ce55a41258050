"""`niwaki serve`"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from niwaki.cli.common import adder

__all__ = ["enter"]


@adder(
    "niwaki serve runs/digits-gan/digits-gan.niwaki",
    "Answer requests with bundles, over HTTP: pictures, texts, sounds, any program.",
)
def serve(
    bundles: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE|NAME=BUNDLE",
            help="Bundles; also NAME=BUNDLE,engine=onnxruntime. Who names none gets the first.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Which address of this machine; others see it beyond 127.0.0.1.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keys, one a line, one of which callers bring; also NIWAKI_API_KEYS."
        ),
    ] = None,
    unlocked: Annotated[
        bool, typer.Option("--unlocked", help="Other machines may call without keys.")
    ] = False,
    engine: Annotated[str, typer.Option(help="auto, openvino or onnxruntime")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each model's engine.")] = None,
    precision: Annotated[str, typer.Option(help="fast, or exact (float32)")] = "fast",
    batch: Annotated[int, typer.Option(min=1, help="Samples made at once at most.")] = 16,
    wait: Annotated[float, typer.Option(min=0, help="Milliseconds that a batch waits for companions.")] = 2.0,
    warm: Annotated[float, typer.Option(min=0, help="Seconds for the first batches of a model.")] = 30.0,
    watch: Annotated[
        float, typer.Option(min=0, help="Seconds between looks whether a bundle was replaced; 0: never.")
    ] = 2.0,
    samples: Annotated[int, typer.Option(min=1, help="Of one request at most.")] = 64,
    evaluations: Annotated[int, typer.Option(min=1, help="Of the networks for one sample at most.")] = 4096,
    body: Annotated[str, typer.Option(help="Bytes of a request at most.")] = "8MiB",
    queue: Annotated[int, typer.Option(min=1, help="Samples that may wait for a model; beyond: 429.")] = 256,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 120.0,
    filter: Annotated[
        str | None,
        typer.Option(metavar="FILTER", help="Looks at every sample; also FILTER,threshold=0.9."),
    ] = None,
    filter_action: Annotated[
        str, typer.Option("--filter-action", help="withhold, or mark: answer all, with their scores.")
    ] = "withhold",
    grace: Annotated[float, typer.Option(min=0, help="Seconds for running requests after a signal.")] = 30.0,
    ab: Annotated[
        str | None,
        typer.Option("--ab", metavar="A:B:SHARE", help="A trial: which share of users is given B."),
    ] = None,
    ab_log: Annotated[
        Path, typer.Option("--ab-log", metavar="FILE", help="Requests and outcomes of the trial.")
    ] = Path("ab.jsonl"),
    ab_margin: Annotated[
        float, typer.Option("--ab-margin", help="Difference that counts as none in the trial.")
    ] = 0.0,
    ab_level: Annotated[
        float, typer.Option("--ab-level", help="Chance that the trial's bounds ever miss the difference.")
    ] = 0.05,
    ab_slow: Annotated[
        float, typer.Option("--ab-slow", help="Seconds beyond which an answer counts as slow.")
    ] = 1.0,
    watermark: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Mark pictures, sounds and texts by this key (niwaki detect)."),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="CERTIFICATE", help="Sign files by the certificate in this folder (C2PA, niwaki detect)."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line for every request.")] = False,
) -> None:
    from niwaki.api.serve import serve
    from niwaki.modalities.signing import certificate_for
    from niwaki.serving.keys import read_keys
    from niwaki_runtime.choice import memory_bytes
    from niwaki_runtime.watermark import Watermark, read_key

    _log(verbose)
    serve(
        bundles, engine=engine, host=host, port=port, keys=read_keys(keys), unlocked=unlocked,
        threads=threads, precision=precision, batch=batch, wait=wait / 1000, warm=warm, watch=watch,
        grace=grace, ab=ab, ab_log=ab_log,
        ab_settings={"margin": ab_margin, "level": ab_level, "slow": ab_slow},
        watermark=None if watermark is None else Watermark(read_key(watermark)),
        certificate=certificate_for(sign, ()),
        filter=filter, action=filter_action,
        limits={
            "samples": samples, "evaluations": evaluations, "body": memory_bytes(body), "queue": queue,
            "seconds": timeout,
        },
        told=lambda address: _say(f"{address} answers; Ctrl-C ends it"),
    )  # fmt: skip


def _log(verbose: bool) -> None:
    """What happens, a line each, on stderr."""
    log = logging.getLogger("niwaki.serving")
    log.setLevel(logging.DEBUG if verbose or os.environ.get("NIWAKI_DEBUG") else logging.INFO)
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


enter = serve
