"""Under pressure and over time: queues that are full, callers that go, bundles that are replaced, the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from serving.bundles import denoised, pictures

import niwaki_runtime
from niwaki.serving.sampling import Samples

KEY = "0123456789abcdef"


def _until(true: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def _asked_for(address: str) -> float:
    """Samples that wait or are made, as monitoring sees them."""
    text = httpx2.get(f"{address}/metrics").text
    names = ("niwaki_queued_samples", "niwaki_batch_samples_sum")
    return sum(float(text.partition(f'{name}{{model="a"}} ')[2].split()[0]) for name in names)


def _gate(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Batches wait for the second event, and set the first."""
    begun, gate, work = threading.Event(), threading.Event(), Samples.work

    def waiting(self: Samples, items: Any) -> Any:
        begun.set()
        assert gate.wait(60)
        return work(self, items)

    monkeypatch.setattr(Samples, "work", waiting)
    return begun, gate


def test_beyond_the_queue_callers_are_sent_away_and_told_when_to_come(
    serving: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serving([pictures(tmp_path / "a.niwaki")], batch=1, limits={"queue": 3})
    begun, gate = _gate(monkeypatch)
    with ThreadPoolExecutor(8) as pool:
        running = pool.submit(server.post, "/v1/run/sample", seed=0)
        assert begun.wait(30)
        waiting = [pool.submit(server.post, "/v1/run/sample", seed=k) for k in range(1, 4)]
        _until(lambda: next(iter(server.server.service.models)).queued == 3)
        refused = server.post("/v1/run/sample", seed=4)
        gate.set()
        answers = [one.result() for one in [running, *waiting]]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert [one.status_code for one in answers] == [200] * 4


def test_who_goes_away_is_not_worked_for(
    serving: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serving([pictures(tmp_path / "a.niwaki")], batch=1)
    model = next(iter(server.server.service.models))
    begun, gate = _gate(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.post, "/v1/run/sample", seed=0)
        assert begun.wait(30)
        with contextlib.suppress(httpx2.TimeoutException):
            httpx2.post(f"{server.server.address}/v1/run/sample", json={"n": 5}, timeout=0.2)
        _until(lambda: model.queued == 0)  # it had five
        gate.set()
        assert running.result().status_code == 200
    text = server.client.get("/metrics").text
    assert 'niwaki_batch_samples_sum{model="a"} 1.0' in text


def test_a_reader_that_goes_away_ends_the_text(serving: Callable[..., Any], tmp_path: Path) -> None:
    from serving.bundles import texts

    server = serving([texts(tmp_path / "a.niwaki")], batch=1)
    model = next(iter(server.server.service.models))
    given = {"prompt": "a", "stream": True, "n": 40}
    with httpx2.stream("POST", f"{server.server.address}/v1/completions", json=given, timeout=60) as answered:
        next(answered.iter_lines())
    _until(lambda: model.queued == 0)
    assert server.post("/v1/completions", prompt="b", seed=1).status_code == 200


def test_what_takes_too_long_is_given_up(
    serving: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serving([pictures(tmp_path / "a.niwaki")], limits={"seconds": 0.2})
    _, gate = _gate(monkeypatch)
    answered = server.post("/v1/run/sample")
    gate.set()
    assert (answered.status_code, answered.json()["error"]["code"]) == (504, "timeout")


def test_one_bad_sample_does_not_fail_the_others(
    serving: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from niwaki.serving import sampling

    place, real = pictures(tmp_path / "a.niwaki"), sampling.run_batch
    server = serving([place], batch=8)

    def failing(runner: Any, program: str, samples: Any, inputs: Any, **options: Any) -> Any:
        if (5, 2) in samples:
            raise ValueError("an engine's own words about /a/path")
        return real(runner, program, samples, inputs, **options)

    monkeypatch.setattr(sampling, "run_batch", failing)
    data = server.post("/v1/run/sample", seed=5, n=4).json()["data"]
    wanted = niwaki_runtime.load(place).sample(4, seed=5)
    for i in (0, 1, 3):
        np.testing.assert_array_equal(np.asarray(data[i], np.float32), wanted[i])
    assert data[2]["error"]["code"] == "defect"
    assert "/a/path" not in data[2]["error"]["message"]
    alone = server.post("/v1/run/sample", seed=5, start=2)
    assert alone.status_code == 500


def test_a_replaced_bundle_answers_without_a_request_lost(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    place = pictures(tmp_path / "a.niwaki")
    first = niwaki_runtime.load(place).sample(1, seed=0)
    second = niwaki_runtime.load(pictures(tmp_path / "b.niwaki", "new")).sample(1, seed=0)
    assert not np.array_equal(first, second)
    server, over, answers = serving([place], watch=0.05, batch=4), threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            answers.append(server.post("/v1/run/sample", seed=0))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(ask)
        _until(lambda: len(answers) > 20)
        shutil.rmtree(place)
        shutil.copytree(tmp_path / "b.niwaki", place)
        model = next(iter(server.server.service.models))
        _until(lambda: model.bundle.manifest.name == "insectsnew")
        count = len(answers)
        _until(lambda: len(answers) > count + 20)
        over.set()
    assert {one.status_code for one in answers} == {200}
    made = {np.asarray(one.json()["data"], np.float32).tobytes() for one in answers}
    assert made == {first.tobytes(), second.tobytes()}


def test_a_broken_bundle_does_not_take_the_place_of_a_good_one(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    place = pictures(tmp_path / "a.niwaki")
    server = serving([place], keys=[KEY])
    server.client.headers["Authorization"] = f"Bearer {KEY}"
    before = server.post("/v1/run/sample", seed=0).json()["data"]
    assert server.post("/v1/models/a/reload").status_code == 200
    (place / "g.onnx").write_bytes(b"no network")
    answered = server.post("/v1/models/a/reload")
    assert answered.status_code == 500
    assert "g.onnx is not what was written" in answered.json()["error"]["message"]
    assert server.post("/v1/run/sample", seed=0).json()["data"] == before
    assert "g.onnx" in server.client.get("/v1/models/a").json()["failure"]


def test_without_keys_nobody_reloads(serving: Callable[..., Any], tmp_path: Path) -> None:
    answered = serving([pictures(tmp_path / "a.niwaki")]).post("/v1/models/a/reload")
    assert (answered.status_code, answered.json()["error"]["code"]) == (403, "no_keys")


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    from niwaki.api.serve import server_of
    from niwaki_runtime.errors import NiwakiError

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(NiwakiError, match="cannot be listened to"):
            server_of([pictures(tmp_path / "a.niwaki")], port=taken.getsockname()[1])


def test_small_answers_are_sent_at_once(tmp_path: Path) -> None:
    """asyncio sets TCP_NODELAY only where a socket names its protocol; without it an answer waits 40 ms."""
    from niwaki.api.serve import server_of

    server = server_of([pictures(tmp_path / "a.niwaki")], port=0)
    assert server._listener._socket.proto == socket.IPPROTO_TCP
    server._listener.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_after_a_signal_running_requests_are_answered(tmp_path: Path, number: int) -> None:
    """And nothing that serving imports is torch."""
    place = denoised(tmp_path / "a.niwaki", steps=100)
    code = (
        "import sys\nfrom niwaki.cli.main import main\nimport atexit\n"
        "atexit.register(lambda: print('torch' in sys.modules, flush=True))\nmain()"
    )
    call = [sys.executable, "-c", code, "serve", str(place), "--port", "0", "--warm", "1", "--batch", "2"]
    process = subprocess.Popen(
        call, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stderr is not None
    address = next(line for line in process.stderr if "answers" in line).split()[0]
    reader = threading.Thread(target=process.stderr.read)
    reader.start()
    _until(lambda: httpx2.get(f"{address}/ready").status_code == 200, 60)
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(httpx2.post, f"{address}/v1/run/sample", json={"seed": k, "n": 8}, timeout=60)
            for k in range(4)
        ]
        _until(lambda: _asked_for(address) > 24)  # all four have come
        process.send_signal(number)
        answers = [one.result() for one in asked]
    assert [one.status_code for one in answers] == [200] * 4
    assert process.wait(60) == 0
    reader.join()
    assert process.stdout is not None
    assert process.stdout.read().split() == ["False"]
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{address}/health")
