"""Worker processes of this machine: each is asked by a line of JSON and answers by one.

They end with whoever started them, however that ended: their standard input is then closed.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from niwaki.workflow.executors.base import Call, WorkerLost
from niwaki.workflow.processes import end, last_words, start
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["LocalExecutor"]

_WAIT = 20
"""Seconds that a process may take to save its training when it is asked to end."""
_LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in _LIBRARIES}


class LocalExecutor:
    """So many processes, each with one thread for arithmetic; they start when they are first needed."""

    def __init__(self, width: int, environment: Mapping[str, str] | None = None) -> None:
        self.width = width
        self._environment = {**_ONE_THREAD, **(environment or {})}
        self._threads = ThreadPoolExecutor(width)  # each waits for one process
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: list[_Worker] = []
        self._lock, self._closed = threading.Lock(), False
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(scratch_directory())

    def submit(self, call: Call, words: str) -> Future[str]:
        return self._threads.submit(self._carried_out, f"{call.__module__}:{call.__qualname__}", words)

    def shutdown(self) -> None:
        with self._lock:
            self._closed = True
        end([worker.process for worker in self._all], _WAIT)  # the threads see that, and end
        self._threads.shutdown(cancel_futures=True)
        self._stack.close()

    def _carried_out(self, call: str, words: str) -> str:
        worker = self._taken()
        answer = worker.ask(call, words)
        self._idle.put(worker)
        return answer

    def _taken(self) -> _Worker:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            with self._lock:
                if self._closed:
                    raise WorkerLost("the workers were ended") from None
                worker = _Worker(self._folder / f"{len(self._all)}.txt", self._environment)
                self._all.append(worker)
            return worker


class _Worker:
    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        self.process = start(
            ["niwaki.workflow.executors.process"], log, environment=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, apart=True,
        )  # fmt: skip

    def ask(self, call: str, words: str) -> str:
        """Raises WorkerLost."""
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None
        assert answers is not None
        try:
            requests.write(json.dumps({"call": call, "words": words}) + "\n")
            requests.flush()
            answer = json.loads(answers.readline())
        except (OSError, ValueError):  # it is gone; half a line is no JSON
            end([self.process], 1.0, ask=False)
            status = self.process.returncode
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            raise WorkerLost(f"a worker process ended {how}: {last_words(self.log)}") from None
        if "lost" in answer:
            raise WorkerLost(answer["lost"])
        return str(answer["answer"])
