"""`niwaki serve` beside one sample at a time behind FastAPI, and beside LitServe: throughput and latency.

    python benchmarks/serve.py runs/digits-gan             # 1 … 64 clients, 10 s each, three rounds
    python benchmarks/serve.py runs/digits-gan --quick     # 1, 8 and 64 clients, 3 s each, one round

FastAPI and LitServe are installed by hand into an environment of their own, so that no tested version moves:

    python -m venv peers && peers/bin/pip install -c constraints.txt -e 'runtime[openvino]' -e '.[serve]'
    peers/bin/pip install fastapi litserve
    python benchmarks/serve.py runs/digits-gan --peers peers/bin/python

Ways: `niwaki` the bundle behind `niwaki serve`; `bundle` the same, one sample at a time behind FastAPI;
`torch` the run's model in torch there; `litserve` the same bundle behind LitServe in batches of up to 16.
Every client asks again as soon as it is answered; all are on this machine, and so take of its processors.
A row is one way under one number of clients in one round; rows are kept in benchmarks/results.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from rich.console import Console
from rich.table import Table
from serving_peers.clients import answer_of, ask_for

from niwaki.core.store import read_json, write_json
from niwaki.deployment import machine
from niwaki.workflow.run_directory import RunDirectory

KEPT = Path(__file__).parent / "results" / "serve.json"
BESIDE = Path(__file__).parent / "serving_peers"
CLIENTS, QUICK = (1, 2, 4, 8, 16, 32, 64), (1, 8, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="a run with a bundle, of a model that is asked for a class")
    parser.add_argument("--bundle", type=Path, help="another bundle than the run's own")
    parser.add_argument("--peers", type=Path, help="a Python that has fastapi and litserve")
    parser.add_argument("--ways", nargs="+", choices=("niwaki", "bundle", "torch", "litserve"))
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    clients = QUICK if options.quick else CLIENTS
    seconds = options.seconds or (3.0 if options.quick else 10.0)
    rounds = options.rounds or (1 if options.quick else 3)
    bundle = options.bundle or RunDirectory.open(options.run).bundle
    ways = options.ways or (("niwaki", "bundle", "torch", "litserve") if options.peers else ("niwaki",))
    rows = read_json(KEPT)["rows"] if KEPT.exists() else []
    for round_ in range(rounds):
        for way in ways[round_ % len(ways) :] + ways[: round_ % len(ways)]:  # nobody is always the first
            with _server(way, options.run, bundle, options.peers) as (address, path):
                for n in clients:
                    rows.append(_row(way, round_, address, path, n, seconds) | {"bundle": str(bundle)})
                    write_json(KEPT, {"machine": machine(), "rows": rows})
    _draw(rows, ways, clients, str(bundle))


def _row(way: str, round_: int, address: str, path: str, clients: int, seconds: float) -> dict[str, Any]:
    def body(k: int) -> dict[str, Any]:
        return {"class": k % 10, "seed": k}

    ask_for(address, path, body, clients, min(1.0, seconds / 3))  # what is prepared at first is not counted
    load = os.getloadavg()[0]
    found, took = ask_for(address, path, body, clients, seconds)
    p50, p99 = np.percentile(found, [50, 99])
    return {
        "way": way, "round": round_, "clients": clients, "requests": len(found), "seconds": took,
        "throughput": len(found) / took, "p50": p50, "p99": p99, "load_before": load,
    }  # fmt: skip


@contextmanager
def _server(way: str, run: Path, bundle: Path, peers: Path | None) -> Iterator[tuple[str, str]]:
    """A way as a process; its address and the path that makes a picture."""
    port = _free_port()
    python = str(sys.executable if way == "niwaki" else peers)
    call, path = {
        "niwaki": (["-m", "niwaki", "serve", str(bundle), "--port"], "/v1/images/generations"),
        "bundle": ([str(BESIDE / "one_at_a_time.py"), str(bundle)], "/predict"),
        "torch": ([str(BESIDE / "one_at_a_time.py"), str(run)], "/predict"),
        "litserve": ([str(BESIDE / "lit.py"), str(bundle)], "/predict"),
    }[way]
    process = subprocess.Popen([python, *call, str(port)], start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _await(address + ("/ready" if way == "niwaki" else "/health"), process)
        answer_of(address, path, {"class": 3, "seed": 0})
        yield address, path
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        try:
            with urlopen(address, timeout=5) as answered:
                if answered.status == 200:
                    return
        except OSError:
            pass
        if process.poll() is not None:
            raise SystemExit(f"the server of {address} has ended by itself")
        time.sleep(0.1)
    raise SystemExit(f"{address} did not answer within two minutes")


def _draw(rows: list[dict[str, Any]], ways: Sequence[str], clients: Sequence[int], bundle: str) -> None:
    """Medians over the rounds."""
    table = Table(box=None, padding=(0, 2, 0, 0), title="samples a second (p50, p99 in ms)")
    for title in ("way", *map(str, clients)):
        table.add_column(title, justify="right" if title != "way" else "left")
    for way in ways:
        cells = []
        for n in clients:
            own = [r for r in rows if (r["way"], r["clients"], r["bundle"]) == (way, n, bundle)]
            speed, p50, p99 = (float(np.median([r[k] for r in own])) for k in ("throughput", "p50", "p99"))
            cells.append(f"{speed:,.0f} ({1000 * p50:.1f}, {1000 * p99:.1f})")
        table.add_row(way, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
